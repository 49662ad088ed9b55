import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from chessrnn.model.schedule import Schedule
from chessrnn.model.state_beats import pack_state, state_bits, state_segments, unpack_state
from chessrnn.sim.scenarios import random_config, random_state


@given(st.integers(0, 2**32 - 1))
def test_a_state_survives_its_beats(seed):
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    # Bidirectional networks have no state ports.
    assume(not config.network.bidirectional)
    state = random_state(config, rng)
    words = pack_state(config, state)
    assert len(words) == Schedule(config).state_beats == sum(segment.beats for segment in state_segments(config))
    assert max(words).bit_length() <= state_bits(config)
    for (h, c), (found_h, found_c) in zip(state, unpack_state(config, words), strict=True):
        assert np.array_equal(found_h, h)
        assert np.array_equal(found_c, c if config.cell.has_state else h)
