"""Readable reports of a synthesized design: a document of sections, rendered as Markdown and as HTML."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from chessrnn.model.config_sections import layers_text
from chessrnn.model.cost.area import NAND2_AREA_90NM, TWO_PORT_FACTOR, UTILISATION, UTILISATION_RANGE, logic_area_90nm
from chessrnn.sim.synthesis.treemap import treemap

SHOWN_STAGES = 25
# Roles whose area includes everything below them.
PARTS = (
    "pe", "weight", "row", "operand", "drain", "cell_update", "vectors", "state", "sequencer", "controller", "output",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """Section of a report: paragraphs, a table whose first row is its head, lines of text, and an SVG for the page."""

    title: str
    paragraphs: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: str = ""
    drawing: str = ""


def tree(values: dict) -> str:
    """Table of the module hierarchy as text: the number and the gate equivalents of every module, indented by depth."""
    modules = {row["module"]: row for row in values["modules"]}
    whole = values["logic"]["gates"]
    lines = [
        f"{'module':<50}{'count':>7}{'gates each':>12}{'gates':>12}{'share':>8}"
        f"{'sequential':>12}{'flip-flops':>12}{'FO4':>7}"
    ]

    def visit(name: str, count: int, depth: int) -> None:
        row = modules[name]
        total = row["total_gates"] * count
        fo4 = f"{row['worst_fo4']:.1f}" if "worst_fo4" in row else ""
        lines.append(
            f"{'  ' * depth + name:<50}{count:>7,}{row['total_gates']:>12,.0f}{total:>12,.0f}"
            f"{100 * total / whole if whole else 0:>7.1f}%{row['total_sequential_gates'] * count:>12,.0f}"
            f"{row['flip_flops'] * count:>12,}{fo4:>7}"
        )
        below = sorted(row["children"].items(), key=lambda item: -item[1] * modules[item[0]]["total_gates"])
        for child, number in below:
            visit(child, count * number, depth + 1)

    visit(values["top"], 1, 0)
    return "\n".join(line.rstrip() for line in lines)


def comparison_rows(values: dict) -> list[tuple[str, str, str, str]]:
    """Table of the design beside the paper's: quantity, ours, theirs, and how it is counted."""
    found, paper, timing = values["comparison"], values["comparison"]["paper"], values["timing"]
    division, compression = values["design"]["division"], values["design"]["compression"]
    bits = layers_text(values["design"]["numerics"]["weight_bits"])
    tile = f"{division['tile_rows']} x {division['tile_cols']} tile, engine {division['engine']}"
    low, high = UTILISATION_RANGE
    efficiency = f"{found['tops_per_mm2']:.3f} TOPS/mm2 ({_span(found['tops_per_mm2_range'], 3)})"
    rows = [
        ("", "this design", paper["name"], "how it is counted"),
        (
            "compression",
            f"k = {division['block_size']}, {bits} bit, {tile}",
            "",
            f"{compression['ratio']} x less weight memory than float32",
        ),
        ("cycles per step", f"{found['cycles_per_step']:,}", "", "sustained"),
        (
            "step",
            f"{found['step_us']:.3f} us",
            f"{paper['step_us']} us",
            f"at {found['clock_mhz']:.0f} MHz, the clock that the paper's figures fit",
        ),
        (
            "throughput",
            f"{found['tops']:.2f} TOPS",
            f"{paper['tops']} TOPS",
            "a multiplication and an addition for every weight of the uncompressed network",
        ),
        (
            "logic",
            f"{found['logic_mm2']:.2f} mm2 ({_span(found['logic_mm2_range'])})",
            "",
            f"90 nm equivalent: gates x {NAND2_AREA_90NM} um2 / {UTILISATION}; range: utilisation {low} to {high}, "
            "spread of libraries",
        ),
        (
            "memories",
            f"{found['memory_mm2']:.2f} mm2",
            "",
            f"{values['memory']['model_90nm']}; a second port: bits x {TWO_PORT_FACTOR:g}; small ones as cell arrays",
        ),
        (
            "area",
            f"{found['area_mm2']:.2f} mm2 ({_span(found['area_mm2_range'])})",
            f"{paper['area_mm2']} mm2",
            "90 nm equivalent, weights' memory included; clock tree and pads not",
        ),
        ("area efficiency", efficiency, f"{paper['tops_per_mm2']:.3f} TOPS/mm2", "throughput over area, both as above"),
        (
            "on-chip memory",
            f"{found['on_chip_kilobytes']:.1f} kB",
            f"{paper['on_chip_kilobytes']} kB",
            "weights, biases, x, h, c, output buffer",
        ),
    ]
    if timing:
        clock = found["at_the_library_clock"]
        rows += [
            (
                "longest path",
                lengths(timing),
                "",
                f"of this library, flip-flops included; {timing_assumptions(values)}",
            ),
            (
                "in this library",
                f"{clock['clock_mhz']:.0f} MHz, {clock['step_us']:.3f} us, {clock['tops']:.2f} TOPS",
                "",
                "before placement and clock tree; delays are not converted between nodes",
            ),
        ]
    return rows


