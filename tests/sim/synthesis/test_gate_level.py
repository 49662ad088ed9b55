"""The mapped netlist computes what the RTL and the reference compute."""

import pytest

from chessrnn.hdl.verilog import TOP_MODULE, generate
from chessrnn.model.weights import random_weights
from chessrnn.sim.synthesis import gate_level, opensta
from chessrnn.sim.synthesis.flow import synthesize
from chessrnn.sim.synthesis.library import load_libraries


@pytest.mark.slow
@pytest.mark.needs("icarus")
@pytest.mark.parametrize("clock_gates", [False, True])
def test_netlist_equals_rtl_and_reference(smallest, library_file, tmp_path, monkeypatch, rng, clock_gates):
    # The longest path does not matter here.
    monkeypatch.setattr(opensta, "available", lambda: False)
    library = load_libraries([library_file])[0]
    netlist = synthesize(generate(smallest), TOP_MODULE, library, tmp_path, clock_gates=clock_gates).netlist
    assert (netlist.cell_counts()["CKG_X1"] > 0) == clock_gates
    # The cell of two outputs is among what is simulated.
    full_adder, _, _ = library.liberty.full_adder
    assert netlist.cell_counts()[full_adder.name] > 0
    weights = random_weights(smallest, rng)
    result = gate_level.check(netlist, library.liberty, weights, rng, "icarus")
    assert result.problems == []
    assert result.beats == result.steps * smallest.num_output_blocks

    # A swapped gate does not go unnoticed.
    module = next(m for name, m in netlist.modules.items() if name.startswith("cell_lane"))
    wrong = next(instance for instance in module.instances if instance.type == "XOR2_X1")
    wrong.type = "XNOR2_X1"
    assert gate_level.check(netlist, library.liberty, weights, rng, "icarus").problems
