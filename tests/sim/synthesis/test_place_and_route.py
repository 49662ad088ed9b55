"""Placement and routing: files of the tools, RC trees of routes, wire loads, and a block through the real tools."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from chessrnn.model.errors import InvalidFileError
from chessrnn.scripts import place
from chessrnn.scripts.cli import run_command
from chessrnn.sim.placement import placer
from chessrnn.sim.placement.flat_netlist import FlatCell, FlatNetlist, FlatPort, Net, PlacementError, flatten
from chessrnn.sim.placement.lef import read_lef
from chessrnn.sim.placement.parasitics import extract, spef
from chessrnn.sim.placement.place_and_route import wire_load
from chessrnn.sim.placement.placer import Placement
from chessrnn.sim.placement.router import Wire, read_routes, write_def
from chessrnn.sim.synthesis.liberty import Liberty
from chessrnn.sim.synthesis.netlist import Netlist

LAYERS = "".join(
    f"""LAYER metal{number}
  TYPE ROUTING ;
  DIRECTION {"HORIZONTAL" if number % 2 else "VERTICAL"} ;
  PITCH 1 ;
  OFFSET 0.5 ;
  WIDTH 0.5 ;
  SPACING 0.4 ;
  RESISTANCE RPERSQ 0.1 ;
  CAPACITANCE CPERSQDIST 4e-05 ;
  EDGECAPACITANCE 9e-05 ;
END metal{number}
"""
    for number in range(1, 4)
)
CUTS = "".join(f"LAYER {name}\n  TYPE CUT ;\n  SPACING 0.4 ;\nEND {name}\n" for name in ("via1", "via2"))
VIAS = "".join(
    f"""VIA M{n + 1}_M{n} DEFAULT
  LAYER metal{n} ; RECT -0.25 -0.25 0.25 0.25 ;
  LAYER via{n} ; RECT -0.2 -0.2 0.2 0.2 ;
  LAYER metal{n + 1} ; RECT -0.25 -0.25 0.25 0.25 ;
END M{n + 1}_M{n}
"""
    for n in (1, 2)
)


def macro(name: str, pins: dict[str, str]) -> str:
    """A cell whose pins are squares on every second crossing of tracks in the middle of the row."""
    lines = [f"MACRO {name}", "  CLASS CORE ;", f"  SIZE {2 * len(pins) + 1} BY 10 ;", "  SITE core ;"]
    for number, (pin, direction) in enumerate(pins.items()):
        left = 2 * number + 1.3
        lines += [
            f"  PIN {pin}", f"    DIRECTION {direction.upper()} ;", "    PORT", "      LAYER metal1 ;",
            f"        RECT {left:.1f} 4.3 {left + 0.4:.1f} 4.7 ;", "    END", f"  END {pin}",
        ]  # fmt: skip
    for rail, low in (("vdd", 9.7), ("gnd", -0.3)):
        use = "POWER" if rail == "vdd" else "GROUND"
        lines += [
            f"  PIN {rail}", "    DIRECTION INOUT ;", f"    USE {use} ;", "    PORT", "      LAYER metal1 ;",
            f"        RECT 0 {low} {2 * len(pins) + 1} {low + 0.6:.1f} ;", "    END", f"  END {rail}",
        ]  # fmt: skip
    return "\n".join([*lines, f"END {name}", ""])


def lef_text(cells: dict[str, dict[str, str]]) -> str:
    """A LEF file of three layers and some cells."""
    return "\n".join(
        [
            'VERSION 5.4 ;\nNAMESCASESENSITIVE ON ;\nBUSBITCHARS "[]" ;\nDIVIDERCHAR "/" ;',
            "UNITS\n  DATABASE MICRONS 1000 ;\nEND UNITS\nMANUFACTURINGGRID 0.05 ;",
            LAYERS, CUTS, VIAS,
            "SITE core\n  CLASS CORE ;\n  SIZE 1.000 BY 10.000 ;\nEND core\n",
            *(macro(name, pins) for name, pins in cells.items()),
            "END LIBRARY\n",
        ]
    )  # fmt: skip


@pytest.fixture
def lef_file(tmp_path, library_file):
    """Layouts of every cell of the test's library."""
    cells = Liberty(library_file).cells.values()
    path = tmp_path / "linear.lef"
    text = lef_text(
        {c.name: {p.name: p.direction for p in c.pins.values() if p.direction != "internal"} for c in cells}
    )
    path.write_text(text, encoding="ascii")
    return path


