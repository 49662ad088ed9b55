"""The whole device behind its serial line: emitted Verilog and ECP5 netlist under the host's own client."""

import re
from argparse import Namespace

import numpy as np
import pytest

from chessrnn.hdl.device.device import FPGA_MODULE
from chessrnn.model.link.client import DeviceClient
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_inputs, random_weights
from chessrnn.scripts import host
from chessrnn.scripts.fpga import NETLIST_DEFAULT
from chessrnn.sim.build import weights_digest
from chessrnn.sim.device_simulation import DEVICE_FILE, emit_device, simulated_device
from chessrnn.sim.fpga_build import NETLIST_FILE, emit_netlist

STEPS, FRAMES = 3, 20
# Icarus takes half a minute for a step of the netlist, and the second is the first that reads h of another.
NETLIST_STEPS = 2


@pytest.fixture(scope="module")
def weights():
    name, settings = NETLIST_DEFAULT
    config = preset(name).replace({"architecture.arithmetic": "multiplier", **settings})
    return random_weights(config, np.random.default_rng(0))


def converse(directory, source, weights, rng, frames, steps=STEPS):
    """Steps, then damaged frames, all checked; Icarus starts at once where Verilator would compile for a minute."""
    checker = host.Checker(weights)
    with simulated_device(directory, "icarus", source) as terminal, host.open_line(terminal.path, 115200) as line:
        client = DeviceClient(line, weights.config, terminal.timeouts)
        client.expect(weights_digest(weights))
        client.reset()
        for x in random_inputs(weights.config, rng, steps):
            checker.step(x, client.step(x))
        if frames:
            host.fuzz(client, weights.config, Namespace(seed=int(rng.integers(2**31)), fuzz=frames), checker)
        counters = client.counters()
    assert checker.wrong == 0
    assert checker.steps == counters.steps == steps + frames
    return counters


@pytest.mark.needs("icarus")
@pytest.mark.slow
def test_device_survives_damaged_frames(weights, tmp_path, rng):
    counters = converse(emit_device(weights, tmp_path / "device"), DEVICE_FILE, weights, rng, FRAMES)
    assert counters.refused > FRAMES // 2


@pytest.mark.needs("icarus")
@pytest.mark.slow
def test_device_answers_for_a_projected_network(tmp_path, rng):
    # Its steps have fewer beats of h than the cell has hidden blocks: the host link must count those that leave.
    name, settings = NETLIST_DEFAULT
    changes = {"network.hidden_size": 9, "network.projection_size": 3, "architecture.arithmetic": "multiplier"}
    projected = random_weights(preset(name).replace({**settings, **changes}), rng)
    assert projected.config.num_output_blocks < projected.config.num_hidden_blocks
    converse(emit_device(projected, tmp_path / "device"), DEVICE_FILE, projected, rng, 2)


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_netlist_of_ecp5_cells_is_the_same_device(weights, tmp_path, rng):
    directory = emit_device(weights, tmp_path / "device")
    cells = emit_netlist(directory, lambda text, passing=False: None)
    assert cells["MULT18X18D"] == 21 and cells["LUT4"] > 1000
    # The models have taken the place of every cell.
    modules = re.findall(r"^module (\w+)", (directory / NETLIST_FILE).read_text(encoding="utf-8"), re.MULTILINE)
    assert modules == [FPGA_MODULE, "netlist"]
    converse(directory, NETLIST_FILE, weights, rng, 0, NETLIST_STEPS)
