"""Drawing of a placed and routed block as SVG: cells by kind, wires by layer, ports on the edge."""

from chessrnn.sim.placement.flat_netlist import FlatNetlist
from chessrnn.sim.placement.lef import Lef
from chessrnn.sim.placement.placer import MARGIN, Placement, macros_of
from chessrnn.sim.placement.router import Routing
from chessrnn.sim.synthesis.liberty import Liberty

SIZE = 900.0
COLOURS = {"flip-flops": "#9ecae1", "full adders": "#fdd0a2", "buffers": "#d9d9d9", "other gates": "#c7e9c0"}
LAYERS = ("#3182bd", "#de2d26", "#31a354", "#756bb1", "#e6550d", "#636363")
LEGEND = 26.0


def drawing(flat: FlatNetlist, placement: Placement, routing: Routing, lef: Lef, liberty: Liberty) -> str:
    """The SVG file."""
    width, height = placement.width + 2 * MARGIN, placement.height + 2 * MARGIN
    scale = SIZE / max(width, height)
    high = height * scale
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * scale:.0f} {high + LEGEND:.0f}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width * scale:.0f}" height="{high + LEGEND:.0f}" fill="#fff"/>',
        # Distances in µm with y upwards.
        f'<g transform="translate({MARGIN * scale:.2f} {high - MARGIN * scale:.2f}) scale({scale:.4f} {-scale:.4f})">',
        f'<rect width="{placement.width:.1f}" height="{placement.height:.1f}" fill="#f7f7f7"/>',
    ]
    groups: dict[str, list[str]] = {kind: [] for kind in COLOURS}
    for index, (cell, macro) in enumerate(zip(flat.cells, macros_of(flat, lef), strict=True)):
        x, y = placement.x[index], placement.y[index]
        groups[_kind(cell.type, liberty)].append(
            f"M{x:.1f} {y + 0.4:.1f}h{macro.width:.1f}v{macro.height - 0.8:.1f}h{-macro.width:.1f}z"
        )
    for kind, paths in groups.items():
        lines.append(f'<path fill="{COLOURS[kind]}" stroke="#888" stroke-width="0.15" d="{"".join(paths)}"/>')
    names = [layer.name for layer in lef.layers]
    wires: dict[str, list[str]] = {}
    for pieces in routing.wires.values():
        for piece in pieces:
            if piece.length > 0:
                wires.setdefault(piece.layer, []).append(
                    f"M{piece.x0:.1f} {piece.y0:.1f}L{piece.x1:.1f} {piece.y1:.1f}"
                )
    shown = sorted(wires, key=names.index)
    for name in shown:
        colour = LAYERS[names.index(name) % len(LAYERS)]
        lines.append(f'<path fill="none" stroke="{colour}" stroke-width="0.3" d="{"".join(wires[name])}"/>')
    for x, y, _ in placement.ports:
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="0.8"/>')
    lines.append("</g>")
    place = 8.0
    legend = [(COLOURS[kind], kind) for kind, paths in groups.items() if paths]
    for colour, text in [*legend, *((LAYERS[names.index(name) % len(LAYERS)], name) for name in shown)]:
        lines.append(f'<rect x="{place:.0f}" y="{high + 8:.0f}" width="11" height="11" fill="{colour}"/>')
        lines.append(f'<text x="{place + 15:.0f}" y="{high + 18:.0f}">{text}</text>')
        place += 30 + 6.5 * len(text)
    return "\n".join([*lines, "</svg>", ""])


def _kind(name: str, liberty: Liberty) -> str:
    cell = liberty.cells[name]
    if cell.kind == "flip-flop":
        return "flip-flops"
    if liberty.full_adder is not None and name == liberty.full_adder[0].name:
        return "full adders"
    return "buffers" if cell in liberty.buffers or cell in liberty.inverters else "other gates"
