"""What every task of the showcase does: sounds, designs, measurement with the model's own file, a report and a page."""

import hashlib
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from chessrnn.model.errors import MissingToolError
from chessrnn.model.files import make_folder, write_atomic
from chessrnn.model.hybrid.evaluation import Comparison
from chessrnn.model.progress import elapsed
from chessrnn.model.showcase.audio_streams import EVERYDAY, Mixture
from chessrnn.model.showcase.hardware_figures import SMALLEST, hardware_figures
from chessrnn.model.showcase.noises import HELD_OUT
from chessrnn.model.weight_image import WeightImage
from chessrnn.scripts.cli import note, print_table
from chessrnn.scripts.showcases.compression import all_trained
from chessrnn.scripts.showcases.designs import Design, Effort
from chessrnn.scripts.showcases.energy import energy_of, library_from
from chessrnn.scripts.showcases.sounds import sounds_from, voices_from


class Request(NamedTuple):
    """What the user asks for.

    Attributes
    ----------
    audio, liberty : Path or None
        Folder of recordings; standard-cell library.
    speaker : str or None
        Expression that names the speaker of a recording.
    designs : sequence of Design
    quick, untrained, json : bool
        Whether to train for seconds only, or not at all, and to print the report as JSON.
    longer : int
        Factor of the updates and of the streams to train with.
    seeds : sequence of int
    workers : int
        Block sizes that are trained at the same time.
    output : Path
    """

    audio: Path | None
    liberty: Path | None
    speaker: str | None
    designs: Sequence[Design]
    quick: bool
    untrained: bool
    json: bool
    longer: int
    seeds: Sequence[int]
    workers: int
    output: Path


class Measured(NamedTuple):
    """What a design did to all sounds that it was measured with.

    Attributes
    ----------
    figures : dict of str to float
        Losses of the application.
    comparison : Comparison
        Outputs of the model, from both runs.
    """

    figures: dict[str, float]
    comparison: Comparison


class Round(NamedTuple):
    """Everything that was made and measured with one seed.

    Attributes
    ----------
    source : str
        Origin of the speech, for the report.
    rows : list of dict
        Figures of every design.
    sounds : dict of str to array
        See :func:`.sounds.sounds_from`.
    features : tensor (T, B, X)
        Inputs of the recurrent layers for the streams that are trained with.
    outputs, weights : dict
        Outputs and integers of every design by its name.
    """

    source: str
    rows: list[dict[str, Any]]
    sounds: dict[str, np.ndarray]
    features: Any
    outputs: dict[str, Comparison]
    weights: dict[str, Any]

    def figures_only(self) -> "Round":
        """Return the round without sounds and weights, which would fill the memory for many seeds."""
        sounds = {name: values[:0] if values.ndim > 1 else values for name, values in self.sounds.items()}
        return self._replace(sounds=sounds, features=None, outputs={}, weights={})


