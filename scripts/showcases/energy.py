"""Energy of a second of sound, from a synthesized design at the slowest clock that keeps up."""

import sys
from pathlib import Path
from typing import Any


def library_from(path: Path | None):
    """Load the standard-cell library before anything is trained, so that a wrong file is named at once."""
    if path is None:
        return None
    from chessrnn.sim.synthesis.job import tools
    from chessrnn.sim.synthesis.library import load_libraries

    tools()  # a missing one is named before training
    return load_libraries([path])[0]


def energy_of(weights, features, library, folder: Path, steps_per_second: float) -> dict[str, Any]:
    """Synthesize a design, and measure its energy on sounds (T, B, X) at the clock that just keeps up with them.

    At that clock every second of audio takes a second, so that the energy contains the leakage of the whole time.
    """
    from chessrnn.hdl.verilog import TOP_MODULE, generate
    from chessrnn.model.prediction import input_codes
    from chessrnn.model.schedule import Schedule
    from chessrnn.sim.synthesis.flow import TARGET_FO4
    from chessrnn.sim.synthesis.job import run
    from chessrnn.sim.synthesis.power import measure, steps_of

    config, loudest = weights.config, int(features.abs().sum(dim=2).mean(dim=0).argmax())
    middle = len(features) // 2
    x = input_codes(weights, features[middle : middle + steps_of(config), loudest : loudest + 1].double().numpy())[:, 0]
    clock_mhz = Schedule(config).initiation_interval * steps_per_second / 1e6

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    place = folder / "synthesis"
    _, result = run(config, generate(config), TOP_MODULE, library, TARGET_FO4, place, True, progress)
    found = measure(result, weights, x, "features of sounds", clock_mhz)
    return {
        "library": library.name,
        "voltage": found["voltage"],
        "clock_mhz": clock_mhz,
        "nj_per_step": found["nj_per_step"],
        "uj_per_second": found["nj_per_step"] * steps_per_second / 1e3,
        "leakage_uj_per_second": found["leakage_mw"] * 1e3,
        "how": found["activity"],
    }
