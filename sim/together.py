"""Simulation of several designs in one process, since starting the tools takes longer than simulating a small one."""

from collections.abc import Sequence

from chessrnn.hdl.verilog import generate_together, ports, top_module
from chessrnn.model.config import Config
from chessrnn.model.files import scratch_folder
from chessrnn.model.memory_image import initialised_memories, mem_text, memory_words
from chessrnn.sim.build import VERILOG_FILE, mem_file
from chessrnn.sim.manifest import write_files
from chessrnn.sim.runner import Run, RunResult, judge, run_bench

TOP = "together"


def simulate_together(designs: Sequence[Sequence[Run]]) -> list[list[RunResult]]:
    """Simulate the runs of several designs with Icarus, in which a design at rest takes no time.

    Parameters
    ----------
    designs : sequence of sequence of Run
        For each design one or more runs with the same configuration and weights.

    Returns
    -------
    list of list of RunResult
        The results of each design's runs, as :func:`chessrnn.sim.runner.simulate` returns them for one design.

    Raises
    ------
    MissingToolError
        Icarus is not installed.
    SimulationError
        It fails, for whichever design.
    """
    configs = {f"d{number}": runs[0].scenario.config for number, runs in enumerate(designs)}
    texts = {VERILOG_FILE: "\n".join([*generate_together(configs), _top(configs)])}
    for (prefix, config), runs in zip(configs.items(), designs, strict=True):
        words = memory_words(runs[0].scenario.weights)
        for spec in initialised_memories(config):
            texts[mem_file(prefix, spec.name)] = mem_text(spec, words[spec.name], config.fingerprint)
    with scratch_folder() as folder:
        write_files(folder, texts)
        parts = [
            ({"prefix": prefix, "ports": [port["name"] for port in ports(config)]}, runs)
            for (prefix, config), runs in zip(configs.items(), designs, strict=True)
        ]
        results = run_bench(folder.resolve(), parts, "icarus", TOP)
    return [
        [judge(run, raw) for run, raw in zip(runs, records, strict=True)]
        for runs, records in zip(designs, results, strict=True)
    ]


def _top(configs: dict[str, Config]) -> str:
    """Verilog of a module that contains every design, with a register or wire for each port."""
    lines = [f"module {TOP};"]
    for prefix, config in configs.items():
        connections = []
        for port in ports(config):
            kind, name = "reg" if port["direction"] == "input" else "wire", f"{prefix}_{port['name']}"
            width = f"[{port['width'] - 1}:0] " if port["width"] > 1 else ""
            lines.append(f"  {kind} {width}{name};")
            connections.append(f".{port['name']}({name})")
        lines.append(f"  {top_module(prefix)} {prefix} ({', '.join(connections)});")
    return "\n".join([*lines, "endmodule", ""])
