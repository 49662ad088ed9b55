"""A few shapes of SVG: enough for block diagrams, tilings and waveforms that look alike."""

from html import escape

# Fill and outline of a kind of thing, the same in every picture.
COLOURS = {
    "memory": ("#e8effb", "#35568a"),
    "product": ("#fdf1dc", "#9a6a1c"),
    "sum": ("#e6f5ea", "#2f7d43"),
    "control": ("#f1eaf8", "#6b4a92"),
    "unknown": ("#ececec", "#bbbbbb"),
    "late": ("#fbe3e0", "#a8483c"),
    "plain": ("#ffffff", "#555555"),
}
INK = "#222222"
PALE = "#666666"
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"


class Drawing:
    """Shapes in the order in which they are drawn, on a white ground.

    Parameters
    ----------
    width, height : float
        In pixels.
    title : str
        For readers who cannot see the picture.
    """

    def __init__(self, width: float, height: float, title: str):
        self.width, self.height, self.title = width, height, title
        self.shapes = []

    def add(self, name: str, content: str | None = None, **attributes) -> None:
        """Append an element; ``_`` in a name of an attribute stands for ``-``."""
        pairs = " ".join(f'{key.replace("_", "-")}="{_number(value)}"' for key, value in attributes.items())
        end = "/>" if content is None else f">{escape(content)}</{name}>"
        self.shapes.append(f"<{name} {pairs}{end}")

    def box(self, x: float, y: float, width: float, height: float, kind: str, *lines: str, radius: float = 5) -> None:
        """A rectangle with a heading and smaller lines below it, centred."""
        fill, stroke = COLOURS[kind]
        self.add("rect", x=x, y=y, width=width, height=height, rx=radius, fill=fill, stroke=stroke)
        top = y + height / 2 - (len(lines) - 1) * 7.5 + 4.5
        for number, line in enumerate(lines):
            size = 11 if number else 14
            self.text(x + width / 2, top + number * 15, line, size=size, colour=PALE if number else INK)

    def text(self, x: float, y: float, content: str, size: float = 12, anchor: str = "middle", colour: str = INK,
             weight: str = "normal") -> None:  # fmt: skip
        """One line of text; y is its baseline."""
        self.add("text", content, x=x, y=y, font_size=size, text_anchor=anchor, fill=colour, font_weight=weight)

    def line(self, points: list[tuple[float, float]], colour: str = "#444444", width: float = 1.4, dashed: bool = False,
             arrow: bool = False, fill: str = "none") -> None:  # fmt: skip
        """Straight pieces through the points, with an arrow head at the last one if wanted."""
        attributes = {"points": " ".join(f"{_number(x)},{_number(y)}" for x, y in points)}
        attributes |= {"fill": fill, "stroke": colour, "stroke_width": width, "stroke_linejoin": "round"}
        if dashed:
            attributes["stroke_dasharray"] = "5 3"
        if arrow:
            attributes["marker_end"] = "url(#head)"
        self.add("polyline", **attributes)

    def __str__(self):
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_number(self.width)} {_number(self.height)}" '
            f'width="{_number(self.width)}" height="{_number(self.height)}" role="img" font-family="{FONT}">'
        )
        marker = (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#444444"/></marker></defs>'
        )
        ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", marker, ground, *self.shapes, "</svg>", ""])


def _number(value) -> str:
    """Numbers without trailing zeros; everything else as text."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else escape(str(value))


def waveform(title: str, signals: list[tuple[str, list]], cycle_width: float = 24, first: int = 0) -> Drawing:
    """A timing diagram, one row per signal and one column per clock cycle.

    Parameters
    ----------
    signals : list of (str, list)
        Name and a value per cycle.  ``0`` and ``1`` are drawn as levels; a string (or ``(string, kind)``) as a bus with
        that label, joined with equal neighbours; ``None`` as a bus without a meaning.  An empty list is a gap.
    cycle_width : float
        Pixels per cycle.
    first : int
        Number of the first cycle.
    """
    label, row, top = 130, 30, 34
    cycles = max(len(values) for _, values in signals)
    drawing = Drawing(label + cycles * cycle_width + 12, top + row * len(signals) + 8, title)
    every = 1 if cycle_width >= 20 else 5
    for cycle in range(0, cycles + 1, every):
        x = label + cycle * cycle_width
        drawing.line([(x, top - 8), (x, drawing.height - 8)], colour="#e4e4e4", width=1)
        if cycle < cycles:
            drawing.text(x + cycle_width / 2, top - 14, str(cycle + first), size=11, colour=PALE)
    drawing.text(label - 10, top - 14, "cycle", size=11, anchor="end", colour=PALE)
    for number, (name, values) in enumerate(signals):
        low = top + number * row + row - 7
        high = low - 17
        drawing.text(label - 10, low - 3, name, size=12, anchor="end")
        start = 0
        points = []
        while start < len(values):
            end = start
            while end < len(values) and values[end] == values[start]:
                end += 1
            left, right, value = label + start * cycle_width, label + end * cycle_width, values[start]
            if isinstance(value, int):
                level = high if value else low
                points += [(left, level), (right, level)]
            else:
                if points:
                    drawing.line(points, colour=INK, width=1.5)
                    points = []
                text, kind = (
                    value if isinstance(value, tuple) else (value, "memory" if value is not None else "unknown")
                )
                fill, stroke = COLOURS[kind]
                bevel = min(3, cycle_width / 4)
                shape = [
                    (left, (low + high) / 2), (left + bevel, high), (right - bevel, high), (right, (low + high) / 2),
                    (right - bevel, low), (left + bevel, low), (left, (low + high) / 2),
                ]  # fmt: skip
                drawing.line(shape, colour=stroke, width=1.1, fill=fill)
                if text and len(text) * 5.2 < right - left:
                    drawing.text((left + right) / 2, low - 5, text, size=10)
            start = end
        if points:
            drawing.line(points, colour=INK, width=1.5)
    return drawing