def lengths(timing: dict) -> str:
    """Lengths of the longest path of logic and of the longest from a memory."""
    logic, memory = timing["logic"], timing["memory"]
    parts = [f"{logic['fo4']:.1f} FO4"] if logic else []
    parts += [f"{memory['fo4']:.1f} FO4 from a memory"] if memory else []
    return ", ".join(parts) or "none"


def timing_assumptions(values: dict) -> str:
    """Description of the assumptions of the timing."""
    text = f"{values['memory']['timing']}; an FO4 excludes wires, a path includes the library's default wire load"
    if values["timing"]["equal_instances_left_out"]:
        text += "; two of the equal instances in a module are timed, the others only load their inputs"
    return text


def sections(values: dict) -> list[Section]:
    """All sections of the report."""
    library, logic, memory = values["library"], values["logic"], values["memory"]
    found = []
    if values["comparison"]:
        found.append(Section("Beside the paper", rows=tuple(comparison_rows(values))))
    unit = (
        f"NAND2 equivalents ({library['nand2']}: {library['nand2_area_um2']} um2)"
        if library
        else "NAND2 equivalents of generic cells (transistors / 4)"
    )
    clock_gates = f" and {logic['clock_gates']:,} clock gates" if logic["clock_gates"] else ""
    facts = [
        f"{logic['gates']:,.0f} gates, of which {logic['sequential_gates']:,.0f} in {logic['flip_flops']:,} "
        f"flip-flops{clock_gates}; {logic['cells']:,} cells. Gates are {unit}."
    ]
    if library:
        layout = f"{logic['layout_mm2']:.3f} mm2 of layout at a utilisation of {UTILISATION}"
        facts.append(f"{logic['area_mm2']:.3f} mm2 of cells, {layout}.")
    found.append(Section("Logic", tuple(facts), lines=tree(values), drawing=treemap(values)))
    if memory["rows"]:
        head = ("memory", "number", "words x bits", "ports", "bits", "90 nm mm2", "built as")
        head += ("library's process mm2",) if memory["model"] else ()
        rows: list[tuple[str, ...]] = [head]
        for row in memory["rows"]:
            cells = (
                row["name"],
                f"{row['count']:,}",
                f"{row['words']:,} x {row['width']:,}",
                row["ports"],
                f"{row['bits']:,}",
                f"{row['area_90nm_mm2']:.3f}",
                row["built_as_90nm"],
            )
            rows.append(cells + ((f"{row['area_mm2']:.3f}",) if memory["model"] else ()))
        models = [memory["model_90nm"], *([memory["model"]] if memory["model"] else [])]
        total = f"{memory['bits']:,} bits behind the wrappers, none in flip-flops."
        found.append(Section("Memories", (total, *(f"Area model: {text}." for text in models)), tuple(rows)))
    found.append(_timing_section(values))
    if values.get("gate_level"):
        found.append(Section("Gate level", (gate_level_text(values["gate_level"]) + ".",)))
    if values.get("power"):
        found.append(_power_section(values["power"]))
    tools = ", ".join(f"{name} {version}" for name, version in values["tools"].items() if version)
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in values["seconds"].items())
    if "cpu_seconds" in values:
        seconds += f"; processor time {values['cpu_seconds']:.0f} s"
    origin = f"Design {values['name']}, configuration {values['configuration']}. {tools}. {seconds}."
    found.append(Section("Origin", (origin,)))
    return found


def _timing_section(values: dict) -> Section:
    timing = values["timing"]
    if timing is None:
        return Section("Timing", (f"Not timed: {values['timing_note']}.",))
    facts = (
        f"FO4 of the library: {timing['fo4_ps']:.1f} ps. Shortest period {timing['period_ps']:.0f} ps = "
        f"{timing['period_fo4']:.1f} FO4, {timing['max_clock_mhz']:.0f} MHz. {timing['stages_over_target']} of "
        f"{timing['stages']} stages are longer than {timing['target_fo4']:g} FO4, "
        f"{timing['logic_stages_over_target']} of them logic.",
        f"Longest paths: {lengths(timing)}.",
        f"A path is counted from clock edge to setup: {timing_assumptions(values)}.",
    )
    rows = [("FO4", "ps", "from", "to", "cells", "FO4 spent in")]
    for path in timing["paths"][:SHOWN_STAGES]:
        spent = sorted(path["fo4_by_module"].items(), key=lambda item: -item[1])
        rows.append(
            (
                f"{path['fo4']:.1f}",
                f"{path['ps']:.0f}",
                ".".join(path["from"]),
                ".".join(path["to"]),
                str(path["cells"]),
                ", ".join(f"{module} {value:.1f}" for module, value in spent),
            )
        )
    return Section("Timing", facts, tuple(rows))


