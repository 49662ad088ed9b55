"""Faulty framing of x: the reference says what follows, and sequences after the fault are as if it had not been."""

import numpy as np
import pytest

from chessrnn.model.presets import preset
from chessrnn.model.reference.framed_steps import framed
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weights import random_inputs, random_weights
from chessrnn.sim.pysim import beats_of, run_accelerator
from chessrnn.sim.scenarios import Scenario, from_beats

LENGTHS = (2, 1, 2, 1, 2)
FAULTS = ("a beat too few", "a beat too many", "early last", "no last")
# Where the faults of the tests are, of which the last two sequences have none.
FAULTY = len(LENGTHS) - 2


def tiny(**settings):
    fixed = {"network.input_size": 9, "network.hidden_size": 4, "architecture.engine": "direct"}
    fixed |= {"architecture.arithmetic": "multiplier", "architecture.tile_rows": 4, "architecture.tile_cols": 2}
    return preset("tiny").replace({**fixed, **settings})


DESIGNS = {
    "lstm": tiny(),
    "gru": tiny(**{"network.cell": "gru", "quantization.weight_frac": 7, "architecture.tile_rows": 3}),
    "two layers": tiny(**{"network.num_layers": 2, "architecture.tile_cols": 1}),
    "states": tiny(**{"architecture.state_ports": True}),
    "output layer": tiny(**{"architecture.output_layer": 5}),
    "bidirectional": tiny(**{"network.bidirectional": True, "architecture.sequence_steps": 3}),
}


def broken(beats: list, fault: str, rng, step_beats: int) -> list:
    """The beats of one sequence with a fault in a random place."""
    beats, place = list(beats), int(rng.integers(len(beats)))
    if fault == "a beat too few":
        last = beats[-1][1]
        del beats[place]
        beats[-1] = (beats[-1][0], last)
    if fault == "a beat too many":
        beats.insert(place, (int(rng.integers(1 << 16)), 0))
    if fault == "early last":
        place -= place % step_beats == step_beats - 1
        beats[place] = (beats[place][0], 1)
    if fault == "no last":
        beats[-1] = (beats[-1][0], 0)
    return beats


def sequence_beats(config, rng) -> tuple[list, list]:
    """Random sequences and the beats of each."""
    q, k = config.quantization, config.block_size
    sequences = [random_inputs(config, rng, length) for length in LENGTHS]
    return sequences, [beats_of([sequence], k, q.x.width) for sequence in sequences]


def values(config, steps) -> np.ndarray:
    """Integers (steps, X) of framed steps."""
    q = config.quantization
    words = [word for step in steps for word in step.words]
    return from_beats(words, config.network.input_size, config.block_size, q.x.width)


def cut(steps) -> list:
    """Framed steps of each sequence; beats of x end with a sequence here."""
    sequences = [[]]
    for step in steps:
        sequences[-1].append(step)
        if step.last:
            sequences.append([])
    assert sequences.pop() == []
    return sequences


def check(config, per_sequence, intact, rng):
    """Simulate beats, and compare all h with the reference and those of the last sequences with what they are alone."""
    weights = random_weights(config, rng)
    beats = [beat for own in per_sequence for beat in own]
    longest = config.sequence_steps if config.network.bidirectional else None
    steps, errors = framed(beats, config.num_input_blocks, longest)
    own = cut(steps)
    h_bits = config.block_size * config.quantization.h.width

    def pairs(words):
        return [(word & ((1 << h_bits) - 1), word >> h_bits) for word in words]

    expected = pairs(Scenario(weights, tuple(values(config, part) for part in own)).h_beats)
    run = run_accelerator(weights, beats, len(expected), lambda: rng.random() < 0.7, lambda: rng.random() < 0.6)
    assert run.beats == expected
    assert run.errors == errors
    # The state of the last sequence is on its way when the run ends.
    assert not config.architecture.state_ports or run.states == len(own) - 1
    alone = pairs(Scenario(weights, tuple(intact)).h_beats)
    assert run.beats[-len(alone) :] == alone
    return errors


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_an_lstm(fault, rng):
    config = DESIGNS["lstm"]
    sequences, beats = sequence_beats(config, rng)
    beats[1] = broken(beats[1], fault, rng, config.num_input_blocks)
    errors = check(config, beats, sequences[3:], rng)
    # Without its last a sequence only becomes longer, so that the next one continues it.
    assert errors == {"no last": [], "early last": errors}.get(fault, [1])
    assert errors or fault == "no last"