def pair() -> tuple[FlatNetlist, Placement]:
    """An inverter that drives another one beside it, from one port to another."""
    cells = [FlatCell("a", "INV", {"A": "x", "Y": "n"}), FlatCell("b", "INV", {"A": "n", "Y": "y"})]
    ports = [FlatPort("x", "input", "x"), FlatPort("y", "output", "y")]
    nets = {
        "x": Net("x", [(0, "A")], [0]),
        "n": Net("n", [(0, "Y"), (1, "A")]),
        "y": Net("y", [(1, "Y")], [1]),
    }
    flat = FlatNetlist("pair", cells, ports, nets, {"INV": {"Y"}})
    return flat, Placement(10.0, 20.0, 2, [0.0, 0.0], [0.0, 10.0], [(-7.5, 4.5, True), (16.5, 5.5, True)], 10.0)


@pytest.fixture
def inverters(tmp_path):
    """Layout of an inverter: A at (1.5, 4.5) and Y at (3.5, 4.5)."""
    path = tmp_path / "inverter.lef"
    path.write_text(lef_text({"INV": {"A": "input", "Y": "output"}}), encoding="ascii")
    return read_lef(path)


def test_lef_gives_layers_vias_and_pins(inverters):
    assert [layer.name for layer in inverters.layers] == ["metal1", "metal2", "metal3"]
    layer = inverters.layer("metal2")
    # 0.5 um of 0.04 fF per square um, and two edges of 0.09 fF per um; two squares of 0.1 ohm per um.
    assert not layer.horizontal and layer.capacitance == pytest.approx(0.2e-15) and layer.resistance == 0.2
    assert inverters.vias == {"M2_M1": ("metal1", "metal2"), "M3_M2": ("metal2", "metal3")}
    assert (inverters.site, inverters.row) == (1.0, 10.0)
    found = inverters.macros["INV"]
    assert (found.width, found.height) == (5.0, 10.0) and set(found.pins) == {"A", "Y"}


@pytest.mark.parametrize(
    ("pattern", "new", "message"),
    [
        (r"SIZE 1\.000 BY", "SIZE 0 BY", "must have a site and pitches of layers above 0"),
        ("PITCH 1", "PITCH 0", "must have a site and pitches of layers above 0"),
        ("RECT 1[^;]*;", "RECT 1 2 3 ;", "must give four numbers for every RECT of INV"),
        ("WIDTH 0.5", "", "must give WIDTH of the layer metal1"),
    ],
)
def test_a_lef_file_that_lacks_something_is_refused(inverters, tmp_path, pattern, new, message):
    text, count = re.subn(pattern, new, (tmp_path / "inverter.lef").read_text())
    changed = tmp_path / "changed.lef"
    changed.write_text(text)
    assert count
    with pytest.raises(InvalidFileError, match=message):
        read_lef(changed)


def test_a_layout_must_have_every_pin(inverters):
    flat, _ = pair()
    assert len(placer.macros_of(flat, inverters)) == 2
    inverters.macros["INV"].pins["Y"] = []
    with pytest.raises(PlacementError, match="lef must give a shape of every pin, but lacks those of INV.Y"):
        placer.macros_of(flat, inverters)


def test_masks_of_shapes_are_passed_over(inverters, tmp_path):
    changed = tmp_path / "changed.lef"
    changed.write_text((tmp_path / "inverter.lef").read_text().replace("RECT ", "RECT MASK 2 "))
    assert read_lef(changed) == inverters


def test_routes_are_read():
    text = """NETS 2 ;
- n
  ( a Y )
  ( b A )

+ ROUTED metal1 ( 3500 4500 ) M2_M1
  NEW metal2 ( 3500 4500 ) ( * 15500 ) M3_M2
  NEW metal3 ( 3500 15500 ) ( 1500 * ) ;
- unrouted
  ( b Y )
;
END NETS
"""
    assert read_routes(text) == {
        "n": [
            Wire("metal1", 3.5, 4.5, 3.5, 4.5, "M2_M1"),
            Wire("metal2", 3.5, 4.5, 3.5, 15.5),
            Wire("metal2", 3.5, 15.5, 3.5, 15.5, "M3_M2"),
            Wire("metal3", 3.5, 15.5, 1.5, 15.5),
        ]
    }


