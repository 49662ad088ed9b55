"""Everything that the page of a design shows, as plain values: each figure with the command that made it."""

import shlex
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from chessrnn.hdl.namespace import prefix_of
from chessrnn.model.boards import BOARDS
from chessrnn.model.config import Config
from chessrnn.model.cost.design_report import design_report, table
from chessrnn.model.errors import InvalidFileError, UserError
from chessrnn.model.memory_image import initialised_memories, state_memories
from chessrnn.model.schedule import Schedule
from chessrnn.model.text_file import read_json
from chessrnn.model.weight_image import WeightImage
from chessrnn.sim.build import VERILOG_FILE, Build, mem_file, weights_digest
from chessrnn.sim.manifest import file_digest
from chessrnn.sim.recorded_run import RecordedRun, excerpt, predicted, read_record
from chessrnn.sim.report_page.board_view import Board, block_label, boards, numbers, tiles
from chessrnn.sim.report_page.timeline_view import Timeline, timeline
from chessrnn.sim.synthesis.treemap import treemap

MAX_LIBRARIES = 4
SHOWN_PATHS = 8
SHOWN_PROBLEMS = 5
# Memories of one size beside each other are one row of the table from this number on.
GROUPED = 3
MAX_TEXT = 300
# Formats whose meaning differs from "the quantization point of this name".
MEANINGS = {
    "x": "input",
    "h": "output and hidden state",
    "preact": "sum in front of an activation",
    "gate": "output of an activation",
    "cell": "cell state",
    "peephole": "peephole weights",
}
PRETRAINED = "pretrained/"


@dataclass(frozen=True)
class Origin:
    """The command that made a figure, and the fingerprint of what it is a figure of."""

    command: str
    fingerprint: str


@dataclass(frozen=True)
class MemoryRow:
    """A memory, or several of the same size."""

    name: str
    count: int
    words: int
    bits: int
    files: list[str]

    @property
    def total(self) -> int:
        """Number of bits of all of them."""
        return self.count * self.words * self.bits


@dataclass(frozen=True)
class Commands:
    """Commands for a build folder, as they can be repeated in a shell.

    Parameters
    ----------
    folder : Path
        The build folder.
    weights : str
        Origin of the weights as the folder's report says it.
    """

    folder: Path
    weights: str

    def of(self, verb: str, *options: str, with_weights: bool = True) -> str:
        """The command ``chessrnn <verb>`` for the design of the folder."""
        chosen: list[str] = []
        if with_weights and self.weights.startswith("random, seed "):
            chosen = ["--random-weights", self.weights.removeprefix("random, seed ").split()[0]]
        elif with_weights and self.weights.endswith(".safetensors") and not self.weights.startswith(PRETRAINED):
            chosen = ["--weights", self.weights]
        return shlex.join(["chessrnn", verb, "--config", str(self.folder), *chosen, *options])


def choices_of(build: Build) -> list[str]:
    """Options of ``verilog`` that made a build what it is, where they are not the default."""
    prefix = [] if build.prefix == prefix_of(build.config.name) else ["--prefix", build.prefix]
    return [*prefix, *(["--shell", build.shell] if build.shell else [])]


def page_values(build: Build, root: Path) -> dict:
    """Collect the values of a build folder's page.

    Parameters
    ----------
    build : Build
        The checked build folder.
    root : Path
        Folder that the commands ``synth`` and ``fpga`` write below.
    """
    config, report = build.config, design_report(build.config)
    source = _text(_section(build.path / "report.json", "weights").get("source", ""))
    commands = Commands(build.path, source)
    fingerprint = config.fingerprint
    shown_boards = boards(config)
    return {
        "config": config,
        "report": report,
        "table": table(report),
        "source": source,
        "build": build,
        "cell_title": config.cell.title,
        "commands": commands,
        "verilog": Origin(commands.of("verilog", *choices_of(build)), fingerprint),
        "boards": shown_boards,
        "board_numbers": [numbers(config, part, board) for part, board in enumerate(shown_boards)],
        "lookaheads": [Schedule(config).part_lookahead(part) for part in range(len(config.parts))],
        "board_values": [board._asdict() for board in shown_boards],
        "tiles": tiles(config),
        "all_tiles": config.bank_words,
        "elements": first_tile(config, shown_boards[0]),
        **_simulation(build, commands),
        "memories": memory_rows(config, build.prefix),
        "ports": _section(build.path / "ports.json").get("ports", []),
        "formats": [(name, fmt, MEANINGS[name]) for name, fmt in config.formats.items()],
        "accuracy": accuracy(source, build),
        "syntheses": syntheses(config, root, commands),
        "synth_command": commands.of("synth", with_weights=False),
        "fpga": fpga_builds(config, root, commands),
        "fpga_command": commands.of("fpga", "--board", next(iter(BOARDS))),
    }


