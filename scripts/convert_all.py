"""Conversion of every recurrent network of a model file, each to a folder of its own."""

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from chessrnn.model.config import MAX_NAME, Config
from chessrnn.model.errors import InvalidValueError, UserError, require
from chessrnn.model.imported.load import network_names
from chessrnn.model.presets import resolve
from chessrnn.model.unique_names import plain_name, unique_name
from chessrnn.scripts.cli import EXIT_INTERRUPTED, EXIT_MISMATCH, note, print_table, printable, warning
from chessrnn.scripts.conversion_table import print_conversion


class Target(NamedTuple):
    """One network to convert: which of its file, the name and the folder of its design, and the file of its inputs."""

    prefix: str | None
    name: str
    folder: Path
    calibration: Path | None


class Outcome(NamedTuple):
    """What one conversion leaves: its report, its configuration, problems of a simulation, and the rest of the file."""

    report: dict
    config: Config
    problems: list[str]
    ignored: tuple[str, ...]


class NetworkRefusal(UserError):
    """A network cannot be read, or the accelerator does not run it; other networks of the file may be converted."""


@contextlib.contextmanager
def refusing(*kinds: type[UserError], options: tuple[str, ...] = ()) -> Iterator[None]:
    """Turn errors of some kinds into :class:`NetworkRefusal`, except those of options, which all networks share.

    Parameters
    ----------
    kinds : exception classes
    options : tuple of str
        Options whose rules are about the network.
    """
    try:
        yield
    except kinds as error:
        field = str(error).split(" ", 1)[0]
        if isinstance(error, InvalidValueError) and field.startswith("--") and field not in options:
            raise
        raise NetworkRefusal(str(error)) from None


def convert_all(
    args: argparse.Namespace, settings: dict[str, object], convert_network: Callable[[Target], Outcome | None]
) -> int:
    """Convert every recurrent network of a file, and list what stays with the host.

    Parameters
    ----------
    args : Namespace
        Arguments of ``chessrnn convert``.
    settings : dict
        Fields of ``--set``; their names are checked before anything is converted.
    convert_network : callable
        Converts one network; ``None`` where the user interrupted.

    Returns
    -------
    int
        Exit status.
    """
    check_names(settings)
    targets = targets_of(args)
    outcomes, refused = {}, {}
    for prefix, target in targets.items():
        try:
            outcome = convert_network(target)
        except NetworkRefusal as refusal:
            refused[prefix] = printable(str(refusal))
            continue
        if outcome is None:
            return EXIT_INTERRUPTED
        outcomes[prefix] = outcome
        if not args.json:
            print_conversion(outcome.report, outcome.config)
            print()
    _check_settings(settings, refused, bool(outcomes))
    texts = [f"{printable(prefix) or 'the network'} stays with the host: {why}" for prefix, why in refused.items()]
    rests = [set(outcome.ignored) for outcome in outcomes.values()]
    host = sorted(set.intersection(*rests)) if rests else []
    if args.json:
        reports = {prefix: outcome.report for prefix, outcome in outcomes.items()}
        print(json.dumps({"networks": reports, "host": host, "refused": texts}, indent=2))
    else:
        designs = f"{len(outcomes)} of {len(targets)} recurrent networks, below {folder_of(args)}/"
        print_table([("designs", designs), *(("host", printable(name)) for name in host)])
    for text in texts:
        warning(text)
    require(bool(outcomes), "--all", "of a file with a network that the accelerator runs", str(args.model))
    return EXIT_MISMATCH if any(outcome.problems for outcome in outcomes.values()) else 0


def _check_settings(settings: dict[str, object], refused: dict[str, str], any_converted: bool) -> None:
    """Report a value of ``--set`` that no network of several allows once, in place of once for each.

    Raises
    ------
    InvalidValueError
        Every network was refused for the same setting.
    """
    fields = {text.split(" ", 1)[0].rstrip(":") for text in refused.values()}
    if not any_converted and len(fields) == 1 and fields <= settings.keys():
        raise InvalidValueError(next(iter(refused.values())))


def check_names(settings: dict[str, object]) -> None:
    """Check that the configuration has fields of these names, whatever the network.

    Raises
    ------
    InvalidValueError
        There is no such field.
    """
    config = resolve("char128")
    fields = config.to_dict()
    for path in settings:
        section, _, field = path.partition(".")
        inner = fields.get(section)
        known = field in inner if isinstance(inner, dict) else section in fields and not field
        if not known:
            # The same message as without --all.
            config.replace({path: settings[path]})


def base_name(args: argparse.Namespace) -> str:
    """Name of the configuration, or of several its beginning."""
    return args.name or plain_name(args.model.stem) or "imported"


def folder_of(args: argparse.Namespace) -> Path:
    """Folder to write, or of several networks that of their folders."""
    return args.output or Path("runs") / base_name(args)


def targets_of(args: argparse.Namespace) -> dict[str, Target]:
    """Every network of the file by its prefix, each with a folder of its own.

    Raises
    ------
    InvalidValueError
        ``--calibrate`` is no folder, or lacks the inputs of a network that cannot be converted without.
    InvalidFileError
        The file is damaged, or holds no network.
    """
    inputs: Path | None = args.calibrate
    rule = "a folder with <network>.npy or .csv for every network, with --all"
    require(inputs is None or inputs.is_dir(), "--calibrate", rule, str(inputs))
    targets, used = {}, set()
    for prefix in network_names(args.model, args.inputs):
        short = unique_name(prefix or "network", used)
        used.add(short)
        found = None
        if inputs is not None:
            names = [inputs / f"{short}{ending}" for ending in (".npy", ".csv")]
            found = next((path for path in names if path.exists()), None)
            if found is None:
                needed = "--retrain" if args.retrain is not None else "--fold on" if args.fold == "on" else None
                rule = f"a folder with {short}.npy or {short}.csv, for {needed}"
                require(needed is None, "--calibrate", rule, str(inputs))
                note(f"{printable(prefix) or 'the network'} is converted without inputs, as there is no {names[0]}")
        name = f"{base_name(args)}_{short}"[:MAX_NAME]
        targets[prefix] = Target(prefix, name, folder_of(args) / short, found)
    return targets
