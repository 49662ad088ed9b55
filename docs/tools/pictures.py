"""Draw the pictures of the documentation that show the hardware at work, from the generator and a real simulation.

usage: python docs/tools/pictures.py

Writes docs/pictures/*.svg.  The waveforms are recorded cycle by cycle from Amaranth's simulator, and the recorded
cycles are compared with the schedule before anything is drawn.
"""

import math
import sys
from pathlib import Path

import numpy as np
from amaranth.sim import Simulator

from chessrnn.hdl.verilog import accelerator
from chessrnn.model.config import Config
from chessrnn.model.memory_image import memory_words
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule
from chessrnn.model.weights import random_inputs, random_weights
from chessrnn.sim.pysim import CLOCK_PERIOD, beats_of

sys.path.insert(0, str(Path(__file__).parent))
from svg import COLOURS, INK, PALE, Drawing, waveform

FOLDER = Path(__file__).resolve().parents[1] / "pictures"
SEED = 1


# -- recording -------------------------------------------------------------------------------------------------


def record(
    config: Config, lengths: list[int], cycles: int, offered: str = "1", taken: str = "1", early: int | None = None
) -> list[dict]:
    """Run the accelerator and sample its ports once per cycle.

    Parameters
    ----------
    lengths : list of int
        Steps of every sequence.
    cycles : int
        Cycles to record.
    offered, taken : str
        Pattern of the source and of the sink, a character per cycle and repeated: ``1`` offers or takes a beat.
    early : int, optional
        Number of a beat that has ``last``, and after which the rest of its step is left out.

    Returns
    -------
    list of dict
        Port name → integer, per cycle.
    """
    rng = np.random.default_rng(SEED)
    weights = random_weights(config, rng)
    x = random_inputs(config, rng, sum(lengths))
    beats = beats_of(np.split(x, np.cumsum(lengths)[:-1]), config.block_size, config.quantization.x.width)
    if early is not None:
        blocks = config.num_input_blocks
        beats = [*beats[:early], (beats[early][0], 1), *beats[early + blocks - early % blocks :]]
    dut = accelerator(config, memory_words(weights))
    sim = Simulator(dut)
    sim.add_clock(CLOCK_PERIOD)
    samples = []

    async def bench(ctx):
        sent, waiting = 0, False
        for cycle in range(cycles):
            waiting = waiting or (sent < len(beats) and offered[cycle % len(offered)] == "1")
            ctx.set(dut.x.valid, int(waiting))
            if waiting:
                ctx.set(dut.x.payload.data, beats[sent][0])
                ctx.set(dut.x.payload.last, beats[sent][1])
            ctx.set(dut.h.ready, int(taken[cycle % len(taken)]))
            sample = {
                "x_valid": int(waiting), "x_ready": ctx.get(dut.x.ready), "x_last": ctx.get(dut.x.payload.last),
                "x_beat": sent, "h_valid": ctx.get(dut.h.valid), "h_ready": ctx.get(dut.h.ready),
                "h_data": ctx.get(dut.h.payload.data), "h_last": ctx.get(dut.h.payload.last),
                "matvec_active": ctx.get(dut.matvec_active), "x_error": ctx.get(dut.x_error),
            }  # fmt: skip
            samples.append(sample)
            if waiting and sample["x_ready"]:
                sent, waiting = sent + 1, False
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    return samples


def beat_labels(samples: list[dict], stream: str, blocks: int) -> list:
    """Label of the beat on a stream per cycle, ``step.block``; ``None`` while nothing is offered."""
    labels, sent = [], 0
    for sample in samples:
        valid, ready = sample[f"{stream}_valid"], sample[f"{stream}_ready"]
        labels.append(f"{sent // blocks}.{sent % blocks}" if valid else None)
        sent += valid and ready
    return labels


# -- pictures --------------------------------------------------------------------------------------------------


