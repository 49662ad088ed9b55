"""The study: what compression costs, row by row, measured on the integer reference over whole test sets."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from model.config import Config
from model.files import write_atomic
from model.training.export import sequence_model
from model.training.network import SequenceNetwork
from model.training.pipeline import Stage, StageSettings, is_main_process, run_stage
from model.training.tasks.base import Task


@dataclass(frozen=True)
class Budget:
    """Updates of every stage, equal for all rows.

    Parameters
    ----------
    dense, circulant, approximate, quantized : int
        Updates.  The dense baseline is trained for their sum, with the same warm restarts of its learning rate.
    batch, evaluate_every : int
    learning_rate : float
        Peak of the dense and the circulant stage.
    quantized_rate : float
        Peak of the other two.
    seed : int
    """

    dense: int
    circulant: int
    approximate: int
    quantized: int
    batch: int = 32
    evaluate_every: int = 250
    learning_rate: float = 5e-3
    quantized_rate: float = 1.5e-3
    seed: int = 1

    def settings(self, stage: str, distillation: float = 0.0, factor: float = 1.0) -> StageSettings:
        """Settings of the stage that a field names."""
        updates = max(1, round(getattr(self, stage) * factor))
        rate = self.learning_rate if stage in ("dense", "circulant") else self.quantized_rate
        return StageSettings(
            updates, self.batch, rate, warmup=min(50, -(-updates // 10)), distillation=distillation, seed=self.seed,
            evaluate_every=min(self.evaluate_every, updates),
        )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    label : str
    stage : Stage
    note : str
        What is unusual about it.
    """

    label: str
    stage: Stage
    note: str = ""


class Rows:
    """Stages of one task, made of a few settings and shared where they are equal.

    Parameters
    ----------
    input_size, hidden_size : int
    budget : Budget
    """

    def __init__(self, input_size: int, hidden_size: int, budget: Budget):
        self.input_size, self.hidden_size, self.budget = input_size, hidden_size, budget

    def config(self, block_size: int = 1, bits: int = 8, activation: str = "pwl", hidden: int | None = None) -> Config:
        """Sizes and bits."""
        return Config.from_dict(
            {
                "network": {"input_size": self.input_size, "hidden_size": hidden or self.hidden_size},
                "compression": {"block_size": block_size},
                "quantization": {"weight_bits": bits},
                "activation": {"kind": activation, "segments": 16 if activation == "pwl" else 6},
                "architecture": {"tile_rows": 1, "tile_cols": 1},
            }
        )

    def dense(self) -> Stage:
        """The float network that the others start from."""
        return Stage("dense-start", "float", self.config(), self.budget.settings("dense"))

    def baseline(self) -> Row:
        """Dense float, trained on for as long as any compressed network."""
        stage = self.dense()
        for index, name in enumerate(("circulant", "approximate", "quantized"), 1):
            stage = Stage(f"dense-{index}", "float", self.config(), self.budget.settings(name), parent=stage)
        return Row("dense float", replace(stage, name="dense"))

    def circulant(self, block_size: int, *, sizes: tuple[int, int] | None = None, distillation: float = 0.0,
                  scratch: bool = False, hidden: int | None = None, factor: float = 1.0) -> Row:  # fmt: skip
        """Projected and retrained in float; ``scratch``: from random weights, for the projected one's whole budget."""
        name = f"k{block_size}" if sizes is None else f"kx{sizes[0]}-kh{sizes[1]}"
        name += f"-h{hidden}" if hidden else ""
        name += "-scratch" if scratch else ""
        name += "-distilled" if distillation else ""
        name += f"-x{factor:g}" if factor != 1 else ""
        settings = self.budget.settings("circulant", distillation, factor)
        parent = None
        if scratch or hidden:
            settings = replace(settings, updates=settings.updates + self.budget.dense)
        else:
            parent = self.dense()
        teacher = self.baseline().stage if distillation else None
        config = self.config(1 if sizes else block_size, hidden=hidden)
        stage = Stage(name, "float", config, settings, sizes, parent, teacher=teacher)
        return Row(f"circulant float, {self._sizes(stage)}", stage)

    def quantized(self, parent: Row, bits: int, activation: str = "pwl", distillation: float = 0.0,
                  factor: float = 1.0) -> Row:  # fmt: skip
        """Approximated activations, then few-bit integers."""
        stage = parent.stage
        old = stage.config
        config = self.config(old.block_size, bits, activation, old.network.hidden_size)
        teacher = self.baseline().stage if distillation else None
        distilled = "-d" if distillation else ""
        more = f"-x{factor:g}" if factor != 1 else ""
        kind = "" if activation == "pwl" else f"-{activation}"
        approximate = Stage(
            f"{stage.name}{kind}-approximate{distilled}", "approximate",
            self.config(old.block_size, 8, activation, old.network.hidden_size),
            self.budget.settings("approximate", distillation), stage.block_sizes, stage, teacher=teacher,
        )  # fmt: skip
        final = Stage(
            f"{stage.name}{kind}-b{bits}{distilled}{more}", "quantized", config,
            self.budget.settings("quantized", distillation, factor), stage.block_sizes, approximate, teacher=teacher,
        )  # fmt: skip
        return Row(f"{bits} bit, {self._sizes(final)}", final)

    @staticmethod
    def _sizes(stage: Stage) -> str:
        if stage.block_sizes:
            return f"k = {stage.block_sizes[0]} in W_x, {stage.block_sizes[1]} in W_h"
        return f"k = {stage.config.block_size}"


