"""Treemap of area as SVG: nested rectangles of modules and memories, by area in 90 nm."""

import io
from dataclasses import dataclass, field
from xml.etree import ElementTree

from chessrnn.model.cost.area import logic_area_90nm

# Size of the drawing and of its legend below, in points.
WIDTH, HEIGHT, LEGEND = 1200.0, 640.0, 26.0
HEADER = 16.0
LEAST_SIDE = 2.0
FONT, CHARACTER = 10.0, 6.2
# Sequential, combinational and memory; frames of modules are neutral.
COLOURS = {"flip-flops": "#9ecae1", "gates": "#c7e9c0", "memory": "#fdd0a2", "frame": "#ffffff"}
NAMESPACE = "http://www.w3.org/2000/svg"


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


def treemap(values: dict) -> str:
    """The SVG element, in which every rectangle shows its name, share and area as a tooltip; empty without any area."""
    # Imported here, as reports are read where nothing is drawn.
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    root = boxes(values)
    if root.area <= 0:
        return ""
    text = io.StringIO()
    # Text remains text, and equal reports give equal files.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "treemap", "font.family": "sans-serif"}):
        figure = Figure(figsize=(WIDTH / 72, (HEIGHT + LEGEND) / 72))
        axes = figure.add_axes((0, LEGEND / (HEIGHT + LEGEND), 1, HEIGHT / (HEIGHT + LEGEND)))
        axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
        axes.axis("off")
        tooltips: list[str] = []
        _draw(axes, tooltips, root, (0.0, 0.0, WIDTH, HEIGHT), root.area)
        shown = [Patch(facecolor=COLOURS[kind], edgecolor="#888", label=kind) for kind in COLOURS if kind != "frame"]
        shown.append(Patch(alpha=0, label=f"whole: {root.area / 1e6:.3f} mm2 in 90 nm equivalents"))
        figure.legend(handles=shown, loc="lower left", ncols=len(shown), fontsize=FONT, frameon=False, borderpad=0)
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _with_tooltips(text.getvalue(), tooltips)


def _draw(axes, tooltips: list[str], box: Box, place: tuple[float, float, float, float], whole: float) -> None:
    """Draw a box and those inside it at a place (x, y, width, height), and list their tooltips."""
    import squarify
    from matplotlib.patches import Rectangle

    x, y, width, height = place
    if width < LEAST_SIDE or height < LEAST_SIDE:
        return
    share = 100 * box.area / whole
    axes.add_patch(
        Rectangle(
            (x, y), width, height, facecolor=COLOURS[box.kind], edgecolor="#777", linewidth=0.7, clip_on=False,
            gid=f"box-{len(tooltips)}",
        )
    )  # fmt: skip
    tooltips.append(f"{box.label}: {share:.1f} %, {box.area / 1e6:.3f} mm2")
    room = int((width - 6) / CHARACTER)
    if height > HEADER and room > 4:
        label = f"{box.label} {share:.1f} %"
        label = label if len(label) <= room else box.label[: room - 1] + "…"
        axes.text(x + 3, y + 12, label, fontsize=FONT, parse_math=False)
    left, top, wide, high = x + 2, y + HEADER, width - 4, height - HEADER - 2
    if not box.children or wide <= LEAST_SIDE or high <= LEAST_SIDE:
        return
    children = sorted((child for child in box.children if child.area > 0), key=lambda child: -child.area)
    areas = squarify.normalize_sizes([child.area for child in children], wide, high)
    for child, found in zip(children, squarify.squarify(areas, left, top, wide, high), strict=True):
        _draw(axes, tooltips, child, (found["x"], found["y"], found["dx"], found["dy"]), whole)


def _with_tooltips(svg: str, tooltips: list[str]) -> str:
    """Matplotlib's SVG file as an element that fills its page, with a title in every rectangle."""
    ElementTree.register_namespace("", NAMESPACE)
    root = ElementTree.fromstring(svg)
    for size in ("width", "height"):
        del root.attrib[size]
    groups = {group.get("id"): group for group in root.iter(f"{{{NAMESPACE}}}g")}
    for number, text in enumerate(tooltips):
        title = ElementTree.Element(f"{{{NAMESPACE}}}title")
        title.text = text
        groups[f"box-{number}"].insert(0, title)
    return ElementTree.tostring(root, encoding="unicode")
