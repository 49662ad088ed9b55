"""The longest path of nextpnr's report, block by block."""

from chessrnn.scripts.fpga import path_text
from chessrnn.sim.critical_path import block_of, critical_path


def segment(kind, delay, start, end):
    return {"type": kind, "delay": delay, "from": {"cell": start}, "to": {"cell": end}}


def report(*paths):
    return {"critical_paths": [{"from": start, "to": end, "path": path} for start, end, path in paths]}


TAG, SUM, PARKED = "device.core.matvec.tag_TRELLIS_FF_Q", "device.core.drain.slot_LUT4_Z", "device.core.drain.slot_Q"
CLOCK = "posedge $glbnet$clk"
LONGEST = [
    segment("clk-to-q", 0.525, TAG, TAG),
    segment("routing", 2.85, TAG, SUM),
    segment("logic", 0.236, SUM, SUM),
    segment("routing", 1.2, SUM, PARKED),
    segment("setup", 0.0, PARKED, PARKED),
]


def test_the_longest_path_of_the_clock_by_block():
    shorter, other = [segment("routing", 2.0, SUM, PARKED)], [segment("routing", 9.0, TAG, PARKED)]
    found = critical_path(
        report((CLOCK, CLOCK, shorter), (CLOCK, CLOCK, LONGEST), ("<async>", CLOCK, other)), "$glbnet$clk"
    )
    assert found == {
        "ns": 4.81,
        "routing_ns": 4.05,
        "from": TAG,
        "to": PARKED,
        "blocks": [{"block": "core.matvec", "ns": 3.38}, {"block": "core.drain", "ns": 1.44}],
    }
    assert path_text(found) == "4.81 ns, 4.05 of them wires: core.matvec 3.38, core.drain 1.44"


def test_a_report_without_the_clock():
    assert critical_path(report(("<async>", CLOCK, LONGEST)), "$glbnet$clk") == {}
    assert critical_path({}, "clk") == {}
    assert path_text({}) == "not reported"


def test_blocks_of_cells():
    assert block_of("device.core.cells.lane_0.h_LUT4_Z") == "core.cells.lane_0"
    assert block_of("device.busy_LUT4_Z") == "chessrnn_fpga"
    assert block_of("device.host_link.$abc$1234.x") == "host_link"
    assert block_of("count_TRELLIS_FF_Q") == block_of("$abc$12.y") == "board"