@pytest.mark.parametrize("name", DESIGNS)
def test_random_faults(name, rng):
    config = DESIGNS[name]
    sequences, beats = sequence_beats(config, rng)
    for number in range(FAULTY - 1):
        beats[number] = broken(beats[number], FAULTS[rng.integers(len(FAULTS))], rng, config.num_input_blocks)
    check(config, beats, sequences[FAULTY:], rng)


def test_a_step_of_one_beat_cannot_be_broken(rng):
    config = tiny(**{"network.input_size": 4, "architecture.tile_cols": 1})
    assert config.num_input_blocks == 1
    sequences, beats = sequence_beats(config, rng)
    beats[0] = broken(beats[0], "a beat too many", rng, 1)
    assert check(config, beats, sequences[1:], rng) == []


@pytest.mark.parametrize(("contexts", "fault"), [(2, "a beat too few"), (2, "a beat too many"), (3, "early last")])
def test_contexts_keep_their_order(contexts, fault, rng):
    """Sequences that begin after the fault are exact, although a step too many moves them to other contexts."""
    config = tiny(**{"architecture.contexts": contexts})
    weights, blocks, q, k = random_weights(config, rng), config.num_input_blocks, config.quantization, config.block_size
    # Each context has three sequences of two steps, which the stream carries in turn.
    rounds, length = 3, 2
    sequences = [[random_inputs(config, rng, length) for _ in range(rounds)] for _ in range(contexts)]
    own = [beats_of(sequences[context], k, q.x.width) for context in range(contexts)]
    steps = [own[c][s * blocks : (s + 1) * blocks] for s in range(rounds * length) for c in range(contexts)]
    steps = [[(word, (s // contexts % length == length - 1) & (b == blocks - 1)) for b, (word, _) in enumerate(step)]
             for s, step in enumerate(steps)]  # fmt: skip
    # The end of the first context's first sequence is broken.
    place = contexts * (length - 1)
    steps[place] = broken(steps[place], fault, rng, blocks)
    beats = [beat for step in steps for beat in step]
    done, errors = framed(beats, blocks)

    # Step t belongs to context t mod N.
    expected = [None] * len(done)
    golden = NetworkReference(weights)
    for context in range(contexts):
        numbers = list(range(context, len(done), contexts))
        while numbers:
            end = next((i for i, number in enumerate(numbers) if done[number].last), len(numbers) - 1) + 1
            h = golden.run(values(config, [done[number] for number in numbers[:end]])[:, None])[0][:, 0]
            for number, row in zip(numbers[:end], h, strict=True):
                words = [word for word, _ in beats_of([row[None]], k, q.h.width)]
                expected[number] = [(word, 0) for word in words[:-1]] + [(words[-1], int(done[number].last))]
            numbers = numbers[end:]
    flat = [beat for step in expected for beat in step]
    run = run_accelerator(weights, beats, len(flat), lambda: rng.random() < 0.8)
    assert run.beats == flat
    assert run.errors == errors and errors
    # The last sequence of every context, step by step as the stream carries it.
    last = [golden.run(sequences[context][-1][:, None])[0][:, 0] for context in range(contexts)]
    alone = [word for s in range(length) for h in last for word, _ in beats_of([h[s : s + 1]], k, q.h.width)]
    assert [word for word, _ in run.beats[-len(alone) :]] == alone