def handshake() -> Drawing:
    """Both streams with a source and a sink that pause."""
    config = preset("tiny")
    samples = record(config, [1, 1], 68, offered="1101110", taken="0010110100111")
    begin = next(cycle for cycle, sample in enumerate(samples) if sample["x_valid"])
    shown = samples[begin : begin + 11]
    at_h = next(cycle for cycle, sample in enumerate(samples) if sample["h_valid"]) - 1
    later = samples[at_h : at_h + 11]
    x, h = beat_labels(samples, "x", config.num_input_blocks), beat_labels(samples, "h", config.num_output_blocks)
    gap = [("", [])]
    signals = [
        ("clk", [""] * 0),
        ("x_valid", [s["x_valid"] for s in shown]),
        ("x_ready", [s["x_ready"] for s in shown]),
        ("x_data", x[begin : begin + 11]),
        ("x_last", [s["x_last"] if s["x_valid"] else None for s in shown]),
        *gap,
        ("h_valid", [s["h_valid"] for s in later]),
        ("h_ready", [s["h_ready"] for s in later]),
        ("h_data", h[at_h : at_h + 11]),
        ("h_last", [s["h_last"] if s["h_valid"] else None for s in later]),
    ]
    return waveform("Handshake of the streams x and h", signals[1:], cycle_width=46)


def framing() -> Drawing:
    """A last that comes a beat too early, and the step that follows."""
    config = preset("tiny")
    blocks, early, cycles = config.num_input_blocks, 1, 8
    samples = record(config, [1, 1, 1], cycles, early=early)
    assert [s["x_ready"] for s in samples] == [int(c != early + 1 and c < 2 * blocks) for c in range(cycles)]
    # The port of the top module, which keeps what the core reports.
    error = [max((earlier["x_error"] for earlier in samples[:cycle]), default=0) for cycle in range(cycles)]
    labels, step, place = [], 0, 0
    for sample in samples:
        labels.append(f"{step}.{place}" if sample["x_valid"] else None)
        if sample["x_valid"] and sample["x_ready"]:
            ends = sample["x_last"] or place == blocks - 1
            step, place = step + ends, 0 if ends else place + 1
    signals = [
        ("x_valid", [s["x_valid"] for s in samples]),
        ("x_ready", [s["x_ready"] for s in samples]),
        ("x_data", labels),
        ("x_last", [s["x_last"] if s["x_valid"] else None for s in samples]),
        ("x_error[0]", error),
    ]
    return waveform("A last that comes too early", signals, cycle_width=46)


def steps(config: Config, count: int, cycle_width: float, title: str) -> Drawing:
    """Consecutive steps without stalls: x, issues and h, checked against the schedule.

    Raises
    ------
    AssertionError
        A simulated cycle differs from the predicted one.
    """
    schedule = Schedule(config)
    timeline = schedule.timeline([count])
    cycles = timeline.last_beat[-1] + 2
    samples = record(config, [count], cycles)
    active = [cycle for cycle, sample in enumerate(samples) if sample["matvec_active"]]
    words, blocks = schedule.ideal_interval, config.num_output_blocks
    taken = [cycle for cycle, sample in enumerate(samples) if sample["h_valid"] and sample["h_ready"]]
    assert active[::words] == timeline.first_issue
    assert active[words - 1 :: words] == timeline.last_issue
    assert taken[blocks - 1 :: blocks] == timeline.last_beat
    at_work, row_groups, columns = ([None] * cycles for _ in range(3))
    for number, cycle in enumerate(active):
        step, issue = number // words, schedule.issues[number % words]
        early = issue.col < config.parts[0].early_groups
        at_work[cycle] = f"step {step}", "control" if step % 2 else "product"
        row_groups[cycle] = str(issue.row), "plain"
        columns[cycle] = ("x", "sum") if early else ("h", "late")

    def steps_of(stream: str, size: int) -> list:
        return [label and f"{label.split('.')[0]}" for label in beat_labels(samples, stream, size)]

    signals = [
        ("x, step", steps_of("x", config.num_input_blocks)),
        ("matvec_active", [sample["matvec_active"] for sample in samples]),
        ("tile works on", at_work),
        ("row group", row_groups),
        ("columns of", columns),
        ("h, step", steps_of("h", blocks)),
    ]
    return waveform(title, signals, cycle_width=cycle_width)


