"""The proofs of the handshakes, and for each claim an error in the hardware with which the model checker breaks it."""

import inspect
import re
import types
from pathlib import Path

import pytest

from chessrnn.hdl import accelerator, framing, monitor, output_buffer, verilog
from chessrnn.hdl.output_layer import result_queue
from chessrnn.hdl.shell import register_file
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.presets import preset
from chessrnn.sim.proof import design_proofs, part_proofs
from chessrnn.sim.proof.model_checker import BROKEN, HOLDS, UNBOUNDED, check

PARTS = {proof.name: proof for proof in part_proofs.part_proofs()}
WHOLE = {proof.name: proof for proof in design_proofs.design_proofs(design_proofs.SMALL)}
# Cycles of bounded claims: the first step, up to its last beat of h, and most of the second.
DEPTH = 32
# Claims that take longer than the rest of their proof together.
SLOW_CLAIMS = {"in_order", "last_in_place", "h_after_its_step", "h_last_in_place"}


def changed(module, old: str, new: str):
    """A copy of a module with an error planted in its source."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, old
    copy = types.ModuleType(module.__name__)
    exec(compile(source.replace(old, new), module.__file__, "exec"), copy.__dict__)
    return copy


def names(proof, slow: bool) -> tuple[str, ...]:
    return tuple(claim.name for claim in proof.claims if (claim.name in SLOW_CLAIMS) == slow)


@pytest.mark.parametrize("name", PARTS)
def test_parts(name):
    verdicts = check(PARTS[name], DEPTH, only=names(PARTS[name], slow=False))
    assert [v for v in verdicts if not v.is_good] == []
    assert all(v.claim.method == UNBOUNDED for v in verdicts)


@pytest.mark.slow
def test_order_of_the_output_buffer():
    proof = PARTS["output_buffer"]
    assert [v.status for v in check(proof, DEPTH, only=names(proof, slow=True))] == ["proved", "proved"]


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_emitted_design(name):
    verdicts = check(WHOLE[name], DEPTH)
    assert [v for v in verdicts if not v.is_good] == []


@pytest.mark.slow
def test_twins():
    assert [v.status for v in check(design_proofs.twin_proof(), DEPTH)] == ["proved"]


# Part, claim → what is replaced in its source, and by what.
PART_ERRORS = {
    ("output_buffer", "kept"): ("with m.Elif(self.h.ready):", "with m.Elif(1):"),
    ("output_buffer", "stable"): ("(~self.h.valid | self.h.ready)", "(~self.h.valid | self.h.ready | (level > 1))"),
    ("output_buffer", "written_before"): ("(level != 0)", "(level == level)"),
    ("output_buffer", "in_order"): ("pointer == spec.depth - 1", "pointer == spec.depth - 3"),
    ("output_buffer", "last_in_place"): ("(sent == blocks - 1) & bit_of", "bit_of"),
    ("output_buffer", "offered_soon"): ("(level != 0)", "(level > 1)"),
    ("framing", "only_what_came"): (" & ~self.filling.replicate(len(self.block))", ""),
    ("framing", "begins_a_step"): ("self.filling.eq(1)", "self.filling.eq(0)"),
    ("framing", "one_end_each"): ("x.payload.last | self.filling", "x.payload.last"),
    ("framing", "error_reported"): ("x.payload.last & ~step_ends", "x.payload.last"),
    ("framing", "recovers"): ("self.filling & room & step_ends", "self.filling & room & step_ends & x.valid"),
    ("result_queue", "kept"): ("self.write - taken)]", "self.write - self.y.ready)]"),
    ("result_queue", "stable"): ("level - taken == number", "level - 1 == number"),
    ("result_queue", "has_room"): ("may_begin.eq(free != 0)", "may_begin.eq(1)"),
    ("result_queue", "written_before"): ("valid.eq(level != 0)", "valid.eq(self.write | (level != 0))"),
    ("register_file", "write_answer_kept"): ("with m.If(self.bready):", "with m.If(answered):"),
    ("register_file", "write_answer_stable"): ("has_data & ~answered", "has_data"),
    ("register_file", "read_answer_kept"): ("with m.If(offered & self.rready):", "with m.If(offered):"),
    ("register_file", "read_answer_stable"): ("with m.If(self.arvalid & ~offered):", "with m.If(self.arvalid):"),
    ("register_file", "one_answer_each"): ("has_data.eq(0), answered", "answered"),
    ("register_file", "answers_soon"): ("rvalid.eq(runs & offered)", "rvalid.eq(runs & offered & self.rready)"),
}
SOURCES = {
    "output_buffer": output_buffer,
    "framing": framing,
    "result_queue": result_queue,
    "register_file": register_file,
}


def test_every_claim_of_a_part_has_an_error():
    assert set(PART_ERRORS) == {(name, claim.name) for name, proof in PARTS.items() for claim in proof.claims}


@pytest.mark.parametrize(
    ("part", "claim"),
    [pytest.param(*key, marks=[] if key[1] in ("recovers", "kept") else [pytest.mark.slow]) for key in PART_ERRORS],
)
def test_an_error_in_a_part_breaks_its_claim(part, claim, monkeypatch):
    monkeypatch.setattr(part_proofs, part, changed(SOURCES[part], *PART_ERRORS[part, claim]))
    (verdict,) = check(PARTS[part], DEPTH, only=(claim,))
    assert verdict.status == BROKEN
    # The first cycle is the reset.
    assert len(verdict.counterexample) == verdict.cycles > 1


# Claim of a whole design → module and name whose part gets the error, and the error.
DESIGN_ERRORS = {
    "quiet_in_reset": (verilog, "Top", verilog, "core.h.valid & runs", "core.h.valid"),
    "error_kept": (verilog, "Top", verilog, "x_errors.eq(x_errors | core.x_error)", "x_errors.eq(core.x_error)"),
    "h_kept": (accelerator, "OutputBuffer", output_buffer, *PART_ERRORS["output_buffer", "kept"]),
    "h_stable": (accelerator, "OutputBuffer", output_buffer, *PART_ERRORS["output_buffer", "stable"]),
    "h_last_stable": (
        accelerator, "OutputBuffer", output_buffer,
        "bit_of(flags, send_step)", "bit_of(flags, send_step) & self.h.ready",
    ),
    "h_after_its_step": (accelerator, "OutputBuffer", output_buffer, *PART_ERRORS["output_buffer", "written_before"]),
    "h_last_in_place": (accelerator, "Framing", framing, *PART_ERRORS["framing", "one_end_each"]),
    "h_comes": (accelerator, "OutputBuffer", output_buffer, "(level != 0)", "(level > 2)"),
    "x_ready_returns": (accelerator, "Framing", framing, *PART_ERRORS["framing", "recovers"]),
    "idle_inputs_ignored": (accelerator, "Framing", framing, "(x.valid | self.filling) & room", "x.valid & room"),
}  # fmt: skip


def test_every_claim_of_a_design_has_an_error():
    claims = [claim.name for proof in (*WHOLE.values(), design_proofs.twin_proof()) for claim in proof.claims]
    assert sorted(DESIGN_ERRORS) == sorted(claims)


@pytest.mark.slow
@pytest.mark.parametrize("claim", DESIGN_ERRORS)
def test_an_error_in_a_design_breaks_its_claim(claim, monkeypatch):
    place, name, source, old, new = DESIGN_ERRORS[claim]
    monkeypatch.setattr(place, name, getattr(changed(source, old, new), name))
    proofs = [*WHOLE.values(), design_proofs.twin_proof()]
    proof = next(p for p in proofs if claim in [c.name for c in p.claims])
    (verdict,) = check(proof, DEPTH, only=(claim,))
    assert verdict.status == BROKEN


MONITORED = {
    "intact": None,
    "no place for an early last": ("self.x_last | is_last", "is_last"),
    "steps counted by beats": ("steps + step_in - step_out", "steps + step_in - self.h_taken"),
}


@pytest.mark.slow
@pytest.mark.parametrize("error", MONITORED)
def test_the_check_of_beats_gives_no_false_alarm(error, monkeypatch):
    _, proof = design_proofs.design_proofs(design_proofs.SMALL.replace({"architecture.monitor": True}))
    if MONITORED[error] is not None:
        monkeypatch.setattr(verilog, "add_beat_check", changed(monitor, *MONITORED[error]).add_beat_check)
    (verdict,) = check(proof, DEPTH, only=("no_false_alarm",))
    assert verdict.status == (HOLDS if error == "intact" else BROKEN)


def test_a_counterexample_names_the_inputs(monkeypatch):
    monkeypatch.setattr(part_proofs, "framing", changed(framing, *PART_ERRORS["framing", "error_reported"]))
    (verdict,) = check(PARTS["framing"], DEPTH, only=("error_reported",))
    # A step's last beat with last is reported as an error: three beats, the third with last.
    *_, cycle, after = verdict.counterexample
    assert (cycle["valid"], cycle["last"], cycle["room"]) == (1, 1, 1)
    assert set(after) >= {"valid", "data", "last", "room", "restart"}


def test_a_bidirectional_design_is_rejected():
    config = preset("tiny").replace({"network.bidirectional": True})
    with pytest.raises(InvalidValueError, match=re.escape("network.bidirectional must be false for a proof, not True")):
        design_proofs.design_proofs(config)


def test_the_page_states_every_claim():
    page = (Path(__file__).resolve().parents[3] / "docs" / "integrate" / "proofs.md").read_text(encoding="utf-8")
    for proof in (*PARTS.values(), *WHOLE.values(), design_proofs.twin_proof()):
        for claim in proof.claims:
            assert f"| `{claim.name}` | {claim.statement} |" in page
