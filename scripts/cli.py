"""What every command shares: arguments, and errors in one line."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from chessrnn.model.config import Config, parse_setting
from chessrnn.model.errors import UserError
from chessrnn.model.presets import PRESETS, resolve

EXIT_MISMATCH = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def run_command(main: Callable[[], int | None], program: str | None = None) -> int:
    """Run a command's ``main`` and turn what a user can cause into one line and an exit status.

    Parameters
    ----------
    main : callable
        Its return value is the exit status; ``None`` is 0.
    program : str
        Name in front of the message; the file name of the command when left out.

    Returns
    -------
    int
        2 for a :class:`chessrnn.model.errors.UserError`, 130 when interrupted.  Every other exception is a bug of ours
        and keeps its traceback.
    """
    program = program or Path(sys.argv[0]).stem
    try:
        status = main() or 0
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"{program}: error: {printable(str(error))}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (say, head) has seen enough.  Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def printable(text: str) -> str:
    """One line without control characters: names come from files that others made."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def command_parser(verb: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Create the parser of a sub-command, with the same layout of ``--help`` for all.

    Parameters
    ----------
    verb : str
        Name of the sub-command behind ``chessrnn``.
    description : str
        What it does; usually the docstring of its module.
    examples : str
        Lines of examples, printed as they are below the options.
    """
    return argparse.ArgumentParser(
        prog=f"chessrnn {verb}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config_arguments(parser: argparse.ArgumentParser, default: str = "char128") -> None:
    """``--config`` and ``--set``, the way every command chooses its design point."""
    parser.add_argument(
        "--config",
        default=default,
        metavar="NAME|FILE",
        help=f"preset ({', '.join(PRESETS)}) or a .json/.toml file; default {default}",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="replace one field, e.g. architecture.tile_rows=8; may be repeated",
    )


def config_from(args: argparse.Namespace) -> Config:
    """The configuration that ``--config`` and ``--set`` name."""
    config = resolve(args.config)
    settings = dict(parse_setting(text) for text in args.settings)
    return config.replace(settings) if settings else config


def count(text: str) -> int:
    """``argparse`` type of a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def seed(text: str) -> int:
    """``argparse`` type of a seed, or of another whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {text}")
    return value


def positive(text: str) -> float:
    """``argparse`` type of a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def share(text: str) -> float:
    """``argparse`` type of a number from 0 to below 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to below 1, not {text}")
    return value


def not_negative(text: str) -> float:
    """``argparse`` type of a finite number from 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def print_table(rows: list[tuple[str, object]]) -> None:
    """Names and values in two aligned columns."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
