"""MkDocs hook: writes the reference pages from the program itself, so that they cannot grow stale.

``reference/config.md`` comes from the dataclasses of the configuration, ``reference/commands.md`` from every command's
own ``--help``, and ``reference/api.md`` from the public names of the package.
"""

import contextlib
import dataclasses
import io
import os
import re
import textwrap
from importlib import import_module
from pathlib import Path

import griffe
from mkdocs.structure.files import File

import chessrnn
from chessrnn.model import config_sections as sections
from chessrnn.model.presets import PRESETS, preset
from chessrnn.scripts.main import COMMANDS, help_text

ROOT = Path(__file__).resolve().parents[2]
# mkdocstrings reads sources by their path, and the package is spread over folders of the top level.
PACKAGE = ROOT / "build" / "docs" / "chessrnn"
FOLDERS = ("constraints", "hdl", "model", "scripts", "sim")
SECTIONS = (
    ("network", sections.NetworkConfig),
    ("compression", sections.CompressionConfig),
    ("quantization", sections.QuantizationConfig),
    ("activation", sections.ActivationConfig),
    ("architecture", sections.ArchitectureConfig),
    ("architecture.pipeline", sections.PipelineConfig),
)
# Functions in the order of their use come first; whatever else is public follows.
API_ORDER = (
    "load_network", "compress", "load_weights", "predict", "emit", "simulate", "report", "synthesize", "preset",
    "Reference", "Schedule", "Config",
)  # fmt: skip
# Names of chessrnn.torch, which is not imported here since it needs torch: module in model.training, and heading.
TORCH_NAMES = {
    "LSTM": ("recurrent_modules", "chessrnn.torch.LSTM"),
    "GRU": ("recurrent_modules", "chessrnn.torch.GRU"),
    "RNN": ("recurrent_modules", "chessrnn.torch.RNN"),
    "Recurrent": ("recurrent_modules", "Methods of LSTM, GRU and RNN"),
    "compress": ("whole_models", "chessrnn.torch.compress"),
    "compressed": ("whole_models", "chessrnn.torch.compressed"),
    "uncompressed": ("whole_models", "chessrnn.torch.uncompressed"),
    "stage": ("whole_models", "chessrnn.torch.stage"),
    "StageSchedule": ("whole_models", "chessrnn.torch.StageSchedule"),
    "distillation_loss": ("distillation", "chessrnn.torch.distillation_loss"),
    "export": ("whole_models", "chessrnn.torch.export"),
}
HELP_COLUMNS = "90"
UNIT = re.compile(r"(\d) (%|FO4|GHz|LSB|MHz|TOPS|kB|mm²|nm\b|points|µs|×)")
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code>)")


def on_startup(command, dirty):
    """Lay the package out as importers see it, before mkdocstrings looks for its folder."""
    PACKAGE.mkdir(parents=True, exist_ok=True)
    for path in PACKAGE.iterdir():
        path.unlink()
    for name in FOLDERS:
        (PACKAGE / name).symlink_to(ROOT / name)
    for path in (ROOT / "scripts" / "api").glob("*.py"):
        (PACKAGE / path.name).symlink_to(path)


def on_files(files, config):
    """Add the generated pages."""
    pages = {"config": config_page(), "commands": commands_page(), "api": api_page()}
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


# -- configuration ---------------------------------------------------------------------------------------------


