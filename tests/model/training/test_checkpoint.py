"""Checkpoints: what is read is what was written, or it is refused in one line."""

import math

import pytest
import torch

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.training.checkpoint import content_digest, load_checkpoint, save_checkpoint

KINDS = {"step": int, "best": (int, float), "network": dict, "states": list}


def content() -> dict:
    generator = torch.Generator().manual_seed(1)
    network = {"w": torch.randn(3, 4, generator=generator), "n": torch.tensor(3), "flag": torch.tensor([True, False])}
    return {"step": 3, "best": math.inf, "network": network, "states": [None, (torch.zeros(0), torch.ones(2).half())]}


def test_round_trip(tmp_path):
    save_checkpoint(tmp_path / "a" / "a.pt", content())
    found = load_checkpoint(tmp_path / "a" / "a.pt", KINDS)
    assert content_digest({key: found[key] for key in content()}) == content_digest(content()) == found["sha256"]
    assert torch.equal(found["network"]["w"], content()["network"]["w"])
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["a.pt"]


def test_the_digest_tells_everything_apart():
    changes = [
        lambda c: c.update(step=4),
        lambda c: c.update(step=3.0),
        lambda c: c.update(step=True),
        lambda c: c.update(best=0.0),
        lambda c: c.update(more=None),
        lambda c: c["network"].update(w=c["network"]["w"].double()),
        lambda c: c["network"].update(w=c["network"]["w"].reshape(4, 3)),
        lambda c: c["network"]["w"].view(-1)[5:6].neg_(),
        lambda c: c["network"]["flag"].logical_not_(),
        lambda c: c.update(states=tuple(c["states"])),
        lambda c: c["states"].reverse(),
        lambda c: c["states"].append(None),
    ]
    digests = [content_digest(content())]
    for change in changes:
        changed = content()
        change(changed)
        digests.append(content_digest(changed))
    assert len(set(digests)) == len(changes) + 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c.pop("network"), "network is missing"),
        (lambda c: c.update(network=[1]), "network must not be of type list"),
        (lambda c: c.update(step="3"), "step must not be of type str"),
        (lambda c: c.update(states=None), "states must not be of type NoneType"),
    ],
)
def test_missing_and_mistyped_keys(change, text, tmp_path):
    changed = content()
    change(changed)
    save_checkpoint(tmp_path / "a.pt", changed)
    with pytest.raises(InvalidFileError, match=f"a.pt must be a whole checkpoint: {text}$"):
        load_checkpoint(tmp_path / "a.pt", KINDS)


@pytest.mark.parametrize("value", [3, [1, 2], torch.zeros(3)])
def test_what_is_no_dictionary(value, tmp_path):
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(InvalidFileError, match=f"a.pt must be a whole checkpoint, not '{type(value).__name__}'$"):
        load_checkpoint(tmp_path / "a.pt", KINDS)


def test_a_checkpoint_without_a_digest(tmp_path):
    torch.save(content(), tmp_path / "a.pt")
    with pytest.raises(InvalidFileError, match="whole checkpoint: sha256 must be [0-9a-f]{64}, not None$"):
        load_checkpoint(tmp_path / "a.pt", KINDS)


def test_no_flipped_bit_loads_as_something_else(tmp_path, rng):
    path = tmp_path / "a.pt"
    save_checkpoint(path, content())
    whole, digest = path.read_bytes(), content_digest(content())
    messages = []
    for place in rng.integers(0, 8 * len(whole), 400).tolist():
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            found = load_checkpoint(path, KINDS)
        except InvalidFileError as error:
            messages.append(str(error))
        else:
            # The padding of the archive, and nothing else, may change without effect.
            assert content_digest({key: value for key, value in found.items() if key != "sha256"}) == digest
    assert len(messages) > 40
    assert not any("\n" in message for message in messages)


def test_every_weight_is_covered(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, content())
    whole, weights = path.read_bytes(), content()["network"]["w"].numpy().tobytes()
    begin = whole.index(weights)
    for place in range(8 * begin, 8 * (begin + len(weights)), 7):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(InvalidFileError, match="must be a whole checkpoint"):
            load_checkpoint(path, KINDS)