# From Y of the lower inverter up and left to A of the upper one, which is upside down: 4.5 from its top.
ROUTE = [
    Wire("metal1", 3.5, 4.5, 3.5, 4.5, "M2_M1"),
    # The router may move a via by a fraction of a pitch.
    Wire("metal2", 3.5, 4.6, 3.5, 15.5),
    Wire("metal1", 3.5, 15.5, 3.5, 15.5, "M2_M1"),
    Wire("metal1", 3.5, 15.5, 1.5, 15.5),
]


def test_tree_of_a_route(inverters):
    flat, placement = pair()
    tree = extract(flat, placement, inverters, {"n": ROUTE})["n"]
    assert tree.length == pytest.approx(13.0) and tree.capacitance == pytest.approx(13 * 0.2e-15)
    assert sum(ohm for *_, ohm in tree.ohm) == pytest.approx(13 * 0.2, abs=0.01)
    assert tree.pins == [("metal1", 3, 4), ("metal1", 1, 15)]
    text = spef(flat, {"n": tree}, factor=2.0)
    assert "*D_NET n 5.2000" in text and "*I a:Y O" in text and "*I b:A I" in text


def test_wires_that_overlap_count_once(inverters):
    flat, placement = pair()
    tree = extract(flat, placement, inverters, {"n": [*ROUTE, Wire("metal2", 3.5, 6.5, 3.5, 9.5)]})["n"]
    assert tree.length == pytest.approx(13.0)


@pytest.mark.parametrize(
    ("wires", "message"),
    [
        ({"n": ROUTE[1:]}, "must reach each of its pins"),
        ({"n": [*ROUTE[:2], *ROUTE[3:]]}, "must connect all of its pins"),
        ({"n": ROUTE, "x": [Wire("metal2", 3.5, 8.5, 3.5, 9.5)]}, "nets n and x must not meet on metal2"),
    ],
)
def test_useless_routes_are_rejected(inverters, wires, message):
    flat, placement = pair()
    with pytest.raises(PlacementError, match=message):
        extract(flat, placement, inverters, wires)


def test_def_turns_every_second_row_upside_down(inverters):
    text = write_def(*pair(), inverters, 3)
    assert "- a INV + PLACED ( 0 0 ) N ;\n- b INV + PLACED ( 0 10000 ) FS ;" in text
    assert "- n\n  ( a Y )\n  ( b A )\n;" in text and "( PIN x )" in text


def port(direction: str, *bits) -> dict:
    return {"direction": direction, "bits": list(bits)}


def test_hierarchy_is_flattened(library_file):
    cell = {"type": "NAND2_X1", "port_directions": {"A": "input", "B": "input", "Y": "output"}}
    child = {
        "ports": {"p": port("input", 2), "q": port("input", 3), "r": port("output", 4)},
        "netnames": {"p": {"bits": [2]}, "q": {"bits": [3]}, "r": {"bits": [4]}},
        "cells": {"gate": cell | {"connections": {"A": [2], "B": [3], "Y": [4]}}},
    }
    top = {
        "ports": {"x": port("input", 2), "y": port("output", 3, "1")},
        "netnames": {"x": {"bits": [2]}, "middle": {"bits": [4]}, "y": {"bits": [3, "1"]}},
        "cells": {
            "one": {"type": "child", "connections": {"p": [2], "q": ["1"], "r": [4]}},
            "two": {"type": "child", "connections": {"p": [4], "q": [4], "r": [3]}},
        },
    }
    flat = flatten(Netlist({"top": top, "child": child}, "top"), Liberty(library_file))
    assert [cell.name for cell in flat.cells] == ["one__gate", "two__gate"]
    assert flat.cells[0].pins == {"A": "x", "B": "1'b1", "Y": "middle"}
    assert flat.cells[1].pins == {"A": "middle", "B": "middle", "Y": "y_0_"}
    assert [(port.name, port.net) for port in flat.ports] == [("x", "x"), ("y_0_", "y_0_"), ("y_1_", "1'b1")]
    assert {net.name: net.ends for net in flat.routed()} == {"x": 2, "middle": 3, "y_0_": 2}
    assert "assign y_1_ = 1'b1;" in flat.verilog()


def with_wire_load(text: str) -> str:
    """The library with a default wire load."""
    model = (
        'wire_load ("wires") { resistance : 0.0; capacitance : 0.0002; area : 0; slope : 3; '
        'fanout_length (1, 2.0); fanout_length (3, 5.0); }\n default_wire_load : "wires";'
    )
    return text.replace("delay_model", f"{model} delay_model", 1)


