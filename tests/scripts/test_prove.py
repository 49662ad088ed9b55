"""The command that proves: its verdicts as text and as JSON, and its errors."""

import json

import pytest

from chessrnn.hdl import framing
from chessrnn.scripts.main import main
from chessrnn.sim.proof import part_proofs


def test_one_proof_as_json(capsys):
    assert main(["prove", "--only", "framing", "--json"]) == 0
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    assert {verdict["status"] for verdict in verdicts} == {"proved"}
    assert [verdict["claim"] for verdict in verdicts] == [claim.name for claim in part_proofs.FramingChecker.CLAIMS]
    assert all(verdict["counterexample"] == [] for verdict in verdicts)


def test_a_broken_claim_is_shown_with_its_inputs(capsys, monkeypatch):
    class Broken(framing.Framing):
        """Never completes a step."""

        def __init__(self, m, x, step_ends, room, blocks):
            super().__init__(m, x, step_ends, room, blocks)
            self.early = 0

    monkeypatch.setattr(part_proofs.framing, "Framing", Broken)
    assert main(["prove", "--only", "framing"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "framing: the framing of x (hdl/framing.py)"
    assert any(line.startswith("  error_reported: broken in cycle ") for line in lines)
    assert any(line.startswith("    cycle 1: restart=0 valid=1") for line in lines)
    assert any(line.startswith("    cycle 0: restart=") for line in lines)


def test_list(capsys):
    assert main(["prove", "--list", "--only", "steps"]) == 0
    assert "h_after_its_step (bounded): no beat of h" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "x"], "--only must be one of output_buffer, framing, result_queue, register_file, ports, steps, "
         "twins, not 'x'"),
        (["--depth", "0"], "--depth must be at least 1, not 0"),
        (["--set", "network.bidirectional=true"], "network.bidirectional must be false for a proof, not True"),
    ],
)  # fmt: skip
def test_errors(arguments, message, capsys):
    try:
        status = main(["prove", *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert capsys.readouterr().err == f"chessrnn prove: error: {message}\n"