def step() -> Drawing:
    """Steps of a network that is large enough to hide its latency."""
    config = preset("tiny").replace({"network.input_size": 24, "architecture.tile_cols": 1})
    return steps(config, 3, 7.5, "Three steps without a bubble")


def waiting() -> Drawing:
    """Steps of a network that is too small to hide its latency."""
    return steps(preset("tiny"), 3, 9.5, "Three steps that wait for h")


def chessboard() -> Drawing:
    """The blocks of W of the preset ``tiny`` with the cycle in which each is worked on."""
    config = preset("tiny")
    schedule, size, left, top = Schedule(config), 44, 150, 74
    rows, cols = config.num_row_blocks, config.num_col_blocks
    tile_rows, tile_cols = config.architecture.tile_rows, config.architecture.tile_cols
    drawing = Drawing(left + cols * size + 300, top + rows * size + 30, "Chessboard division of the preset tiny")
    cycle_of = {(issue.row, issue.col): cycle for cycle, issue in enumerate(schedule.issues)}
    first_h = config.num_input_blocks
    gates, kinds = config.gates, ("product", "sum", "memory", "control")
    for row in range(rows):
        y = top + row * size
        gate, unit = row % len(gates), row // len(gates)
        drawing.text(left - 12, y + size / 2 + 4, f"gate {gates[gate]}, block {unit} of h", size=11, anchor="end")
        for col in range(cols):
            x = left + col * size
            fill, stroke = COLOURS[kinds[gate]]
            drawing.add("rect", x=x + 1, y=y + 1, width=size - 2, height=size - 2, rx=3, fill=fill, stroke=stroke,
                        stroke_width=0.8)  # fmt: skip
            cycle = cycle_of[row // tile_rows, col // tile_cols]
            drawing.text(x + size / 2, y + size / 2 + 5, str(cycle), size=14)
    for col in range(cols):
        name = f"x{col}" if col < first_h else f"h{col - first_h}"
        drawing.text(left + col * size + size / 2, top - 10, name, size=12)
    drawing.text(left + first_h * size / 2, top - 32, "blocks of x(t)", size=12, colour=PALE)
    drawing.text(left + (first_h + cols) * size / 2, top - 32, "blocks of h(t−1)", size=12, colour=PALE)
    for row in range(0, rows, tile_rows):
        for col in range(0, cols, tile_cols):
            height, width = min(tile_rows, rows - row) * size, min(tile_cols, cols - col) * size
            drawing.add("rect", x=left + col * size, y=top + row * size, width=width, height=height, fill="none",
                        stroke=INK, stroke_width=2.4)  # fmt: skip
    x = left + cols * size + 28
    notes = [
        f"{rows} × {cols} blocks of {config.block_size} × {config.block_size} weights",
        f"tile of R × C = {tile_rows} × {tile_cols} processing elements",
        f"⌈{rows}/{tile_rows}⌉ · ⌈{cols}/{tile_cols}⌉ = {schedule.ideal_interval} cycles per step",
        "the number is the cycle within the step",
        "the four gates of a block of h leave together",
    ]
    for number, note in enumerate(notes):
        drawing.text(x, top + 18 + 24 * number, note, size=12, anchor="start")
    drawing.text(left + cols * size / 2, 22, "W = [W_x | W_h]", size=14, weight="bold")
    return drawing


def circulant() -> Drawing:
    """A circulant block: sixteen weights, four stored."""
    size, k, top = 46, 4, 44
    drawing = Drawing(620, top + k * size + 20, "A circulant block and its first column")
    kinds = ("memory", "product", "sum", "control")
    drawing.text(20 + size / 2, top - 14, "stored", size=12, colour=PALE)
    drawing.text(150 + k * size / 2, top - 14, "multiplied", size=12, colour=PALE)
    for row in range(k):
        drawing.box(20, top + row * size, size - 4, size - 4, kinds[row], f"w{row}", radius=3)
        for col in range(k):
            index = (row - col) % k
            drawing.box(150 + col * size, top + row * size, size - 4, size - 4, kinds[index], f"w{index}", radius=3)
        drawing.box(370, top + row * size, size - 4, size - 4, "plain", f"x{row}", radius=3)
        drawing.box(460, top + row * size, size - 4, size - 4, "plain", f"y{row}", radius=3)
    middle = top + k * size / 2
    drawing.line([(76, middle - 2), (142, middle - 2)], arrow=True)
    drawing.text(351, middle + 4, "·", size=22)
    drawing.text(436, middle + 4, "=", size=18)
    drawing.text(520, middle - 10, "y = w ∗ x,", size=13, anchor="start")
    drawing.text(520, middle + 10, "cyclic", size=13, anchor="start")
    return drawing


def architecture() -> Drawing:
    """Block diagram of the accelerator."""
    drawing = Drawing(1000, 560, "Block diagram of the accelerator")
    columns = ((250, "0"), (370, "1"), (530, "C−1"))
    rows = ((190, "0"), (280, "1"), (400, "R−1"))
    # Behind the boxes: operands reach every row of their column.
    for x, _ in columns:
        drawing.line([(x + 50, 140), (x + 50, rows[-1][0] - 2)], arrow=True)
    for y, _ in rows:
        drawing.line([(350, y + 32), (658, y + 32)], arrow=True)
    drawing.line([(150, 282), (200, 282), (200, 75), (580, 75), (580, 93)], arrow=True)
    for x, _ in columns[:-1]:
        drawing.line([(x + 50, 75), (x + 50, 93)], arrow=True)
    for x, number in columns:
        drawing.box(x, 95, 100, 56, "memory", f"operand {number}", "recoded once")
        for y, row in rows:
            drawing.box(x, y, 100, 64, "product", f"PE {row},{number}", "weight bank")
    for y, row in rows:
        drawing.box(660, y, 130, 64, "sum", f"row {row}", "compressor tree,", "accumulator")
        drawing.line([(790, y + 32), (812, y + 32), (812, 295), (828, 295)], arrow=True)
    for y in (127, 222, 312, 432):
        drawing.add("rect", x=492, y=y - 10, width=16, height=20, fill="#ffffff")
        drawing.text(500, y + 4, "…", size=14)
    for x in (300, 420, 580, 725):
        drawing.add("rect", x=x - 10, y=362, width=20, height=20, fill="#ffffff")
        drawing.text(x, 378, "⋮", size=14)
    drawing.box(30, 20, 220, 42, "control", "controller")
    drawing.line([(90, 62), (90, 248)], colour=COLOURS["control"][1], dashed=True, arrow=True)
    drawing.text(98, 160, "which row group,", size=11, anchor="start", colour=PALE)
    drawing.text(98, 174, "which column group", size=11, anchor="start", colour=PALE)
    drawing.line([(250, 41), (895, 41), (895, 248)], colour=COLOURS["control"][1], dashed=True, arrow=True)
    drawing.text(572, 34, "which sums start, wait, continue, are complete", size=11, colour=PALE)
    drawing.box(30, 250, 120, 90, "memory", "vector memory", "x(t), x(t+1)", "h(t−1), h(t)")
    drawing.line([(2, 272), (28, 272)], arrow=True)
    drawing.text(14, 264, "x", size=13)
    drawing.box(830, 250, 130, 90, "sum", "drain", "gates of a hidden", "block together")
    drawing.line([(895, 340), (895, 488)], arrow=True)
    drawing.box(670, 490, 290, 56, "product", "cell update", "bias, σ, tanh, state: c′ = f·c + i·g, h′ = o·tanh c′")
    drawing.line([(670, 518), (442, 518)], arrow=True)
    drawing.text(556, 511, "h", size=13)
    drawing.line([(600, 518), (600, 478), (90, 478), (90, 342)], arrow=True)
    drawing.text(168, 494, "h for the next step and layer", size=11, colour=PALE)
    drawing.box(250, 490, 190, 56, "memory", "output buffer", "absorbs a slow reader")
    drawing.line([(250, 518), (150, 518)], arrow=True)
    drawing.text(200, 511, "h", size=13)
    return drawing


def accuracy_rows() -> list[tuple[str, float, float, str]]:
    """Label, factor of compression, loss in per cent and note of every integer network beside the sound baseline."""
    text = (FOLDER.parent / "results" / "accuracy.md").read_text(encoding="utf-8")
    table = text.split("## Characters, beside a sound baseline\n", 1)[1].split("![", 1)[0]
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines]
    network, size, loss, note = (rows[0].index(name) for name in ("network", "W bytes", "loss", "note"))
    dense = int(rows[2][size].replace(",", ""))
    return [
        (row[network], dense / int(row[size].replace(",", "")), float(row[loss].rstrip(" %")), row[note])
        for row in rows[2:]
        if "bit" in row[network]
    ]