class Task(ABC):
    """A public network, and what it is used for.

    Attributes
    ----------
    designs : tuple of str
        Designs that are tried where the user names none, as K:BITS.
    full, quick : Effort
    mixture : Mixture
        How speech and noise are mixed.
    steps_per_second : float
        How often the network is called.
    settings : dict
        Architecture of every design, by dotted name.
    figures : tuple of str
        Names of the figures that differ between seeds.
    lead, lead_unit : str
        The figure that says most, and what it counts.
    """

    designs: ClassVar[tuple[str, ...]]
    full: ClassVar[Effort]
    quick: ClassVar[Effort]
    mixture: ClassVar[Mixture] = EVERYDAY
    steps_per_second: ClassVar[float]
    settings: ClassVar[dict[str, Any]] = SMALLEST
    figures: ClassVar[tuple[str, ...]]
    lead: ClassVar[str]
    lead_unit: ClassVar[str]

    @abstractmethod
    def load(self) -> tuple[Path, Any]:
        """Find the model's file, and load the float model that teaches.

        Raises
        ------
        MissingToolError
            The model's package is not installed.
        ImportError
            A package that this project uses is not installed.
        """

    @abstractmethod
    def measure(self, path: Path, weights: Any, sounds: dict[str, np.ndarray]) -> Measured:
        """Run the model's own file on the sounds, as it is and with integers inside."""

    @abstractmethod
    def row(self, untrained: dict[str, float], trained: dict[str, float]) -> dict[str, float]:
        """Name the figures of a design for the report."""

    @abstractmethod
    def facts(self, rounds: Sequence[Round]) -> dict[str, Any]:
        """Collect what only the report of this task says."""

    @abstractmethod
    def write_page(self, folder: Path, report: dict[str, Any], first: Round) -> Path:
        """Write the page with its pictures, from the report and the sounds of the first seed."""

    @abstractmethod
    def heads(self, report: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Line above the table on the terminal, and the heads of the task's own columns."""

    @abstractmethod
    def cells(self, row: dict[str, Any]) -> tuple[str, ...]:
        """Cells of the task's own columns."""

    # -- the same for all ------------------------------------------------------------------------------------------

    def run(self, request: Request) -> None:
        """Make sounds, train every design, measure, write the page, and print the figures."""
        library = library_from(request.liberty)
        try:
            path, model = self.load()
        except ImportError:
            raise MissingToolError("torch and onnx must be installed: make showcase") from None
        effort, folder = self.quick if request.quick else self.full, request.output
        effort = effort.untrained() if request.untrained else effort.longer(request.longer)
        # Files of the first seed are those of the folder; the others have folders of their own below it.
        first = self._one_seed(request, request.seeds[0], folder, path, model, effort)
        others = (
            self._one_seed(request, seed, folder / f"seed{seed}", path, model, effort).figures_only()
            for seed in request.seeds[1:]
        )
        rounds = [first, *others]
        rows = [self.joined([one.rows[place] for one in rounds]) for place in range(len(first.rows))]
        if library is not None:
            smallest = min(rows, key=lambda row: row["weight_bytes"])
            weights = first.weights[smallest["name"]]
            smallest["energy"] = energy_of(weights, first.features, library, folder, self.steps_per_second)
        report = {
            "speech": first.source,
            "voices_measured": sorted({name for one in rounds for name in one.sounds["names"].tolist()}),
            "noises_measured": list(HELD_OUT),
            **self.facts(rounds),
            "seconds_trained": 0.0 if request.untrained else effort.trained * effort.seconds,
            "quick": request.quick,
            "untrained": request.untrained,
            "longer": request.longer,
            "seed": request.seeds[0],
            "seeds": list(request.seeds),
            "designs": rows,
        }
        write_atomic(folder / "results.json", json.dumps(report, indent=2) + "\n")
        page = self.write_page(folder, report, first)
        if request.json:
            print(json.dumps(report, indent=2))
        else:
            self.print_rows(report)
            print_table(
                [("page", str(page)), ("designs", f"{folder}/NAME.json and .safetensors, for chessrnn verilog")]
            )

    def _one_seed(self, request: Request, seed: int, folder: Path, path: Path, model: Any, effort: Effort) -> Round:
        """Make the sounds of a seed, and train and measure every design with them."""
        voices, source = voices_from(request.audio, request.speaker, seed)
        print(f"seed {seed}, speech: {source}, {len({voice.name for voice in voices})} voices", file=sys.stderr)
        sounds = sounds_from(make_folder(folder), voices, effort, self.mixture, seed, source, request.audio)
        with elapsed("features"):
            features = model.features(sounds["trained"])
        digest = hashlib.sha256(sounds["trained"].tobytes()).hexdigest()
        rows, outputs, weights = [], {}, {}
        others = model, features, folder, effort, digest, seed, self.settings
        integers_of = all_trained(request.designs, request.workers, *others)
        for one in sorted(integers_of):
            before, after = integers_of[one]
            found = {}
            for name, integers in (("untrained", before), ("trained", after)):
                if integers is before and found:
                    found[name] = found["untrained"]
                    continue
                with elapsed(f"{one.name}, {name}, in onnxruntime"):
                    found[name] = self.measure(path, integers, sounds)
            row = self._written(one, after, self.row(found["untrained"].figures, found["trained"].figures), folder)
            rows.append(row)
            outputs[one.name], weights[one.name] = found["trained"].comparison, after
            print(f"{one.name}: {row[self.lead]:.2f} {self.lead_unit}", file=sys.stderr)
        return Round(source, rows, sounds, features, outputs, weights)

    def _written(self, one: Design, weights: Any, figures: dict[str, float], folder: Path) -> dict[str, Any]:
        """Write the files of a design; return its row of the report."""
        config = weights.config.replace({"name": one.name})
        row = {"name": one.name, "k": one.block_size, "weight_bits": one.weight_bits, **figures}
        row |= hardware_figures(config, self.steps_per_second)
        image = WeightImage(replace(weights, config=config), metrics=row, command="chessrnn showcase")
        image.save(folder / f"{one.name}.safetensors")
        write_atomic(folder / f"{one.name}.json", config.to_json())
        return row

    def joined(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Join the rows of a design of all seeds: means, and the values of each where there are several."""
        row = dict(rows[0])
        for key in self.figures:
            values = [one[key] for one in rows]
            row[key] = sum(values) / len(values)
            if len(rows) > 1:
                row[f"{key}_by_seed"] = values
        return row

    def print_rows(self, report: dict[str, Any]) -> None:
        """Print the table of all designs."""
        title, own = self.heads(report)
        print(title)
        heads = ("k", "bits", "removed %", *own, "bytes", "mm2 90nm", "cycles")
        print("  ".join(heads), " smallest board, smallest FPGA")
        for row in report["designs"]:
            values = (
                str(row["k"]), str(row["weight_bits"]), f"{row['removed_percent']:.1f}", *self.cells(row),
                str(row["weight_bytes"]), f"{row['area_mm2_90nm']:.3f}", str(row["cycles"]),
            )  # fmt: skip
            shown = "  ".join(f"{value:>{len(head)}}" for head, value in zip(heads, values, strict=True))
            fpga = f"{row['fpga']['part']} ({row['fpga']['engine']} engine)" if row["fpga"] else "none"
            print(f"{shown}  {row['board'] or 'none'}, {fpga}")
        for row in report["designs"]:
            values = row.get(f"{self.lead}_by_seed", [])
            if values:
                print(f"{row['name']}: {min(values):.2f} to {max(values):.2f} {self.lead_unit}, {len(values)} seeds")
            if "energy" in row:
                energy = row["energy"]
                leakage = f"{energy['leakage_uj_per_second']:.2f} of them leakage"
                joules = f"{energy['uj_per_second']:.2f} uJ per second of audio"
                print(f"{row['name']}: {joules} in {energy['library']}, {leakage}")
        if report["quick"]:
            note("--quick trains for seconds: the figures say that everything runs, no more")