def first_tile(config: Config, board: Board) -> list[list[str]]:
    """Blocks that the processing elements multiply in the first cycle of a step, row by row."""
    arch = config.architecture
    return [[block_label(board, row, col) for col in range(arch.tile_cols)] for row in range(arch.tile_rows)]


def _simulation(build: Build, commands: Commands) -> dict:
    """The timeline, with the recorded simulation where there is one."""
    config, note = build.config, ""
    run: RecordedRun | None = None
    try:
        run = read_record(build.path, config, file_digest(build.path / VERILOG_FILE))
    except InvalidFileError as error:
        note = str(error)
    lengths = run.lengths if run else [2] if config.architecture.contexts == 1 else [2] * config.architecture.contexts
    loads = run.loads if run else []
    part = excerpt(config, lengths)
    line: Timeline = timeline(config, part, predicted(config, part, loads), run.trace if run else None)
    made = commands.of("sim", "--sim", run.simulator if run else "icarus")
    return {
        "timeline": line,
        "run": run,
        "run_note": note,
        "problems": [_text(problem) for problem in run.problems[:SHOWN_PROBLEMS]] if run else [],
        "simulation": Origin(made, config.fingerprint),
    }


def memory_rows(config: Config, prefix: str) -> list[MemoryRow]:
    """Memories with their files; weight banks and other memories of one size share a row."""
    initialised = {spec.name for spec in initialised_memories(config)}
    groups: dict[tuple, list[str]] = {}
    for spec in (*initialised_memories(config), *state_memories(config)):
        kind = spec.name.split("_")[0]
        groups.setdefault((kind, spec.depth, spec.width), []).append(spec.name)
    rows = []
    for (_, words, bits), names in groups.items():
        chunks = [names] if len(names) >= GROUPED else [[name] for name in names]
        for chunk in chunks:
            name = chunk[0] if len(chunk) == 1 else f"{chunk[0]} … {chunk[-1]}"
            found = [mem_file(prefix, name) for name in chunk if name in initialised]
            rows.append(MemoryRow(name, len(chunk), words, bits, found))
    return rows


def accuracy(source: str, build: Build) -> dict | None:
    """Figures in the weight image that the design was made of; ``None`` where there is none with figures."""
    path = Path(source)
    if source.startswith(PRETRAINED):
        path = Path(str(files("chessrnn.model.pretrained") / source.removeprefix(PRETRAINED)))
    if path.suffix != ".safetensors":
        return None
    try:
        image = WeightImage.load(path, build.config)
    except UserError:
        return None
    if weights_digest(image.weights) != build.weights_sha256 or not image.metrics:
        return None
    return {
        "rows": _figures(image.metrics),
        "training": _training(image.metrics),
        "stages": _stages(image.metrics),
        "origin": Origin(_text(image.command), build.config.model_fingerprint),
    }


# Figures of a weight image that say something about accuracy: name, then its text on the page.
FIGURES = {
    "perplexity": "perplexity on the test text",
    "bits_per_character": "bits per character on the test text",
    "order_0_bits_per_character": "the same for the frequencies of characters",
    "order_2_bits_per_character": "the same for the frequencies after two characters",
    "frame_error": "frame error",
    "phone_error": "phone error",
    "accuracy": "accuracy",
    "steps": "steps",
    "updates": "training updates",
    "measured_on": "measured on",
    "saturated_weights": "saturated weights and biases",
    "saturated_inputs": "saturated inputs",
}


def _figures(metrics: dict) -> list[tuple[str, str]]:
    """Single figures of a weight image."""
    return [
        (text, _text(f"{metrics[name]:,}" if isinstance(metrics[name], int | float) else metrics[name]))
        for name, text in FIGURES.items()
        if isinstance(metrics.get(name), int | float | str)
    ]


def _training(metrics: dict) -> dict | None:
    """The figure on the test split after each stage of a training; ``None`` where the image has none."""
    stages = metrics.get("stages")
    found = []
    for stage in stages if isinstance(stages, list) else []:
        values = stage if isinstance(stage, dict) else {}
        name = next((name for name, value in values.items() if isinstance(value, float)), "")
        if name:
            found.append((_text(values.get("stage", "")), _text(name).replace("_", " "), f"{values[name]:,.3f}"))
    return {"metric": found[0][1], "rows": [(label, value) for label, _, value in found]} if found else None


