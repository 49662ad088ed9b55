"""Common parts of all commands: their arguments, and errors in one line."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from chessrnn.model.config import Config
from chessrnn.model.config_values import parse_setting
from chessrnn.model.errors import UserError, shortened, shown
from chessrnn.model.presets import PRESETS, resolve
from chessrnn.model.progress import show_elapsed

Number = TypeVar("Number", int, float)
QUOTE = "'"
EXIT_MISMATCH = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
# Greatest length of a message, with its file names and lists of allowed values.
MAX_MESSAGE = 400
# Far more than any of these options can use; a count beyond does not fit into NumPy's and torch's integers.
MAX_COUNT = 10**9
MAX_SEED = 2**63 - 1


def run_command(main: Callable[[], int | None], program: str | None = None) -> int:
    """Run a command's ``main``, and report errors that a user can cause in one line with an exit status.

    Parameters
    ----------
    main : callable
        Function whose return value is the exit status; ``None`` is 0.
        program : str
            Name in front of the message; the file name of the command when left out.

    Returns
    -------
    int
        2 for a :class:`chessrnn.model.errors.UserError` and where the system lacks files, disk space or memory;
        130 when interrupted.  Every other exception is a bug of the program and keeps its traceback.
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
        # The program that reads the output, such as head, has ended.
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
    """Discard the rest of standard output, as Python would report the error again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """Make text from a file of unknown origin printable: one line without control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class OneLineParser(argparse.ArgumentParser):
    """Parser whose errors are one line, like those of every other wrong input."""

    def error(self, message: str) -> NoReturn:
        """Print the message, in the grammar of the other errors and without the usage, and exit with status 2."""
        if choice := re.fullmatch(r"argument (.+?): invalid choice: (.*) \(choose from (.*)\)", message, re.DOTALL):
            option, value, choices = choice.groups()
            message = f"{option} must be one of {choices.replace(QUOTE, '')}, not {shortened(value)}"
        self.exit(_refused(self.prog, re.sub(r"^argument (\S+): must ", r"\1 must ", message)))


def command_parser(verb: str, description: str | None, examples: str) -> argparse.ArgumentParser:
    """Create the parser of a sub-command, with the same layout of ``--help`` for all.

    Parameters
    ----------
    verb : str
        Name of the sub-command behind ``chessrnn``.
    description : str or None
        Purpose of the sub-command; usually the docstring of its module.
    examples : str
        Lines of examples, printed unchanged below the options.
    """
    return OneLineParser(
        prog=f"chessrnn {verb}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config_arguments(parser: argparse.ArgumentParser, default: str = "char128", from_weights: bool = False) -> None:
    """Add ``--config`` and ``--set``, by which a command chooses its design point.

    With ``from_weights``, ``--config`` is ``None`` where it is left out: the command then asks the weight image first.
    """
    parser.add_argument(
        "--config",
        default=None if from_weights else default,
        metavar="NAME|FILE",
        help=f"preset ({', '.join(PRESETS)}), a .json/.toml file, or a build folder; default "
        + ("that of --weights, or " if from_weights else "")
        + default,
    )
    add_settings(parser)


def add_settings(
    parser: argparse.ArgumentParser,
    purpose: str = "replace one field of the configuration, e.g. architecture.tile_rows=8",
) -> None:
    """Add ``--set``; the purpose is the beginning of its help."""
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help=f"{purpose}; may be repeated",
    )


def settings_from(args: argparse.Namespace) -> dict[str, object]:
    """Values of ``--set`` by the dotted names of their fields."""
    return dict(parse_setting(text) for text in args.settings)


def config_from(args: argparse.Namespace, more: Mapping[str, object] | None = None) -> Config:
    """Configuration that ``--config`` and ``--set`` choose, with ``more`` fields where ``--set`` leaves them."""
    config = resolve(args.config)
    settings = {**(more or {}), **settings_from(args)}
    return config.replace(settings) if settings else config


def given_name(text: str) -> str:
    """``argparse`` type of the name of a configuration, which names a folder as well."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"must be a name, not {shown(text)}")
    return text


def whole(text: str) -> int:
    """``argparse`` type of a whole number."""
    return _number(text, int, "a whole number")


def count(text: str) -> int:
    """``argparse`` type of a whole number from 1."""
    value = whole(text)
    rule = "at least 1" if value < 1 else f"at most {MAX_COUNT}"
    return _checked(value, 1 <= value <= MAX_COUNT, rule, text)


def port(text: str) -> int:
    """``argparse`` type of the number of a TCP port; 0 stands for any free one."""
    value = whole(text)
    return _checked(value, 0 <= value < 1 << 16, "from 0 to 65535", text)


def seed(text: str) -> int:
    """``argparse`` type of a seed, or of another whole number from 0."""
    value = whole(text)
    rule = "at least 0" if value < 0 else f"at most {MAX_SEED}"
    return _checked(value, 0 <= value <= MAX_SEED, rule, text)


def positive(text: str) -> float:
    """``argparse`` type of a finite number above 0."""
    value = _number(text, float, "a number")
    return _checked(value, 0 < value < float("inf"), "a finite number more than 0", text)


def share(text: str) -> float:
    """``argparse`` type of a number from 0 to below 1."""
    value = _number(text, float, "a number")
    return _checked(value, 0 <= value < 1, "from 0 to below 1", text)


def not_negative(text: str) -> float:
    """``argparse`` type of a finite number from 0."""
    value = _number(text, float, "a number")
    return _checked(value, 0 <= value < float("inf"), "a finite number of 0 or more", text)


def _number(text: str, kind: Callable[[str], Number], what: str) -> Number:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {what}, not {shown(text)}") from None


def _checked(value: Number, valid: bool, rule: str, text: str) -> Number:
    """The value of an option, or the error of one that breaks a rule."""
    if not valid:
        raise argparse.ArgumentTypeError(f"must be {rule}, not {shortened(text)}")
    return value


def note(text: str) -> None:
    """Print a remark on stderr."""
    print(f"note: {text}", file=sys.stderr)


def warning(text: str) -> None:
    """Print a warning on stderr: the result is probably not what the user wants."""
    print(f"warning: {text}", file=sys.stderr)


def report_problems(verb: str, problems: Iterable[str]) -> None:
    """Print what a command found wrong with a design, one line each on stderr."""
    for problem in problems:
        print(f"chessrnn {verb}: {problem}", file=sys.stderr)


def print_table(rows: Sequence[tuple[str, object]]) -> None:
    """Print names and values in two aligned columns."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
