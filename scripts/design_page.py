"""The page of a design at the end of other commands: written again with their figures, or the command that makes it."""

import argparse
import shlex
import sys
from pathlib import Path

from chessrnn.model.config import Config
from chessrnn.model.errors import UserError
from chessrnn.scripts.cli import note
from chessrnn.scripts.weight_arguments import weights_from
from chessrnn.sim.build import load_build
from chessrnn.sim.manifest import CONFIG_FILE


def build_of(folder: Path) -> Config | None:
    """Configuration of an intact build folder, with whatever weights; ``None`` where there is no such build."""
    try:
        return load_build(folder).config if (folder / CONFIG_FILE).is_file() else None
    except UserError:
        return None


def write_design_page(folder: Path, root: Path) -> None:
    """Write the page of a build folder with all figures that there are, and print its path on stderr.

    The results of a command do not depend on its page: where the folder was changed meanwhile, that is said.

    Parameters
    ----------
    folder : Path
        The build folder.
    root : Path
        Folder below which syntheses and bitstreams are looked for.
    """
    # Imported here, as --help needs no templates.
    from chessrnn.sim.report_page.render import write_page

    try:
        print(f"page: {write_page(folder, root)}", file=sys.stderr)
    except UserError as error:
        note(f"no page is written: {error}")


def show_page_of(
    args: argparse.Namespace, config: Config, name: str, folders: list[Path], same_architecture: bool = True
) -> None:
    """Write the page of the design whose figures a command made, or print the command that makes it.

    The page is written where the design is emitted already, since emitting a large one takes minutes.

    Parameters
    ----------
    args : Namespace
        Arguments of the command, with those of the configuration and the weights.
    config : Config
        The configuration that was synthesized or built.
    name : str
        Preset, file or folder behind ``--config`` in the printed command.
    folders : list of Path
        Folders that may hold the design; the last is below the one with syntheses and bitstreams.
    same_architecture : bool
        Whether only the page of this very configuration shows the figures, or that of every design of the network.
    """
    for folder in folders:
        found = build_of(folder)
        if found is None or found.model_fingerprint != config.model_fingerprint:
            continue
        if found == config or not same_architecture:
            write_design_page(folder, folders[-1].parent)
            return
    settings = [word for text in args.settings for word in ("--set", text)]
    weights: list[str] = []
    if args.weights is not None:
        weights = ["--weights", str(args.weights)]
    elif args.random_weights is not None:
        weights = ["--random-weights", str(args.random_weights)]
    else:
        try:
            weights_from(argparse.Namespace(**vars(args) | {"config": name}), config)
        except UserError:  # the command itself needed no weights
            weights = ["--random-weights", "0"]
    note(f"{report_command(name, *settings, *weights)} makes a page with these figures")


def report_command(config: str, *options: str) -> str:
    """The command that makes the page of a design, as it can be repeated in a shell."""
    return shlex.join(["chessrnn", "report", "--config", config, *options])