def _power_section(power: dict) -> Section:
    rows = [("part", "mW", "pJ per step", "how")]
    rows += [(row["part"], f"{row['mw']:.2f}", f"{row['pj_per_step']:,.0f}", row["how"]) for row in power["rows"]]
    facts = (
        f"{power['total_mw']:.1f} mW at {power['clock_mhz']:.0f} MHz and {power['voltage']:g} V: "
        f"{power['nj_per_step']:.2f} nJ per step, {power['fj_per_operation']:.1f} fJ per operation of the uncompressed "
        f"network ({power['tops_per_watt']:.1f} TOPS/W).",
        power["activity"],
    )
    return Section("Power", facts, tuple(rows))


def gate_level_text(check: dict) -> str:
    """Sentence about the result of the simulation of the netlist."""
    if check["problems"]:
        return f"{len(check['problems'])} differences from the reference and the RTL, the first: {check['problems'][0]}"
    return (
        f"{check['steps']} steps with {check['beats']} blocks of h, simulated with {check['simulator']}, equal the "
        "reference and the RTL in the same cycles, with and without stalls"
    )


def breakdown(values: dict) -> list[tuple[str, float]]:
    """Area in mm², as 90 nm equivalents, of the roles in :data:`PARTS` with all below them, other modules, memory.

    The largest comes first.
    """
    modules = {row["module"]: row for row in values["modules"]}
    found: dict[str, float] = {"memory": values["memory"]["area_90nm_mm2"]}

    def visit(name: str, count: int, part: str | None) -> None:
        row = modules[name]
        role = part or (row["role"] if row["role"] in PARTS else None)
        label = role or row["role"] or "other"
        found[label] = found.get(label, 0.0) + logic_area_90nm(row["own_gates"] * count) / 1e6
        for child, number in row["children"].items():
            visit(child, count * number, role)

    visit(values["top"], 1, None)
    return sorted(found.items(), key=lambda item: -item[1])


def title(values: dict) -> str:
    """Title of the report."""
    library = values["library"]["name"] if values["library"] else "generic gates"
    design = f"{values['name']} ({values['engine']})"
    return f"{design if values['comparison'] else design + ', ' + values['top']} in {library}"


def table_markdown(rows: Iterable[tuple[str, ...]]) -> str:
    """Render a Markdown table; the first row is its head."""
    head, *body = [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *body))


def markdown(values: dict) -> str:
    """Render the report as Markdown."""
    parts = [f"# {title(values)}"]
    for section in sections(values):
        parts.append(f"## {section.title}")
        parts += section.paragraphs
        if section.rows:
            parts.append(table_markdown(section.rows))
        if section.lines:
            parts.append(f"```\n{section.lines}\n```")
    return "\n\n".join(parts) + "\n"


STYLE = """\
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd;
text-align: left; vertical-align: top } th { border-bottom: 2px solid #888 }
pre { overflow-x: auto; background: #f6f6f6; padding: .8rem; font-size: 13px } svg { width: 100%; height: auto }"""


def html(values: dict) -> str:
    """Render the report as one self-contained HTML page."""
    parts = []
    for section in sections(values):
        parts.append(f"<h2>{escape(section.title)}</h2>")
        parts += [f"<p>{escape(text)}</p>" for text in section.paragraphs]
        parts.append(section.drawing)
        if section.rows:
            parts.append("<table>")
            for number, row in enumerate(section.rows):
                tag = "td" if number else "th"
                parts.append("<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>")
            parts.append("</table>")
        if section.lines:
            parts.append(f"<pre>{escape(section.lines)}</pre>")
    head = escape(title(values))
    meta = f'<meta charset="utf-8"><title>{head}</title><style>{STYLE}</style>'
    body = "\n".join(part for part in parts if part)
    return f'<!doctype html>\n<html lang="en"><head>{meta}</head>\n<body><h1>{head}</h1>\n{body}\n</body></html>\n'


def _span(values: list[float], digits: int = 2) -> str:
    low, high = values
    return f"{low:.{digits}f} to {high:.{digits}f}"
