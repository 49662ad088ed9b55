"""Simulation of the mapped netlist with the bench of the RTL: values and cycles must be the same."""

from dataclasses import dataclass

import numpy as np

from chessrnn.hdl.memory import RAM_VERILOG, ROM_VERILOG
from chessrnn.model.files import scratch_folder
from chessrnn.model.memory_image import FINGERPRINT_LABEL
from chessrnn.model.weights import NetworkWeights
from chessrnn.sim.build import VERILOG_FILE, emit
from chessrnn.sim.manifest import replace_file
from chessrnn.sim.runner import Run, simulate
from chessrnn.sim.scenarios import Scenario, random_sequences
from chessrnn.sim.stalls import StallPattern
from chessrnn.sim.synthesis.cell_models import cell_models
from chessrnn.sim.synthesis.liberty import Liberty
from chessrnn.sim.synthesis.netlist import Instance, Netlist

LENGTHS = (4, 1, 3)
STALLS = 0.3


@dataclass(frozen=True)
class GateLevelResult:
    """Result of a simulation of the netlist.

    Attributes
    ----------
    steps : int
        Number of steps simulated, in the runs with and without stalls.
    beats : int
        Number of blocks of h compared.
    problems : list of str
        Differences from the reference, the predicted cycles or the RTL; empty when the check passes.
    """

    steps: int
    beats: int
    problems: list[str]


def netlist_verilog(netlist: Netlist, liberty: Liberty, fingerprint: str) -> str:
    """Verilog of the netlist together with models of its cells and of the memories' wrappers."""
    header = f"// mapped to {liberty.name}, {FINGERPRINT_LABEL} {fingerprint}\n\n"
    cells = [name for name in netlist.cell_counts() if name in liberty.cells]
    body = netlist.verilog(liberty, _memory)
    return header + "\n".join([cell_models(liberty, cells), body, ROM_VERILOG, RAM_VERILOG])


def check(
    netlist: Netlist, liberty: Liberty, weights: NetworkWeights, rng: np.random.Generator, simulator: str
) -> GateLevelResult:
    """Run the netlist and the RTL on the same sequences, with and without stalls.

    Raises
    ------
    MissingToolError
        The simulator, or what it needs to compile, is not installed.
    SimulationError
        The simulator is installed and fails.
    """
    config = weights.config
    scenario = Scenario(weights, random_sequences(config, rng, LENGTHS))
    stalls = [StallPattern("random", STALLS, seed=number) for number in (1, 2)]
    runs = [Run(scenario, name="no stalls"), Run(scenario, *stalls, name="random stalls")]
    with scratch_folder() as scratch:
        rtl, gates = scratch / "rtl", scratch / "gates"
        for folder in (rtl, gates):
            emit(weights, folder, "gate-level check", prefix="")
        text = netlist_verilog(netlist, liberty, config.fingerprint)
        replace_file(gates, VERILOG_FILE, text)
        expected, found = (simulate(folder, runs, simulator) for folder in (rtl, gates))
    problems = []
    for must, got in zip(expected, found, strict=True):
        problems += [f"RTL, {must.run.name}: {problem}" for problem in must.problems]
        problems += [f"netlist, {got.run.name}: {problem}" for problem in got.problems]
        if (must.h_beats, must.timeline) != (got.h_beats, got.timeline):
            problems.append(f"{got.run.name}: the netlist must send what the RTL sends, in the same cycles")
    beats = sum(len(result.h_beats) for result in found)
    return GateLevelResult(sum(run.scenario.num_steps for run in runs), beats, problems)


def _memory(instance: Instance) -> str:
    values = ", ".join(
        f'.{name}("{value}")' if isinstance(value, str) else f".{name}({value})"
        for name, value in instance.parameters.items()
    )
    return f"{instance.type} #({values})"
