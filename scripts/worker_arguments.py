"""Choice of who runs the jobs of a long command: processes of this machine, or the workers of a cluster."""

import argparse

from chessrnn.model.jobs import Workers
from chessrnn.scripts.cli import count


def add_worker_arguments(parser: argparse.ArgumentParser, what: str, default: int = 1, *aliases: str) -> None:
    """Add ``--workers`` and ``--scheduler``.

    Parameters
    ----------
    parser : ArgumentParser
    what : str
        What runs at the same time, in the plural.
    default : int
        Number of local processes.
    aliases : str
        Other names of ``--workers``.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--workers",
        *aliases,
        dest="workers",
        type=count,
        default=default,
        metavar="N",
        help=f"{what} at a time, each in a process of this machine; default {default}",
    )
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="let the workers of this dask.distributed cluster run them, on other machines (tcp://host:8786)",
    )


def workers_from(args: argparse.Namespace) -> Workers:
    """Who runs the jobs, as the arguments say."""
    return Workers(args.workers, args.scheduler)
