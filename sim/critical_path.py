"""The longest path of a placed and routed design, block by block."""

import re

from chessrnn.hdl.device.device import FPGA_MODULE

# Instance names in front of a cell's own name, as Yosys joins them; names of its own begin with ``$``.
DEVICE = "device"
OTHER = "board"
NANOSECONDS_PLACES = 2


def critical_path(report: dict, domain: str) -> dict:
    """The longest path between two registers of a clock domain, divided among the blocks that it passes through.

    Parameters
    ----------
    report : dict
        Report of nextpnr.
    domain : str
        Name of the clock, a key of ``report["fmax"]``.

    Returns
    -------
    dict
        ``ns``, the length of the path, of which ``routing_ns`` are wires; ``from`` and ``to``, the cells at its ends;
        and ``blocks``, a list of the blocks in the order of the path: ``block``, a path of instance names below the
        device (``"core.cells.lane_0"``), and ``ns``.  A wire counts for the block that drives it.  Empty if nextpnr
        reports no such path.
    """
    found = [
        path["path"]
        for path in report.get("critical_paths", [])
        if {path["from"].split(" ", 1)[-1], path["to"].split(" ", 1)[-1]} == {domain}
    ]
    if not found:
        return {}
    path = max(found, key=lambda segments: sum(segment["delay"] for segment in segments))
    blocks: list[dict] = []
    for segment in path:
        name = block_of(segment["from"]["cell"])
        if not blocks or blocks[-1]["block"] != name:
            blocks.append({"block": name, "ns": 0.0})
        blocks[-1]["ns"] += segment["delay"]
    for block in blocks:
        block["ns"] = round(block["ns"], NANOSECONDS_PLACES)
    return {
        "ns": round(sum(segment["delay"] for segment in path), NANOSECONDS_PLACES),
        "routing_ns": round(sum(s["delay"] for s in path if s["type"] == "routing"), NANOSECONDS_PLACES),
        "from": path[0]["from"]["cell"],
        "to": path[-1]["to"]["cell"],
        "blocks": blocks,
    }


def block_of(cell: str) -> str:
    """The instance that a cell belongs to, as a path below the device; ``"board"`` for cells around it.

    Yosys names a cell after a wire beside it, so the name of a cell at the border of two blocks may be either's.
    """
    names = re.split(r"[.]", cell.split("$", 1)[0])
    if names[0] != DEVICE:
        return OTHER
    return ".".join(names[1:-1]) or FPGA_MODULE