def weight_bytes(stage: Stage) -> int:
    """Bytes of W_x and W_h; biases, embedding and output layer are not counted."""
    network = stage.config.network
    bits = stage.config.quantization.weight_bits if stage.kind == "quantized" else 32
    total = 0
    for k, cols in zip(
        stage.block_sizes or (stage.config.block_size,) * 2, (network.input_size, network.hidden_size), strict=True
    ):
        total += stage.config.num_gates * -(-network.hidden_size // k) * -(-cols // k) * k * bits
    return -(-total // 8)


def removed_percent(stage: Stage, hidden_size: int) -> float:
    """Of the weight memory of the dense float32 network with H = ``hidden_size``."""
    smallest = {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.lookahead": None}
    dense = stage.config.replace({"network.hidden_size": hidden_size, **smallest}).dense_float_bytes
    return 100 * (1 - weight_bytes(stage) / dense)


def _known(path: Path) -> dict:
    """Figures that were measured before; what is no such file is measured again."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def run_row(row: Row, task: Task, folder: Path, hidden_size: int, train: bool = True) -> dict | None:
    """Train what is missing, measure on the test split, and remember the figures beside the checkpoint.

    Returns
    -------
    dict or None
        Figures by name; ``None`` for what is not finished and must not be trained now.
    """
    stage = row.stage
    key = hashlib.sha256(
        json.dumps([task.name, task.fingerprint, stage.description()], sort_keys=True).encode()
    ).hexdigest()  # fmt: skip
    path = folder / f"{stage.name}.json"
    known = _known(path)
    if known.get("key") == key:
        return known | {"label": row.label, "note": row.note}
    if not train:
        return None
    network = run_stage(stage, task, folder)
    result = {
        "label": row.label,
        "note": row.note,
        "name": stage.name,
        "task": task.name,
        "block_sizes": list(network.layer.block_sizes),
        "hidden_size": stage.config.network.hidden_size,
        "weight_bits": stage.config.quantization.weight_bits if stage.kind == "quantized" else 32,
        "weight_frac": list(network.config.quantization.weight_frac) if stage.kind == "quantized" else None,
        "activation": stage.config.activation.kind if stage.kind != "float" else "true",
        "arithmetic": "integer reference" if stage.kind == "quantized" else "float32",
        "weight_bytes": weight_bytes(stage),
        "removed_percent": round(removed_percent(stage, hidden_size), 2),
        "updates": stage.total_updates,
        "figures": task.measure(measured_model(network), "test"),
        "key": key,
    }
    if is_main_process():
        write_atomic(path, json.dumps(result, indent=2) + "\n")
    return result


def measured_model(network: SequenceNetwork):
    """What the figures of a network are measured on: the integer reference, once there are integers."""
    return sequence_model(network) if network.quantized else network


def run_rows(
    rows: list[Row],
    task: Task,
    folder: Path,
    hidden_size: int,
    show: Callable[[dict], None],
    train: bool = True,
) -> list[dict]:
    """Every row, each given to ``show`` when it is done, beside the first, which is the dense baseline."""
    results = []
    for row in rows:
        result = run_row(row, task, folder, hidden_size, train)
        if result is None:
            if not results:
                break
            continue
        base = (results[0] if results else result)["figures"][task.metric]
        value = result["figures"][task.metric]
        # Perplexity is compared by ratio, error rates by difference.
        relative = task.metric == "perplexity"
        result |= {
            "metric": task.metric,
            "value": value,
            "loss_unit": "% relative" if relative else "points",
            "loss": 100 * (value / base - 1) if relative else value - base,
        }
        results.append(result)
        show(result)
    return results
