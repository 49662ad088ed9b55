"""Data of the commands that train: a text, and recordings with their dictionary."""

import wave

import numpy as np
import pytest
import torch

WORDS = "the cat sat on the mat and the dog ran to the red house by the sea\n"
DICTIONARY = """ZERO 1 Z IH1 R OW0
ONE 1 W AH1 N
TWO 1 T UW1
THREE 1 TH R IY1
FOUR 1 F AO1 R
FIVE 1 F AY1 V
SIX 1 S IH1 K S
SEVEN 1 S EH1 V AH0 N
EIGHT 1 EY1 T
NINE 1 N AY1 N
"""


@pytest.fixture
def torch_settings():
    """The commands set torch's threads and denormals for the whole process: afterwards they are as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.fixture
def text(tmp_path):
    """A file of one sentence, many times."""
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 150)
    return path


@pytest.fixture
def recordings(tmp_path):
    """A folder: a tone of its own for each digit, a little higher for each speaker; beside it the file cmudict."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    (tmp_path / "cmudict").write_text(DICTIONARY)
    rng = np.random.default_rng(1)
    for digit in range(10):
        for number, speaker in enumerate(("anna", "bert")):
            for take in range(0, 14, 2):
                length = int(rng.integers(1400, 2600))
                tone = np.sin(np.arange(length) * (0.15 + 0.2 * digit + 0.02 * number)) * 9000
                tone[: length // 2] = 0
                noise = rng.normal(size=length) * 200
                with wave.open(str(folder / f"{digit}_{speaker}_{take}.wav"), "wb") as file:
                    file.setparams((1, 2, 8000, 0, "NONE", ""))
                    file.writeframes((tone + noise).astype("<i2").tobytes())
    return folder
