"""Place and route a synthesized block, and compare its longest path with and without the wires."""

import math
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chessrnn.sim.placement import placer, router
from chessrnn.sim.placement.flat_netlist import FlatNetlist, Net, PlacementError, flatten
from chessrnn.sim.placement.lef import Lef
from chessrnn.sim.placement.parasitics import Tree, extract, spef
from chessrnn.sim.placement.placer import Placement
from chessrnn.sim.placement.router import Routing
from chessrnn.sim.placement.wire_timing import longest_path
from chessrnn.sim.synthesis.flow import Synthesis
from chessrnn.sim.synthesis.liberty import Liberty, input_capacitance, parse
from chessrnn.sim.synthesis.netlist import clock_pins
from chessrnn.sim.synthesis.opensta import without_wire_load

# Capacitance of a wire between neighbours, as a multiple of that of a wire alone, which is what a LEF holds.
CROWDED = 2.0
QUANTILES = (10, 50, 90, 99)
# Least number of sinks of the nets that are counted together.
CLASSES = (1, 2, 3, 4, 5, 9)


@dataclass(frozen=True)
class Routed:
    """A placed and routed block: what was tried, the layout, and its figures as a JSON object."""

    flat: FlatNetlist
    placement: Placement
    routing: Routing
    values: dict


def place_and_route(
    result: Synthesis,
    fo4: float,
    lef: Lef,
    lef_path: Path,
    utilisation: float,
    layers: int,
    folder: Path,
    progress: Callable[[str], None],
) -> Routed:
    """Place and route a synthesized block, and time it with its wires.

    Parameters
    ----------
    fo4 : float
        Fan-out-of-four delay of the library in seconds.
    utilisation : float
        Fraction of the rows that cells fill.
    layers : int
        Number of metal layers for signals, from the lowest.
    """
    assert result.plain is not None
    flat = flatten(result.netlist, result.liberty)
    if not flat.cells:
        raise PlacementError(f"unit must have cells to place, but {flat.top} has none")
    progress(f"{flat.top}: placing {len(flat.cells):,} cells at {100 * utilisation:.0f} %")
    began = time.perf_counter()
    placement = placer.place(flat, lef, utilisation, folder / "place.log")
    placed = time.perf_counter()
    progress(f"{flat.top}: routing {len(flat.routed()):,} nets on {layers} layers")
    routing = router.route(flat, placement, lef, lef_path, layers, folder)
    routed = time.perf_counter()
    macros = placer.macros_of(flat, lef)
    area = sum(macro.width for macro in macros) * lef.row
    values = {
        "cells": len(flat.cells),
        "cell_area_um2": round(area, 1),
        "rows": placement.rows,
        "width_um": round(placement.width, 2),
        "height_um": round(placement.height, 2),
        "utilisation": round(area / (placement.width * placement.height), 4),
        "layers": layers,
        "nets": len(flat.routed()),
        "half_perimeter_um": round(placement.half_perimeter(flat), 1),
        "failed_nets": len(routing.failed),
        "placing_seconds": round(placed - began, 1),
        "routing_seconds": round(routed - placed, 1),
    }
    if not routing.failed:
        trees = extract(flat, placement, lef, routing.wires)
        values["wires"] = wire_values(flat, placement, lef, result.liberty, trees, routing, layers)
        values["timing"] = timing_values(flat, result, fo4, trees, folder)
    return Routed(flat, placement, routing, values)


