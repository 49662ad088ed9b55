import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chessrnn.model.schedule import Schedule
from chessrnn.sim.scenarios import from_beats, random_config, random_scenario, to_beats


@given(st.integers(1, 20), st.sampled_from([1, 2, 4, 8, 16]), st.integers(2, 16), st.integers(0, 2**31))
def test_beats_are_invertible(size, k, bits, seed):
    values = np.random.default_rng(seed).integers(-(1 << (bits - 1)), 1 << (bits - 1), size=(4, size))
    beats = to_beats(values, k, bits)
    assert len(beats) == 4 * -(-size // k)
    assert np.array_equal(from_beats(beats, size, k, bits), values)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_beats_of_a_scenario(seed):
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    scenario = random_scenario(config, rng)
    assert 1 in scenario.lengths
    last = config.block_size * config.quantization.h.width
    blocks, h = config.num_stream_blocks, scenario.h_values(scenario.h_beats)
    longest = config.sequence_steps if config.network.bidirectional else max(scenario.lengths)
    assert len(h) == scenario.num_steps
    ends = [index for index, beat in enumerate(scenario.h_beats) if beat >> last]
    if config.architecture.state_ports:
        assert len(scenario.expected_states) == len(ends)
        assert scenario.num_state_beats == len(ends) * Schedule(config).state_beats
    assert all(index % blocks == blocks - 1 for index in ends)
    for number, length in enumerate(scenario.lengths):
        places = scenario.steps_of(number)
        assert len(places) == length
        assert {place % config.architecture.contexts for place in places} == {number % config.architecture.contexts}
        found = [place * blocks + blocks - 1 in ends for place in places]
        assert found == [step % longest == longest - 1 or step == length - 1 for step in range(length)]
        assert np.array_equal(h[places], scenario.expected[number])
