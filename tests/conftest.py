"""Fixtures of every test."""

import zlib

import numpy as np
import pytest
from hypothesis import settings

# Simulators and a loaded two-core machine make single examples slow: no deadline; the same examples every time, and
# fewer than the usual hundred, since most examples here are whole designs.
settings.register_profile("chessrnn", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("chessrnn")


@pytest.fixture
def rng(request) -> np.random.Generator:
    """Random numbers seeded by the test's own name: the same in every run, different between tests."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