def tradeoff() -> Drawing:
    """Loss of perplexity against compression, as in the table of results."""
    width, height, left, right, top, bottom = 760, 400, 190, 190, 56, 52
    drawing = Drawing(width, height, "Loss of perplexity against compression of the weights")
    rows = accuracy_rows()
    least, most, highest = 24, 80, 5 * math.ceil(max(loss for _, _, loss, _ in rows) / 5)

    def place(factor: float, loss: float) -> tuple[float, float]:
        x = left + (width - left - right) * math.log(factor / least) / math.log(most / least)
        return x, height - bottom - (height - top - bottom) * loss / highest

    for loss in range(0, highest + 1, 5):
        (x0, y), (x1, _) = place(least, loss), place(most, loss)
        drawing.line([(x0, y), (x1, y)], colour="#e4e4e4", width=1)
        drawing.text((x0 + x1) / 2, y - 3, f"{loss} %", size=10, colour="#999999")
    for factor, name in ((32, "32 ×"), (64, "64 ×")):
        (x, y0), (_, y1) = place(factor, 0), place(factor, highest)
        drawing.line([(x, y0), (x, y1)], colour="#e4e4e4", width=1)
        drawing.text(x, y0 + 16, name, size=12)
    drawing.text(left + (width - left - right) / 2, height - 12, "less weight memory than dense float32", size=12)
    drawing.text(left + (width - left - right) / 2, 14, "loss of perplexity (lower is better)", size=12)
    kinds = (
        ("early", "integers early", "sum"),
        ("from scratch", "from random weights", "memory"),
        ("", "projected, retrained", "product"),
    )
    for number, (_, name, kind) in enumerate(kinds):
        x = left - 40 + 160 * number
        drawing.add("circle", cx=x, cy=32, r=4, fill=COLOURS[kind][1])
        drawing.text(x + 10, 36, name, size=11, anchor="start")
    sides: dict[bool, list] = {False: [], True: []}
    for label, factor, loss, note in rows:
        colour = next(COLOURS[kind][1] for words, _, kind in kinds if words in note)
        sides[factor > 45].append((place(factor, loss), label, colour))
    for is_right, points in sides.items():
        level = height
        # Labels from the bottom up, none closer than a line to the one below.
        for (x, y), text, colour in sorted(points, key=lambda point: -point[0][1]):
            level = min(y, level - 15)
            edge = width - right + 22 if is_right else left - 22
            drawing.line([(x, y), (edge, level)], colour="#bbbbbb", width=0.8)
            drawing.add("circle", cx=x, cy=y, r=4.5, fill=colour)
            drawing.text(edge + (5 if is_right else -5), level + 4, text, size=11,
                         anchor="start" if is_right else "end")  # fmt: skip
    return drawing


PICTURES = {
    "architecture": architecture,
    "chessboard": chessboard,
    "circulant": circulant,
    "framing": framing,
    "handshake": handshake,
    "step": step,
    "tradeoff": tradeoff,
    "waiting": waiting,
}


def main() -> int:
    """Draw every picture."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(str(draw()), encoding="utf-8")
        print(f"written: docs/pictures/{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
