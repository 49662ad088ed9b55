"""Speech activity: the LSTM of Silero VAD, whose decisions at 0.5 are compared with those of the float model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chessrnn.model.showcase.speech_frames import CHUNK, CONTEXT, RATE, detector_file
from chessrnn.scripts.showcases.designs import Effort
from chessrnn.scripts.showcases.speech_page import write_page
from chessrnn.scripts.showcases.task import Measured, Round, Task


def calls_of(samples: np.ndarray) -> np.ndarray:
    """Cut streams (B, N) into the calls of the detector (T, B, 576): 512 samples with the 64 before them."""
    chunks = samples.shape[1] // CHUNK
    padded = np.pad(samples[:, : chunks * CHUNK], ((0, 0), (CONTEXT, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + CHUNK, axis=1)[:, ::CHUNK]
    return np.ascontiguousarray(windows.swapaxes(0, 1))


class SpeechActivity(Task):
    """Silero VAD: 128 inputs, 128 units, 31.25 steps a second."""

    designs = ("1:8", "2:8", "4:8", "8:8", "4:4", "8:4")
    # At the same cost, batches of 16 streams learn more than those of 32 or 8 (docs/results/speech-activity.md).
    full = Effort(768, 48, 8.0, {1: 0, 2: 4000, 4: 10_000}, {8: 600, 4: 1500}, batch=16)
    quick = Effort(24, 12, 4.0, {1: 0, 2: 20, 4: 40, 8: 60}, {8: 10, 4: 20})
    steps_per_second = RATE / CHUNK
    figures = ("agreement", "false_speech", "missed_speech", "speech_share", "agreement_untrained")
    lead, lead_unit = "agreement", "% equal decisions"

    def load(self) -> tuple[Path, Any]:
        """See :meth:`Task.load`."""
        from chessrnn.model.training import speech_activity

        path = detector_file()
        return path, speech_activity.Detector(path)

    def measure(self, path: Path, weights: Any, sounds: dict[str, np.ndarray]) -> Measured:
        """See :meth:`Task.measure`."""
        from chessrnn.whole_model import evaluate_model, hybrid

        calls = calls_of(sounds["measured"])
        state = np.zeros((2, calls.shape[1], 128), dtype=np.float32)
        inputs = [{"input": call, "sr": 16000, "state": state} for call in calls]
        return Measured(*evaluate_model(hybrid(path, weights), inputs, feedback={"stateN": "state"}, output="output"))

    def row(self, untrained: dict[str, float], trained: dict[str, float]) -> dict[str, float]:
        """See :meth:`Task.row`."""
        return {
            "agreement": trained["agreement"],
            "false_speech": trained["false_yes"],
            "missed_speech": trained["missed_yes"],
            "speech_share": trained["float_yes"],
            "agreement_untrained": untrained["agreement"],
        }

    def facts(self, rounds: Sequence[Round]) -> dict[str, Any]:
        """Count the decisions that were compared."""
        batches = [len(one.sounds["names"]) for one in rounds]
        calls = calls_of(rounds[0].sounds["measured"])
        return {"frames_measured": len(calls) * sum(batches)}

    def write_page(self, folder: Path, report: dict[str, Any], first: Round) -> Path:
        """See :meth:`Task.write_page`."""
        return write_page(folder, report, first.sounds["measured"], first.outputs)

    def heads(self, report: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        """See :meth:`Task.heads`."""
        what = "frames of voices and noises that training did not hear"
        own = ("equal %", "false %", "missed %", "untrained %")
        return f"{report['frames_measured']} {what}; speech: {report['speech']}", own

    def cells(self, row: dict[str, Any]) -> tuple[str, ...]:
        """See :meth:`Task.cells`."""
        names = ("agreement", "false_speech", "missed_speech", "agreement_untrained")
        return tuple(f"{row[name]:.2f}" for name in names)
