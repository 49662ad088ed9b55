"""Treemap of area as SVG: nested rectangles of modules and memories, by area in 90 nm."""

from dataclasses import dataclass, field
from html import escape

from chessrnn.model.cost.area import logic_area_90nm

WIDTH, HEIGHT = 1200.0, 640.0
HEADER = 16.0
LEAST_SIDE = 2.0
# Sequential, combinational and memory; frames of modules are neutral.
COLOURS = {"flip-flops": "#9ecae1", "gates": "#c7e9c0", "memory": "#fdd0a2", "frame": "#ffffff"}


@dataclass
class Box:
    """A node: ``area`` includes the children's."""

    label: str
    kind: str
    area: float
    children: list["Box"] = field(default_factory=list)


def boxes(values: dict) -> Box:
    """Hierarchy of a report; equal instances together, memories beside the modules."""
    modules = {row["module"]: row for row in values["modules"]}

    def box(name: str, count: int) -> Box:
        row = modules[name]
        children = [box(child, count * number) for child, number in row["children"].items()]
        for kind, key in (("flip-flops", "own_sequential_gates"), ("gates", "own_combinational_gates")):
            if row[key] > 0:
                children.append(Box(kind, kind, logic_area_90nm(row[key] * count)))
        label = name if count == 1 else f"{count} x {name}"
        return Box(label, "frame", sum(child.area for child in children), children)

    top = box(values["top"], 1)
    for row in values["memory"]["rows"]:
        text = f"{row['count']} x {row['name'].split(' and ')[0]}" if row["count"] > 1 else row["name"]
        top.children.append(Box(f"{text} ({row['words']} x {row['width']})", "memory", row["area_90nm_mm2"] * 1e6))
    top.area = sum(child.area for child in top.children)
    return top


def squarify(areas: list[float], x: float, y: float, width: float, height: float) -> list[tuple[float, ...]]:
    """Rectangles (x, y, width, height) of given areas, largest first, that fill one and are close to squares.

    Bruls, Huizing, van Wijk, "Squarified treemaps", 2000.
    """
    result: list[tuple[float, ...]] = []
    rest = list(areas)
    while rest:
        side = min(width, height)
        if side <= 0:
            return result + [(x, y, 0.0, 0.0)] * len(rest)
        row = [rest[0]]
        while len(row) < len(rest) and _worst([*row, rest[len(row)]], side) <= _worst(row, side):
            row.append(rest[len(row)])
        thickness = sum(row) / side
        offset = 0.0
        for area in row:
            length = area / thickness
            if width >= height:
                result.append((x, y + offset, thickness, length))
            else:
                result.append((x + offset, y, length, thickness))
            offset += length
        if width >= height:
            x, width = x + thickness, width - thickness
        else:
            y, height = y + thickness, height - thickness
        rest = rest[len(row) :]
    return result


def _worst(row: list[float], side: float) -> float:
    total = sum(row)
    return max(max(side**2 * area / total**2, total**2 / (side**2 * area)) for area in row)


def treemap(values: dict) -> str:
    """The SVG element; empty where there is no area."""
    root = boxes(values)
    if root.area <= 0:
        return ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {HEIGHT + 26:.0f}" '
        'font-family="sans-serif" font-size="11">'
    ]
    _draw(parts, root, 0.0, 0.0, WIDTH, HEIGHT, root.area)
    for number, (kind, colour) in enumerate(list(COLOURS.items())[:3]):
        at = 10 + number * 130
        parts.append(f'<rect x="{at}" y="{HEIGHT + 8:.0f}" width="14" height="14" fill="{colour}" stroke="#888"/>')
        parts.append(f'<text x="{at + 20}" y="{HEIGHT + 20:.0f}">{kind}</text>')
    parts.append(f'<text x="430" y="{HEIGHT + 20:.0f}">whole: {root.area / 1e6:.3f} mm2 in 90 nm equivalents</text>')
    parts.append("</svg>")
    return "\n".join(parts)


def _draw(parts: list[str], box: Box, x: float, y: float, width: float, height: float, whole: float) -> None:
    if width < LEAST_SIDE or height < LEAST_SIDE:
        return
    share = 100 * box.area / whole
    text = f"{box.label}: {share:.1f} %, {box.area / 1e6:.3f} mm2"
    parts.append(
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{COLOURS[box.kind]}" '
        f'stroke="#777" stroke-width="0.7"><title>{escape(text)}</title></rect>'
    )
    room = int((width - 6) / 6.2)
    if height > HEADER and room > 4:
        label = f"{box.label} {share:.1f} %"
        label = label if len(label) <= room else box.label[: room - 1] + "…"
        parts.append(f'<text x="{x + 3:.1f}" y="{y + 12:.1f}">{escape(label)}</text>')
    inside = (x + 2, y + HEADER, width - 4, height - HEADER - 2)
    if not box.children or inside[2] <= LEAST_SIDE or inside[3] <= LEAST_SIDE:
        return
    children = sorted((child for child in box.children if child.area > 0), key=lambda child: -child.area)
    scale = inside[2] * inside[3] / sum(child.area for child in children)
    places = squarify([c.area * scale for c in children], *inside)
    for child, (left, top, wide, high) in zip(children, places, strict=True):
        _draw(parts, child, left, top, wide, high, whole)