def _stages(metrics: dict) -> list[tuple[str, list[tuple[str, str]]]]:
    """Error of h of every layer after each step of a conversion, as shares of the root mean square of h."""
    names = {
        "projected": "projected onto circulant blocks",
        "retrained": "retrained",
        "rounded_weights": "with rounded weights",
        "integers": "in integers, as the hardware computes",
    }
    found = []
    layers = metrics.get("layers")
    for layer in layers if isinstance(layers, list) else []:
        output = layer.get("output") if isinstance(layer, dict) else None
        if isinstance(output, dict):
            rows = [(text, output[name]) for name, text in names.items() if isinstance(output.get(name), int | float)]
            found.append((_text(layer.get("layer", "")), [(text, f"{100 * value:.2f} %") for text, value in rows]))
    return found


def syntheses(config: Config, root: Path, commands: Commands) -> list[dict]:
    """Reports of syntheses of this configuration, one per library."""
    folder = root / "synthesis" / f"{config.name}-{config.architecture.engine}-{config.fingerprint[:8]}"
    found = []
    for path in sorted(folder.glob("*/report.json"))[:MAX_LIBRARIES]:
        try:
            values = read_json(path)
            if values["configuration"] != config.fingerprint:
                continue
            found.append(_synthesis(values, path, commands, config.fingerprint))
        except (InvalidFileError, KeyError, TypeError, ValueError, AttributeError):
            found.append({"damaged": str(path), "name": path.parent.name})
    return found


def _synthesis(values: dict, path: Path, commands: Commands, fingerprint: str) -> dict:
    """Figures of one synthesis."""
    logic, timing, library = values["logic"], values["timing"], values["library"]
    rows = [("logic", f"{float(logic['gates']):,.0f} NAND2 equivalents, {int(logic['flip_flops']):,} flip-flops")]
    if logic["area_mm2"] is not None:
        rows.append(("cells", f"{float(logic['area_mm2']):.4f} mm²"))
    rows.append(("memories", f"{int(values['memory']['bits']):,} bits"))
    if values["comparison"]:
        rows.append(("area as in 90 nm", f"{float(values['comparison']['area_mm2']):.2f} mm², memories included"))
    if values.get("power"):
        rows.append(("energy", f"{float(values['power']['nj_per_step']):.2f} nJ per step"))
    paths = []
    if timing:
        rows.append(("clock", f"{float(timing['max_clock_mhz']):.0f} MHz"))
        paths = [
            (f"{float(one['fo4']):.1f}", f"{float(one['ps']):.0f}", ".".join(map(str, one["from"])),
             ".".join(map(str, one["to"])))
            for one in timing["paths"][:SHOWN_PATHS]
        ]  # fmt: skip
    else:
        rows.append(("clock", f"not timed: {_text(values['timing_note'])}"))
    options = ["--liberty", "FILE"] if library else []
    return {
        "name": _text(library["name"]) if library else "generic gates",
        "rows": rows,
        "paths": paths,
        "treemap": picture(values),
        "full": str(path.with_name("report.html")),
        "origin": Origin(commands.of("synth", *options, with_weights=False), fingerprint),
    }


def picture(values: dict) -> str:
    """The treemap of a report, or nothing where the library that draws it is not installed."""
    try:
        return treemap(values)
    except ImportError:
        return ""


def fpga_builds(config: Config, root: Path, commands: Commands) -> list[dict]:
    """Reports of bitstreams of the same network, for every board that has one."""
    found = []
    for board in BOARDS:
        path = root / f"{config.name}-{board}" / "report.json"
        if not path.is_file():
            continue
        try:
            values = read_json(path)
            design, clock, speed = values["design"], values["clock"], values["steps_per_second"]
            if design["model_configuration"] != config.model_fingerprint:
                continue
            use = [
                (str(name), int(one["used"]), int(one["available"]),
                 None if one["percent"] is None else float(one["percent"]))
                for name, one in values["utilisation"].items()
            ]  # fmt: skip
            found.append(
                {
                    "board": board,
                    "part": _text(values["part"]),
                    "use": use,
                    "clock": f"{float(clock['mhz']):g} MHz, at most {float(clock['max_mhz']):g} MHz",
                    "too_fast": float(clock["max_mhz"]) < float(clock["mhz"]),
                    "speed": f"{int(speed['at_clock']):,} steps per second",
                    "other": design["configuration"] != config.fingerprint,
                    "origin": Origin(commands.of("fpga", "--board", board), str(design["configuration"])),
                }
            )
        except (InvalidFileError, KeyError, TypeError, ValueError, AttributeError):
            found.append({"damaged": str(path), "board": board})
    return found


def _section(path: Path, *names: str) -> dict:
    """A part of a generated JSON file; empty where it is not there."""
    values = read_json(path)
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def _text(value: object) -> str:
    """Text from a file of unknown origin, on one line and not too long."""
    text = " ".join(str(value).split())
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
