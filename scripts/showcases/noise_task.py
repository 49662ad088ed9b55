"""Noise suppression: the GRU layers of NSNet2, whose sound is compared with that of the float model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chessrnn.model.hybrid.losses import si_sdr
from chessrnn.model.showcase.audio_streams import Mixture
from chessrnn.model.showcase.short_time_spectrum import HOP, log_power, spectra, suppressed
from chessrnn.model.showcase.voices import RATE
from chessrnn.scripts.showcases.designs import Effort
from chessrnn.scripts.showcases.noise_page import write_page
from chessrnn.scripts.showcases.task import Measured, Round, Task


def mean_si_sdr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean of the ratios of all streams (B, N) in dB."""
    return float(np.mean([si_sdr(one, other) for one, other in zip(found, wanted, strict=True)]))


class NoiseSuppression(Task):
    """NSNet2 at 16 kHz: two GRU layers of 400 units, 100 steps a second."""

    designs = ("1:8", "2:8", "4:8")
    full = Effort(48, 12, 4.0, {1: 0, 2: 200, 4: 300}, {8: 50}, batch=16, float_rate=2e-3, trains_dense=False)
    quick = Effort(8, 6, 2.0, {1: 0, 2: 4}, {8: 2}, batch=8, float_rate=2e-3, trains_dense=False)
    # A suppressor is judged by speech: there is some in every stream, and the noise is heard.
    mixture = Mixture(ratios=(0.0, 15.0), silent_share=0.0)
    steps_per_second = RATE / HOP
    # A single processing element would take 10 ms for a dense step at 250 MHz.
    settings = {"architecture.tile_rows": 4, "architecture.tile_cols": 4}
    figures = ("fidelity", "fidelity_untrained", "noisy", "clean_float", "clean_integers", "loss", "loss_untrained")
    lead, lead_unit = "fidelity", "dB SI-SDR against the float model's sound"

    def load(self) -> tuple[Path, Any]:
        """See :meth:`Task.load`."""
        from chessrnn.model.training import noise_suppression

        path = noise_suppression.suppressor_file()
        return path, noise_suppression.Suppressor(path)

    def measure(self, path: Path, weights: Any, sounds: dict[str, np.ndarray]) -> Measured:
        """See :meth:`Task.measure`."""
        from chessrnn.model.hybrid.onnx_hybrid import OnnxHybrid
        from chessrnn.whole_model import evaluate_model, hybrid

        model, noisy = hybrid(path, weights), spectra(sounds["measured"])
        assert isinstance(model, OnnxHybrid)
        _, compared = evaluate_model(model, [{model.inputs[0]: log_power(noisy)}], metric="mse")
        heard = {name: suppressed(noisy, getattr(compared, name)) for name in ("floats", "integers")}
        size = heard["floats"].shape[1]
        clean, mixed = (sounds[name][:, :size] for name in ("clean", "measured"))
        figures = {name: mean_si_sdr(sound, clean) for name, sound in {**heard, "noisy": mixed}.items()}
        figures["fidelity"] = mean_si_sdr(heard["integers"], heard["floats"])
        return Measured(figures, compared)

    def row(self, untrained: dict[str, float], trained: dict[str, float]) -> dict[str, float]:
        """See :meth:`Task.row`."""
        return {
            "fidelity": trained["fidelity"],
            "fidelity_untrained": untrained["fidelity"],
            "noisy": trained["noisy"],
            "clean_float": trained["floats"],
            "clean_integers": trained["integers"],
            "loss": trained["floats"] - trained["integers"],
            "loss_untrained": untrained["floats"] - untrained["integers"],
        }

    def facts(self, rounds: Sequence[Round]) -> dict[str, Any]:
        """Count the seconds of sound that were compared."""
        samples = rounds[0].sounds["measured"].shape[1]
        return {"seconds_measured": sum(len(one.sounds["names"]) for one in rounds) * samples / RATE}

    def write_page(self, folder: Path, report: dict[str, Any], first: Round) -> Path:
        """See :meth:`Task.write_page`."""
        return write_page(folder, report, first.sounds, first.outputs)

    def heads(self, report: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        """See :meth:`Task.heads`."""
        row = report["designs"][0]
        title = f"{report['seconds_measured']:.0f} s of voices and noises that training did not hear"
        ratios = f"SI-SDR {row['noisy']:.2f} dB noisy, {row['clean_float']:.2f} dB by the float model"
        own = ("to float dB", "untrained dB", "to clean dB", "loss dB", "untrained loss")
        return f"{title}; speech: {report['speech']}; {ratios}", own

    def cells(self, row: dict[str, Any]) -> tuple[str, ...]:
        """See :meth:`Task.cells`."""
        return tuple(
            f"{row[name]:.2f}"
            for name in ("fidelity", "fidelity_untrained", "clean_integers", "loss", "loss_untrained")
        )
