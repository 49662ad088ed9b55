"""Longest path of a flat netlist without wires, with the library's wire load, or with RC trees of its nets."""

import re
from dataclasses import dataclass
from pathlib import Path

from chessrnn.sim.placement.flat_netlist import FlatNetlist
from chessrnn.sim.plain_path import plain_path
from chessrnn.sim.synthesis import opensta
from chessrnn.sim.synthesis.liberty import Liberty, input_capacitance
from chessrnn.sim.synthesis.yosys import ToolError

_SUMMARY = re.compile(r"^(\S+) \([^)]*\) +(\S+) \([^)]*\) +(-?[\d.]+)$", re.MULTILINE)


@dataclass(frozen=True)
class LongestPath:
    """Seconds from a clock edge or an input to the setup at the next edge or an output, with both ends."""

    seconds: float
    start: str
    end: str


def longest_path(
    flat: FlatNetlist, liberty: Liberty, plain: Path, period: float, folder: Path, name: str, spef: str | None = None
) -> LongestPath:
    """Time a flat netlist; the clock reaches every flip-flop at once.

    Parameters
    ----------
    plain : Path
        The library as a plain file; its default wire load, if it has one, is on every net without an RC tree.
    period : float
        Clock period of the analysis in seconds; the length of a path does not depend on it.
    name : str
        Name of the script and its log in ``folder``.
    spef : str, optional
        RC trees of the nets.

    Raises
    ------
    MissingToolError
        OpenSTA is not installed.
    ToolError
        OpenSTA reported an error or no path.
    """
    driver = liberty.buffers[0]
    verilog, trees = folder / "flat.v", folder / f"{name}.spef"
    verilog.write_text(flat.verilog(), encoding="utf-8")
    if spef is not None:
        trees.write_text(spef, encoding="utf-8")
    text = opensta.run(
        [
            f"read_liberty {plain}", opensta.UNITS, f"read_verilog {verilog}", f"link_design {flat.top}",
            f"set clock_period {period * 1e9:.6f}", "set io_fraction 0", f"read_sdc {plain_path(opensta.SDC)}",
            f"set_driving_cell -lib_cell {driver.name} -pin {driver.outputs[0]} [all_inputs]",
            f"set_load {4e12 * input_capacitance(liberty.inverter):.6f} [all_outputs]",
            *([f"read_spef {trees}"] if spef is not None else []),
            "report_checks -path_delay max -format summary -digits 5",
            "report_checks -path_delay max -format full -fields {capacitance slew} -digits 4",
        ],
        folder,
        name,
    )  # fmt: skip
    found = _SUMMARY.search(text)
    if found is None:
        raise ToolError(f"OpenSTA must report the longest path of {flat.top} (log: {folder / name}.log)")
    return LongestPath(period - float(found[3]) * 1e-9, found[1], found[2])