def wire_values(
    flat: FlatNetlist,
    placement: Placement,
    lef: Lef,
    liberty: Liberty,
    trees: dict[str, Tree],
    routing: Routing,
    layers: int,
) -> dict:
    """Lengths and capacitances of the wires."""
    lengths = np.array([tree.length for tree in trees.values()])
    gate = math.sqrt(liberty.nand2.area)
    on_layer: dict[str, float] = defaultdict(float)
    for pieces in routing.wires.values():
        for piece in pieces:
            on_layer[piece.layer] += piece.length
    tracks = sum(placement.width * placement.height / layer.pitch for layer in lef.layers[:layers])
    wire = sum(tree.capacitance for tree in trees.values())
    pins = sum(pin_load(flat, liberty, name) for name in trees)
    unit = input_capacitance(liberty.inverter)
    return {
        "length_um": round(float(lengths.sum()), 1),
        "mean_um": round(float(lengths.mean()), 2),
        "quantiles_um": {str(q): round(float(np.percentile(lengths, q)), 2) for q in QUANTILES},
        "longest_um": round(float(lengths.max()), 1),
        "mean_in_gates": round(float(lengths.mean()) / gate, 2),
        "gate_um": round(gate, 3),
        "layers_um": {layer.name: round(on_layer[layer.name], 1) for layer in lef.layers[:layers]},
        "tracks_used": round(float(lengths.sum()) / tracks, 4),
        "vias": sum(bool(piece.via) for pieces in routing.wires.values() for piece in pieces),
        "wire_pf": round(wire * 1e12, 4),
        "pin_pf": round(pins * 1e12, 4),
        "wire_over_pins": round(wire / pins, 4),
        "by_sinks": [
            {
                "sinks": text,
                "nets": len(names),
                "mean_sinks": round(float(np.mean([flat.nets[name].ends - 1 for name in names])), 3),
                "mean_um": round(float(np.mean([trees[name].length for name in names])), 2),
                "mean_gates": round(float(np.mean([trees[name].length for name in names])) / gate, 3),
                "inverter_inputs": round(float(np.mean([trees[name].capacitance for name in names])) / unit, 3),
            }
            for text, names in by_sinks(flat, liberty).items()
        ],
    }


def by_sinks(flat: FlatNetlist, liberty: Liberty) -> dict[str, list[str]]:
    """Names of the nets between cells by their number of sinks.

    The net of the clock is left out, and so are those of ports, whose lengths depend on what surrounds the block.
    """
    found: dict[str, list[str]] = {}
    for index, low in enumerate(CLASSES):
        high = CLASSES[index + 1] - 1 if index + 1 < len(CLASSES) else math.inf
        text = f"{low}" if high == low else f"{low} to {high}" if high < math.inf else f"{low} and more"
        inner = [net for net in flat.routed() if not net.ports and not is_clock(flat, liberty, net)]
        names = [net.name for net in inner if low <= net.ends - 1 <= high]
        if names:
            found[text] = names
    return found


def averaged(flat: FlatNetlist, liberty: Liberty, trees: dict[str, Tree]) -> dict[str, Tree]:
    """Trees in which each net between cells has the mean capacitance of those with as many sinks.

    Their longest path beside that of the routed wires shows what is lost where lengths are carried to another library.
    """
    found = dict(trees)
    for names in by_sinks(flat, liberty).values():
        mean = float(np.mean([trees[name].capacitance for name in names]))
        for name in names:
            tree = trees[name]
            # A net inside one pair of touching pins has no length of its own to scale.
            shares = tree.farad if tree.capacitance > 0 else dict.fromkeys(tree.farad, 1.0)
            whole = sum(shares.values())
            found[name] = replace(tree, farad={node: share * mean / whole for node, share in shares.items()})
    return found


def is_clock(flat: FlatNetlist, liberty: Liberty, net: Net) -> bool:
    """Whether a net clocks flip-flops."""
    return any(pin in clock_pins(liberty.cells[flat.cells[cell].type]) for cell, pin in net.pins)


def timing_values(flat: FlatNetlist, result: Synthesis, fo4: float, trees: dict[str, Tree], folder: Path) -> dict:
    """Longest path in FO4 without wires, with the library's wire load, with routed, averaged and crowded wires."""
    assert result.plain is not None
    bare = folder / "without_wire_load.lib"
    bare.write_text(without_wire_load(result.liberty), encoding="latin-1")
    cases = [("without_wires", bare, None)]
    if wire_load(result.liberty) is not None:
        cases.append(("assumed_wires", result.plain, None))
    cases += [
        ("routed_wires", bare, spef(flat, trees)),
        ("averaged_wires", bare, spef(flat, averaged(flat, result.liberty, trees))),
        ("crowded_wires", bare, spef(flat, trees, CROWDED)),
    ]
    values: dict = {"fo4_ps": round(fo4 * 1e12, 2)}
    for name, plain, text in cases:
        path = longest_path(flat, result.liberty, plain, 40 * fo4, folder, name, text)
        values[name] = {"fo4": round(path.seconds / fo4, 2), "from": path.start, "to": path.end}
    return values


