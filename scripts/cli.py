"""What every command shares: arguments, and errors in one line."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from chessrnn.model.config import Config, parse_setting
from chessrnn.model.errors import UserError, shortened
from chessrnn.model.presets import PRESETS, resolve
from chessrnn.model.progress import show_elapsed

EXIT_MISMATCH = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
# Of a message: file names and lists of allowed values included.
MAX_MESSAGE = 400
# Far more than any of these options can use; a count beyond does not fit into NumPy's and torch's integers.
MAX_COUNT = 10**9
MAX_SEED = 2**63 - 1


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
        2 for a :class:`chessrnn.model.errors.UserError`, and for what the system refuses: files, disk space, memory.
        130 when interrupted.  Every other exception is a bug of ours and keeps its traceback.
    """
    program = program or Path(sys.argv[0]).stem
    show_elapsed()
    try:
        status = main() or 0
        sys.stdout.flush()
        return status
    except UserError as error:
        return _refused(program, str(error))
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (say, head) has seen enough.
        _drop_output()
        return 0
    except OSError as error:
        what = error.filename if error.filename is not None else "standard output, or a file,"
        status = _refused(program, f"{what} must be readable and writable: {error.strerror or error}")
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        return status
    except MemoryError:
        return _refused(program, "the design and its data must fit into the memory of this machine")


def _refused(program: str, message: str) -> int:
    print(f"{program}: error: {shortened(printable(message), MAX_MESSAGE)}", file=sys.stderr)
    return EXIT_USER_ERROR


def _drop_output() -> None:
    """Send the rest of standard output nowhere: Python would complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """One line without control characters: names come from files that others made."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class OneLineParser(argparse.ArgumentParser):
    """Parser whose errors are one line, as those of every other wrong input."""

    def error(self, message: str):
        """Print the message without the usage, and exit with status 2."""
        self.exit(_refused(self.prog, message))


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
    return OneLineParser(
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
        raise argparse.ArgumentTypeError(f"must be at least 1, not {shortened(text)}")
    if value > MAX_COUNT:
        raise argparse.ArgumentTypeError(f"must be at most {MAX_COUNT}, not {shortened(text)}")
    return value


def seed(text: str) -> int:
    """``argparse`` type of a seed, or of another whole number from 0."""
    value = int(text)
    if not 0 <= value <= MAX_SEED:
        rule = "at least 0" if value < 0 else f"at most {MAX_SEED}"
        raise argparse.ArgumentTypeError(f"must be {rule}, not {shortened(text)}")
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