def test_wire_load_and_other_lengths(tmp_path, texts):
    path = tmp_path / "wires.lib"
    path.write_text(with_wire_load(texts["library"]()), encoding="ascii")
    load = wire_load(Liberty(path))
    assert [load.farad(sinks) for sinks in (1, 2, 3, 5)] == pytest.approx([0.4e-15, 0.7e-15, 1e-15, 2.2e-15])
    other = load.of_lengths([(1, 10.0), (2, 20.0), (4.5, 30.0)])
    path.write_text(load.replaced(with_wire_load(texts["library"]()), other), encoding="ascii")
    again = wire_load(Liberty(path))
    assert again.lengths == pytest.approx({1: 10.0, 2: 20.0, 3: 24.0, 4: 28.0, 5: 30.0})
    assert again.slope == pytest.approx(20 / 3.5, abs=1e-3) and again.unit == load.unit
    path.write_text(texts["library"](), encoding="ascii")
    assert wire_load(Liberty(path)) is None


def run(argv: list[str]) -> int:
    return run_command(lambda: place.main(argv), "place")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--liberty", "{lib}"], "--lef must be given with the other file of the library"),
        (["--lef", "{lef}"], "--liberty must be given with the other file of the library"),
        (["--liberty", "{lib}", "--lef", "{lib}"], "must be a LEF file"),
        (["--liberty", "{lib}", "--lef", "{lef}", "--layers", "2"], "--layers must be from 3 to the 3 of the"),
        (["--liberty", "{lib}", "--lef", "{lef}", "--utilisation", "0"], "--utilisation must be more than 0"),
        (
            ["--liberty", "{lib}", "--lef", "{lef}"],
            "qrouter must be installed to route (Debian: apt-get install qrouter)",
        ),
    ],
)
def test_wrong_input_is_one_line(tmp_path, library_file, lef_file, capsys, monkeypatch, options, message):
    monkeypatch.setattr(placer, "require_available", lambda: None)
    options = [option.format(lib=library_file, lef=lef_file) for option in options]
    assert run([*options, "--output", str(tmp_path / "placed")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "placed").exists()


def test_missing_placer_is_named(monkeypatch):
    monkeypatch.setattr(placer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(placer.MissingToolError, match="coloquinte must be installed to place"):
        placer.require_available()


@pytest.mark.slow
@pytest.mark.needs("opensta", "qrouter")
def test_block_is_placed_and_routed(tmp_path, library_file, lef_file, texts, capsys):
    other = tmp_path / "wires.lib"
    other.write_text(with_wire_load(texts["library"]()), encoding="ascii")
    argv = ["--liberty", str(library_file), "--lef", str(lef_file), "--layers", "3", "--utilisation", "0.5"]
    argv += ["--unit", "accumulator", "--compare", str(other), "--output", str(tmp_path / "out"), "--json"]
    assert run(argv) == 0
    captured = capsys.readouterr()
    (values,) = json.loads(captured.out)
    (block,) = values["blocks"]
    assert block["failed_nets"] == 0 and block["utilisation"] == pytest.approx(0.5, abs=0.03)
    wires, timing = block["wires"], block["timing"]
    # The layers sum to the wires of all nets; pieces that overlap make them a little longer.
    assert wires["length_um"] == pytest.approx(sum(wires["layers_um"].values()), rel=0.03)
    # 0.2 fF per um on every layer.
    assert wires["wire_pf"] == pytest.approx(wires["length_um"] * 0.2e-3, rel=1e-3)
    assert timing["without_wires"]["fo4"] < timing["routed_wires"]["fo4"] < timing["crowded_wires"]["fo4"]
    assert timing["averaged_wires"]["fo4"] == pytest.approx(timing["routed_wires"]["fo4"], rel=0.25)
    compared = values["compared"]
    assert compared["without_wires"]["fo4"] < compared["assumed_wires"]["fo4"] < compared["carried_wires"]["fo4"]
    folder = tmp_path / "out" / values["module"]
    drawing = ElementTree.parse(folder / "placement.svg")
    cells = "".join(path.get("d") for path in drawing.findall(".//{*}path") if path.get("fill") != "none")
    assert len(re.findall("z", cells)) == block["cells"]
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == values
    # What Coloquinte prints is in its log.
    assert "Detailed placement done" in (folder / "50" / "place.log").read_text(encoding="utf-8")