def compared_values(result: Synthesis, fo4: float, folder: Path, lengths: list[tuple[float, float]] | None) -> dict:
    """Longest path in a library without layouts: without wires, with its wire load, with the lengths of routed nets.

    Parameters
    ----------
    lengths : list of (float, float), optional
        Sinks and length of nets that were routed in another library, in square roots of the area of its NAND2.  They
        take the place of the lengths in the default wire load, whose capacitance and resistance per µm stay.
    """
    assert result.plain is not None
    flat, liberty = flatten(result.netlist, result.liberty), result.liberty
    model, unit = wire_load(liberty), input_capacitance(liberty.inverter)
    values: dict = {
        "library": result.library.name if result.library else None,
        "fo4_ps": round(fo4 * 1e12, 2),
        "cells": len(flat.cells),
        "wire_load": model.name if model else None,
    }
    cases: list[tuple[str, str, WireLoad | None]] = [("without_wires", without_wire_load(liberty), None)]
    if model is not None:
        cases.append(("assumed_wires", liberty.text, model))
        if lengths is not None:
            carried = model.of_lengths([(sinks, gates * math.sqrt(liberty.nand2.area)) for sinks, gates in lengths])
            cases.append(("carried_wires", model.replaced(liberty.text, carried), carried))
    for name, text, load in cases:
        plain = folder / f"{name}.lib"
        plain.write_text(text, encoding="latin-1")
        values[name] = {"fo4": round(longest_path(flat, liberty, plain, 40 * fo4, folder, name).seconds / fo4, 2)}
        if load is not None:
            nets = [net for net in flat.routed() if not is_clock(flat, liberty, net)]
            pins = sum(pin_load(flat, liberty, net.name) for net in nets)
            values[name]["wire_over_pins"] = round(sum(load.farad(net.ends - 1) for net in nets) / pins, 4)
            values[name]["inverter_inputs"] = {str(sinks): round(load.farad(sinks) / unit, 3) for sinks in CLASSES}
    return values


def pin_load(flat: FlatNetlist, liberty: Liberty, name: str) -> float:
    """Capacitance in farad of the inputs at a net."""
    cells = flat.cells
    return sum(
        liberty.cells[cells[cell].type].pins[pin].capacitance
        for cell, pin in flat.nets[name].pins
        if not flat.is_output(cell, pin)
    )


@dataclass(frozen=True)
class WireLoad:
    """Default wire load of a library: farad per unit of length, length of a net by its sinks, and per further sink."""

    name: str
    unit: float
    lengths: dict[int, float]
    slope: float

    def farad(self, sinks: int) -> float:
        """Capacitance of a net with some sinks; a missing number of them lies on the line between its neighbours."""
        known = sorted(self.lengths)
        if sinks >= known[-1]:
            return self.unit * (self.lengths[known[-1]] + self.slope * (sinks - known[-1]))
        return self.unit * float(np.interp(sinks, known, [self.lengths[count] for count in known]))

    def of_lengths(self, lengths: list[tuple[float, float]]) -> "WireLoad":
        """The wire load with other lengths, given as mean sinks and mean length of nets."""
        known, found = zip(*lengths, strict=True)
        table = {sinks: float(np.interp(sinks, known, found)) for sinks in range(1, max(2, math.ceil(known[-1])) + 1)}
        slope = (found[-1] - found[0]) / (known[-1] - known[0]) if len(known) > 1 else found[0]
        return WireLoad(self.name, self.unit, table, max(slope, 0.0))

    def replaced(self, text: str, other: "WireLoad") -> str:
        """A library's text with the lengths of another wire load in the place of this one's."""
        match = self._group(text)
        body = re.sub(r"(fanout_length\s*\([^)]*\)|slope\s*:\s*[^;\n]*)\s*;?", "", match[2])
        table = " ".join(f"fanout_length({sinks}, {length:.4f});" for sinks, length in other.lengths.items())
        return f"{text[: match.start(2)]}{body} slope : {other.slope:.4f}; {table} {text[match.end(2) :]}"

    def _group(self, text: str) -> re.Match:
        match = re.search(rf'(wire_load\s*\(\s*"?{re.escape(self.name)}"?\s*\)\s*\{{)(.*?)\}}', text, re.DOTALL)
        assert match is not None
        return match


def wire_load(liberty: Liberty) -> WireLoad | None:
    """Default wire load of a library, or ``None`` where it has none."""
    group = parse(liberty.text)
    name = group.attributes.get("default_wire_load")
    model = next((model for model in group.all("wire_load") if model.arguments == name), None)
    if model is None:
        return None
    load = WireLoad(model.arguments, model.number("capacitance") * liberty.cap_unit, {}, model.number("slope"))
    # An attribute that occurs several times remains only in the text.
    body = load._group(liberty.text)[2]
    for sinks, length in re.findall(r"fanout_length\s*\(\s*(\d+)\s*,\s*([\d.eE+-]+)", body):
        load.lengths[int(sinks)] = float(length)
    return load if load.lengths else None
