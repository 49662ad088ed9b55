"""Prove properties of the streams for every input: of their parts for runs of any length, and of an emitted design."""

import argparse
import json
from collections.abc import Sequence

from chessrnn.model.errors import require
from chessrnn.scripts.cli import (
    EXIT_MISMATCH,
    add_settings,
    command_parser,
    count,
    note,
    settings_from,
)
from chessrnn.sim.proof.design_proofs import SMALL, design_proofs, twin_proof
from chessrnn.sim.proof.model_checker import BROKEN, HOLDS, PROVED, UNDECIDED, Proof, Verdict, check
from chessrnn.sim.proof.part_proofs import part_proofs

DEPTH, LIMIT = 36, 60

EXAMPLES = """examples:
  chessrnn prove
  chessrnn prove --only framing --json
  chessrnn prove --only ports --set architecture.state_ports=true
  chessrnn prove --only steps --depth 44 --limit 300"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("prove", __doc__, EXAMPLES)
    add_settings(parser, "change the small design whose Verilog is proved, e.g. architecture.state_ports=true")
    parser.add_argument("--only", metavar="PROOF", help="one proof of those that --list prints; default all")
    parser.add_argument("--depth", type=count, default=DEPTH, help=f"cycles of bounded claims; default {DEPTH}")
    parser.add_argument("--limit", type=count, default=LIMIT, help=f"seconds for each claim; default {LIMIT}")
    parser.add_argument("--list", action="store_true", help="print the claims without proving them")
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON, with counterexamples")
    return parser.parse_args(argv)


def proofs_from(args: argparse.Namespace) -> list[Proof]:
    """The proofs that the command line chooses."""
    settings = settings_from(args)
    config = SMALL.replace(settings) if settings else SMALL
    proofs = {proof.name: proof for proof in (*part_proofs(), *design_proofs(config), twin_proof())}
    rule = f"one of {', '.join(proofs)}"
    require(args.only is None or args.only in proofs, "--only", rule, args.only)
    return [proofs[args.only]] if args.only else list(proofs.values())


def print_claims(proofs: Sequence[Proof]) -> None:
    """Print every proof with its claims."""
    for proof in proofs:
        print(f"{proof.name}: {proof.subject}")
        for claim in proof.claims:
            print(f"  {claim.name} ({claim.method}): {claim.statement}")


def outcome(verdict: Verdict) -> str:
    """A verdict in a few words."""
    return {
        PROVED: "proved for runs of any length",
        HOLDS: f"holds in all runs of {verdict.cycles} cycles",
        BROKEN: f"broken in cycle {verdict.cycles - 1}",
        UNDECIDED: "undecided: the time was over",
    }[verdict.status]


def as_json(proof: Proof, verdict: Verdict) -> dict:
    """A verdict as a JSON object."""
    return {
        "proof": proof.name,
        "claim": verdict.claim.name,
        "statement": verdict.claim.statement,
        "method": verdict.claim.method,
        "status": verdict.status,
        "cycles": verdict.cycles,
        "seconds": round(verdict.seconds, 2),
        "counterexample": list(verdict.counterexample),
    }


def print_verdict(verdict: Verdict) -> None:
    """Print one line for a verdict, and the inputs of a counterexample below it."""
    print(f"  {verdict.claim.name}: {outcome(verdict)}, {verdict.seconds:.1f} s")
    for cycle, inputs in enumerate(verdict.counterexample):
        values = " ".join(f"{name}={value:x}" for name, value in inputs.items() if name != "clk")
        print(f"    cycle {cycle}: {values}")


def main(argv: list[str] | None = None) -> int:
    """Prove, and print a verdict for every claim."""
    args = parse(argv)
    proofs = proofs_from(args)
    if args.list:
        print_claims(proofs)
        return 0
    verdicts, results = [], []
    for proof in proofs:
        if not args.json:
            print(f"{proof.name}: {proof.subject}", flush=True)
        for verdict in check(proof, args.depth, args.limit):
            verdicts.append(verdict)
            results.append(as_json(proof, verdict))
            if not args.json:
                print_verdict(verdict)
    if args.json:
        print(json.dumps({"verdicts": results}, indent=2))
    elif undecided := sum(verdict.status == UNDECIDED for verdict in verdicts):
        note(f"{undecided} of {len(verdicts)} claims are undecided: a greater --limit may decide them")
    return 0 if all(verdict.is_good for verdict in verdicts) else EXIT_MISMATCH