def default_of(field: dataclasses.Field) -> str:
    """Default of a field as it is written in a file; empty when it must be given."""
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return ""
    if value is None:
        return "derived"
    if isinstance(value, tuple):
        value = value[0] if len(value) == 1 else list(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def parsed(cls: type) -> tuple[str, dict[str, str]]:
    """Text of a class's docstring, and the description of each parameter by name."""
    text, fields = "", {}
    for section in griffe.Docstring(cls.__doc__, lineno=1).parse("numpy"):
        if section.kind is griffe.DocstringSectionKind.text:
            text += section.value + "\n\n"
        elif section.kind is griffe.DocstringSectionKind.parameters:
            for parameter in section.value:
                fields |= {name.strip(): parameter.description for name in parameter.name.split(",")}
    return text.replace("``", "`"), {name: value.replace("``", "`") for name, value in fields.items()}


def config_page() -> str:
    """Every field of the configuration."""
    lines = [
        "# Configuration",
        "",
        "A configuration is one design point: the network, its compression, its number formats, its activation tables",
        "and the hardware that computes it. It is a preset's name, a `.json` or a `.toml` file, and single fields are",
        'replaced with `--set section.field=value` (in `make`: `SET="section.field=value ..."`). An impossible',
        "combination is rejected before anything is built, with a message that names the field and the rule.",
        "",
        "Nothing in `architecture` changes a bit of a result. [Python API](api.md) has the properties that are derived",
        "from these fields.",
        "",
        "## Presets",
        "",
        "| preset | cell | X → H | k | weight bits | engine | tile |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in PRESETS:
        c = preset(name)
        arch = c.architecture
        lines.append(
            f"| `{name}` | {c.network.cell} | {c.network.input_size} → {c.network.hidden_size} | {c.block_size} "
            f"| {c.quantization.weight_bits} | {arch.engine} | {arch.tile_rows} × {arch.tile_cols} |"
        )
    for name, cls in SECTIONS:
        text, descriptions = parsed(cls)
        lines += ["", f"## `{name}`", "", text.strip(), ""]
        for field in dataclasses.fields(cls):
            if field.name == "pipeline":  # a section of its own
                continue
            default = default_of(field)
            note = f"default `{default}`" if default else "must be given"
            description = " ".join(descriptions.get(field.name, "").split())
            lines += [f"`{name}.{field.name}` — {note}", f":   {description}", ""]
    lines += [
        "## A file",
        "",
        "```toml",
        'name = "mine"',
        "",
        "[network]",
        "input_size = 64",
        "hidden_size = 128",
        'cell = "gru"',
        "",
        "[compression]",
        "block_size = 8",
        "",
        "[architecture]",
        "tile_rows = 4",
        "tile_cols = 4",
        "```",
        "",
    ]
    return "\n".join(lines)


# -- commands --------------------------------------------------------------------------------------------------


def printed_help(module: str) -> str:
    """What ``--help`` of a command prints."""
    output, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = HELP_COLUMNS
    try:
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            import_module(f"chessrnn.scripts.{module}").main(["--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    # argparse leaves descriptions and examples as they are written.
    lines = [line for text in output.getvalue().splitlines() for line in wrapped(text)]
    return "\n".join(lines)


def wrapped(line: str) -> list[str]:
    """A line of prose in pieces that fit the page; indented lines are options, or commands that stay whole."""
    return textwrap.wrap(line, int(HELP_COLUMNS)) if line.strip() and not line.startswith(" ") else [line]


def commands_page() -> str:
    """Every command with its help."""
    lines = [
        "# Commands",
        "",
        "Every command is a verb of `chessrnn`; the `make` targets of the same names install what a verb needs and",
        "pass `CONFIG`, `SET` and `ARGS` on. Results go to standard output, progress and notes to standard error. The",
        "exit status is 0 for success, 1 for a mismatch that was found, 2 for an input that was rejected (with one",
        "line that says why), and 130 when interrupted.",
        "",
        "```text",
        help_text(),
        "```",
    ]
    for verb, (module, _) in COMMANDS.items():
        lines += ["", f"## chessrnn {verb}", "", "```text", printed_help(module).rstrip(), "```"]
    return "\n".join(lines) + "\n"


# -- Python API ------------------------------------------------------------------------------------------------


def api_page() -> str:
    """The public names, each by its docstring."""
    lines = [
        "# Python API",
        "",
        "These names are the public interface: `import chessrnn` offers them, and they change only with a note in the",
        "changelog. Each is loaded when it is first used. Everything else is internal.",
        "",
    ]
    names = [name for name in API_ORDER if name in chessrnn.__all__]
    for name in [*names, *(name for name in chessrnn.__all__ if name not in names)]:
        value = getattr(chessrnn, name)
        lines += [
            f"::: {value.__module__}.{value.__qualname__}",
            "    options:",
            f"      heading: chessrnn.{name}",
            f"      toc_label: {name}",
            "",
        ]
    lines += [
        "## chessrnn.torch",
        "",
        "Modules for training loops of your own: `import chessrnn.torch`. [Your own training",
        "loop](../tutorials/own-training.md) shows them at work.",
        "",
    ]
    for name, (module, heading) in TORCH_NAMES.items():
        lines += [
            f"::: chessrnn.model.training.{module}.{name}",
            "    options:",
            f"      heading: {heading}",
            f"      toc_label: {heading.removeprefix('chessrnn.')}",
            "",
        ]
    return "\n".join(lines)


def on_page_markdown(markdown, page, config, files):
    """A number in a table stays on the line of its unit."""
    return re.sub(r"^\|.*$", lambda row: UNIT.sub("\\1\u00a0\\2", row[0]), markdown, flags=re.MULTILINE)


def on_page_content(html, page, config, files):
    """Roles of docstrings, as in ``:func:`emit```, mean nothing to Markdown: only the name stays."""
    return ROLE.sub("", html)
