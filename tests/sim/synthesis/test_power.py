"""Energy from real activity: the dump, the energy of cells, a design whose energy can be counted by hand."""

import pytest
import torch

from chessrnn.hdl.verilog import TOP_MODULE, generate
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule
from chessrnn.model.weights import random_inputs, random_weights
from chessrnn.scripts.showcases.energy import energy_of
from chessrnn.sim.synthesis import job, opensta
from chessrnn.sim.synthesis.flow import synthesize
from chessrnn.sim.synthesis.liberty import Liberty
from chessrnn.sim.synthesis.library import load_libraries
from chessrnn.sim.synthesis.netlist import Instance, Module
from chessrnn.sim.synthesis.power import STEPS, CellEnergy, Window, energy_of_module, measure, steps_of
from chessrnn.sim.synthesis.waveforms import Waveforms, toggles

DUMP = """$timescale 1ns $end
$scope module top $end
$var wire 1 ! clk $end
$var wire 3 " data [2:0] $end
$scope module \\inner $end
$var reg 1 # \\odd.name  $end
$upscope $end
$upscope $end
$enddefinitions $end
#0
0!
bxxx "
0#
#1
1!
b1 "
#2
0!
b10 "
#3
1!
b101 "
1#
#4
0!
#5
1!
b0 "
0#
#6
0!
"""


def test_waveforms_hold_the_last_value_of_a_cycle(tmp_path):
    path = tmp_path / "x.vcd"
    path.write_text(DUMP, encoding="ascii")
    waves = Waveforms(path)
    # Cycle 0 is before the first edge; 1 then ends with 2 on data, after a glitch that is not seen.
    assert waves.cycles == 3
    values = [sum(waves.bit("top", "data", i) >> cycle & 1 and 1 << i for i in range(3)) for cycle in range(4)]
    assert values == [0, 2, 5, 0]
    assert waves.bit("top.inner", "odd.name", 0) == 0b0100
    assert waves.bit("top", "data", 3) is None and waves.bit("top", "nothing", 0) is None


def test_toggles():
    wave = 0b0110100
    assert [toggles(wave, 0, 6), toggles(wave, 2, 6), toggles(wave, 2, 3), toggles(wave, 5, 5)] == [4, 3, 1, 0]


def test_fewer_steps_are_simulated_where_they_are_long():
    # Steps of 96, of 1,024 and of 148 cycles.
    assert [steps_of(preset(name)) for name in ("char128", "lm512", "lm512_quarter")] == [STEPS, 2, 3]


def test_energy_of_cells_is_that_of_the_tables(library_file):
    liberty = Liberty(library_file)
    energies = CellEnergy(liberty)
    # 0.001 in units of 1 pF · 1 V²: of a rise and of a fall.
    assert energies.per_change["NAND2_X1"] == pytest.approx(1e-15)
    assert energies.per_cycle["DFF_X1"] == pytest.approx(2e-15)
    assert energies.per_change["DFF_X1"] == pytest.approx(1e-15)
    assert (liberty.voltage, liberty.leakage_unit) == (1.0, 1e-9)


def test_gated_clock_costs_only_the_pulses_that_pass(library_file):
    liberty = Liberty(library_file)
    pins = {"E": [2], "CK": [3], "GCK": [4]}
    gate = Instance("gate", "CKG_X1", pins, {}, {"E": "input", "CK": "input", "GCK": "output"})
    register = Instance(
        "q", "DFF_X1", {"D": [5], "CK": [4], "Q": [6]}, {}, {"D": "input", "CK": "input", "Q": "output"}
    )
    free = Instance("p", "DFF_X1", {"D": [5], "CK": [3], "Q": [7]}, {}, {"D": "input", "CK": "input", "Q": "output"})
    module = Module("m", {}, [gate, register, free], {})
    # Enabled in three of the eight cycles of the window, cycles 1 to 8; nothing else moves.
    found = energy_of_module(module, {2: 0b0_0110_0100_1}, Window(1, 9, 1), CellEnergy(liberty), {})
    cycle, pin, change = 2e-15, 2e-15, 1e-15
    # The gate and the free register in every cycle, the gated register and both edges of the gate's output in three.
    assert found.clock == pytest.approx((8 + 8 + 3) * (cycle + pin) + 2 * 3 * change)


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_power_of_a_design(smallest, library_file, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(opensta, "available", lambda: False)
    library = load_libraries([library_file])[0]
    result = synthesize(generate(smallest), TOP_MODULE, library, tmp_path)
    weights = random_weights(smallest, rng)
    x = random_inputs(smallest, rng, STEPS)
    power = measure(result, weights, x, "noise", 600.0)
    assert "100.0 % of the register and input bits" in power["activity"]
    assert power["steps"] == STEPS - 1
    assert sum(row["mw"] for row in power["rows"]) == pytest.approx(power["total_mw"])
    # Every flip-flop pays its clock in every cycle, and cannot pay less.
    flip_flops = result.areas[TOP_MODULE].flip_flops
    pin = library.liberty.flip_flop.pins["CK"].capacitance
    clock = flip_flops * power["cycles"] / power["steps"] * (2e-15 + pin)
    logic = sum(row["pj_per_step"] for row in power["rows"] if not row["part"].startswith("memory"))
    assert clock < logic * 1e-12 < 5 * clock
    # Speech at the clock that just keeps up: a second of it takes a second, and its leakage counts.
    monkeypatch.setattr(job, "run", lambda *_: ({}, result))
    features = torch.from_numpy(rng.uniform(0, 1, (2 * STEPS, 3, 2)))
    energy = energy_of(weights, features, library, tmp_path, 31.25)
    assert energy["clock_mhz"] == Schedule(smallest).initiation_interval * 31.25 / 1e6
    assert energy["uj_per_second"] == pytest.approx(energy["nj_per_step"] * 31.25 / 1000)
    assert energy["nj_per_step"] > power["nj_per_step"]
    # What is left without leakage is the work, whatever the clock; it differs by the data.
    work = energy["uj_per_second"] - energy["leakage_uj_per_second"]
    seconds = power["nj_per_step"] / power["total_mw"] / 1e6
    assert 0.5 < work / 31.25 * 1e3 / (power["nj_per_step"] - power["leakage_mw"] * 1e6 * seconds) < 2
    # Energy is per step: at half the clock only leakage takes longer.
    slow = measure(result, weights, x, "noise", 300.0)
    assert slow["total_mw"] < power["total_mw"] < 2 * slow["total_mw"]
    still = measure(result, weights, x * 0, "zeros", 600.0)
    assert still["nj_per_step"] < power["nj_per_step"]
