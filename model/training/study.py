"""The study of what compression costs, row by row, measured on the integer reference over whole test sets.

:data:`STUDIES` defines what is trained: one entry for each table, with its budget and its rows.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from chessrnn.model.cells import CELLS
from chessrnn.model.circulant import num_blocks
from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidFileError, require
from chessrnn.model.files import write_atomic
from chessrnn.model.text_file import read_json
from chessrnn.model.training.export import sequence_model
from chessrnn.model.training.pipeline import DISTILLATION, Stage, StageSettings, best_of, is_main_process, run_stage
from chessrnn.model.training.plain_network import MODULES, PlainScript, train_plain
from chessrnn.model.training.progressive import through_wider_weights
from chessrnn.model.training.sequence_network import SequenceNetwork
from chessrnn.model.training.tasks import fsdd
from chessrnn.model.training.tasks.base import Task

# The final value of StageSettings.pull in the row that pulls the weights.
PULL = 0.1
# Ways to train the integer stages, of which the rows of this remark have one each.
LEVERS_OFF = {"distillation": 0.0, "progressive": False, "learned_scales": False}
LEVERS = {
    "neither distilled, progressive nor with learned scales": {},
    "distilled only": {"distillation": DISTILLATION},
    "progressive only": {"progressive": True},
    "learned scales only": {"learned_scales": True},
    "scales of block rows only": {"row_scales": True},
    "learned scales of block rows only": {"learned_scales": True, "row_scales": True},
    "half levels only": {"half_levels": True},
    "distilled, progressive, learned scales of block rows": {
        "distillation": DISTILLATION, "progressive": True, "learned_scales": True, "row_scales": True,
    },
    "distilled, progressive, learned scales of block rows, half levels": {
        "distillation": DISTILLATION, "progressive": True, "learned_scales": True, "row_scales": True,
        "half_levels": True,
    },
}  # fmt: skip
# Block size → bits of the projected and retrained networks.
PROJECTED_BITS = {4: (8, 4, 3, 2), 8: (8, 6, 4, 3), 16: (8, 4)}
# Peak learning rate of quantized stages in which trained scales of block rows normalise the weights.
NORMALIZED_RATE = 0.05
# Name of the plain script's row, and how much worse than it the dense baseline may be, in percent or points.
PLAIN, PLAIN_TOLERANCE = "plain", 1.0


@dataclass(frozen=True)
class Budget:
    """Budget of training: the updates of every stage, equal for all rows.

    Parameters
    ----------
    dense, circulant, approximate, quantized : int
        Updates of each stage.  The dense baseline is trained for their sum.
    batch, evaluate_every : int
    learning_rate : float
        Peak learning rate of the dense and the circulant stage.
    quantized_rate : float
        Peak learning rate of the other two stages.
    retraining_rate : float or None
        Peak learning rate of the other two stages of compressed networks; ``None`` is :data:`NORMALIZED_RATE` for
        weights that are normalised, and ``quantized_rate`` for others.
    cell_limit : float or None
        Limit of the cell state in float stages: see :class:`chessrnn.model.training.pipeline.StageSettings`.
    reset_every : int or None
        Text tasks only: updates between state resets.
    dropout : float
        Dropout of the output layer's inputs in all stages.
    distillation : float
        Share of the loss of a compressed network's last two stages that comes from the dense baseline as teacher.
    progressive : bool
        Whether quantized stages go through wider weights: see :func:`.progressive.through_wider_weights`.
    learned_scales : bool
        Whether quantized stages train the scales of the weights as well.
    row_scales : bool
        Whether every block row of a quantized stage has a scale of its own (``quantization.weight_scale``).
    half_levels : bool
        Whether the weights of a quantized stage are odd integers (``quantization.weight_levels``).
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
    retraining_rate: float | None = None
    cell_limit: float | None = None
    reset_every: int | None = None
    dropout: float = 0.0
    distillation: float = DISTILLATION
    progressive: bool = True
    learned_scales: bool = False
    row_scales: bool = False
    half_levels: bool = False
    seed: int = 1

    def scaled(self, factor: float) -> "Budget":
        """Multiply the updates of every stage by a factor."""
        names = ("dense", "circulant", "approximate", "quantized")
        return replace(self, **{name: max(1, round(getattr(self, name) * factor)) for name in names})

    @property
    def total(self) -> int:
        """Number of updates of every network."""
        return self.dense + self.circulant + self.approximate + self.quantized

    def settings(self, stage: str, distillation: float = 0.0, factor: float = 1.0) -> StageSettings:
        """Create the settings of the stage that one of the fields names."""
        updates = max(1, round(getattr(self, stage) * factor))
        rate = self.learning_rate if stage in ("dense", "circulant") else self.quantized_rate
        return StageSettings(
            updates, self.batch, rate, warmup=min(50, -(-updates // 10)), distillation=distillation, seed=self.seed,
            cell_limit=self.cell_limit, reset_every=self.reset_every, dropout=self.dropout,
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
        What is unusual about the row.
    rivals : tuple of Stage
        Stages that are measured in place of ``stage`` where they validate better: a network that overfits needs fewer
        updates than it is given.
    script : PlainScript or None
        Plain PyTorch script that trains the network of this row; ``stage`` then only describes its sizes.
    """

    label: str
    stage: Stage
    note: str = ""
    rivals: tuple[Stage, ...] = ()
    script: PlainScript | None = None


class RowBuilder:
    """Builder of the rows of one task; rows share the stages that are equal.

    Parameters
    ----------
    input_size, hidden_size : int
    budget : Budget
    cell : str
    """

    def __init__(self, input_size: int, hidden_size: int, budget: Budget, cell: str = "lstm"):
        self.input_size, self.hidden_size, self.budget, self.cell = input_size, hidden_size, budget, cell

    def config(self, block_size: int = 1, bits: int = 8, activation: str = "pwl", hidden: int | None = None) -> Config:
        """Create the configuration of one block size, weight width, activation and H."""
        return Config.from_dict(
            {
                "network": {
                    "input_size": self.input_size,
                    "hidden_size": hidden or self.hidden_size,
                    "cell": self.cell,
                },
                "compression": {"block_size": block_size},
                "quantization": {"weight_bits": bits},
                "activation": {"kind": activation, "segments": 16 if activation == "pwl" else 6},
                "architecture": {"tile_rows": 1, "tile_cols": 1},
            }
        )

    @property
    def has_half_levels(self) -> bool:
        """Whether weights may have half levels: the cell has no gate that leaves x or h out."""
        return all(gate.reads_x and gate.reads_h for gate in CELLS[self.cell].gates)

    def dense(self) -> Stage:
        """Build the stage of the dense float network that the others start from."""
        return Stage("dense-start", "float", self.config(), self.budget.settings("dense"))

    def baseline(self) -> Row:
        """Build the row of the dense float network, trained with one cosine for as long as any compressed one.

        The network that the compressed ones start from is measured instead where it validates better.
        """
        return Row("dense float", self._whole("dense"), rivals=(self.dense(),))

    def _whole(self, name: str) -> Stage:
        """Build a stage of the dense float network that takes the updates of all stages."""
        updates = self.budget.total
        settings = replace(
            self.budget.settings("dense"), updates=updates, warmup=min(50, -(-updates // 10)),
            evaluate_every=min(self.budget.evaluate_every, updates),
        )  # fmt: skip
        return Stage(name, "float", self.config(), settings)

    def plain(self) -> Row:
        """Build the row of a plain PyTorch script, which the dense float network must equal: see :class:`PlainScript`.

        It has the data, sizes, updates and peak learning rate of the dense float network, and a recipe of its own.
        """
        budget = self.budget
        script = PlainScript(
            self.cell, self.input_size, self.hidden_size, budget.total, budget.batch, budget.learning_rate,
            budget.reset_every, budget.seed,
        )  # fmt: skip
        return Row(f"plain {script.module_name}", self._whole(PLAIN), script=script)

    def warm_restarts(self) -> Row:
        """Build the row of the dense float network with the learning rates of all stages of a compressed one."""
        stage = self.dense()
        for name in ("circulant", "approximate", "quantized"):
            stage = Stage(f"dense-restarts-{name}", "float", self.config(), self.budget.settings(name), parent=stage)
        return Row("dense float", replace(stage, name="dense-restarts"), "warm restarts")

    def circulant(self, block_size: int, *, sizes: tuple[int, int] | None = None, distillation: float = 0.0,
                  scratch: bool = False, pulled: bool = False, hidden: int | None = None,
                  factor: float = 1.0) -> Row:  # fmt: skip
        """Build the row of a float network that is projected to circulant blocks and retrained.

        Parameters
        ----------
        block_size : int
        sizes : (int, int), optional
            k of W_x and of W_h, in place of ``block_size``.
        distillation : float
            Share of the loss that comes from the dense baseline as teacher.
        scratch : bool
            Whether training starts from random weights, with the whole budget of the projected network.
        pulled : bool
            Whether half of the retraining is done on the dense network, whose weights are pulled to their projection.
        hidden : int, optional
            Another H; training then starts from random weights.
        factor : float
            Factor on the number of updates.
        """
        name = f"k{block_size}" if sizes is None else f"kx{sizes[0]}-kh{sizes[1]}"
        name += f"-h{hidden}" if hidden else ""
        name += "-scratch" if scratch else ""
        name += "-pulled" if pulled else ""
        name += "-distilled" if distillation else ""
        name += f"-x{factor:g}" if factor != 1 else ""
        settings = self.budget.settings("circulant", distillation, factor)
        parent = None
        if scratch or hidden:
            settings = replace(settings, updates=settings.updates + self.budget.dense)
        else:
            parent = self.dense()
        if pulled:
            half = replace(settings, updates=max(1, settings.updates // 2))
            parent = Stage(
                f"{name}-dense", "float", self.config(), replace(half, pull=PULL, distillation=0.0), None, parent,
                pull_sizes=sizes or (block_size, block_size),
            )  # fmt: skip
            settings = replace(half, updates=max(1, settings.updates - half.updates))
        teacher = self.baseline().stage if distillation else None
        config = self.config(1 if sizes else block_size, hidden=hidden)
        stage = Stage(name, "float", config, settings, sizes, parent, teacher=teacher)
        return Row(f"circulant float, {self._sizes(stage)}", stage)

    def quantized(self, parent: Row, bits: int, activation: str = "pwl", distillation: float | None = None,
                  factor: float = 1.0, *, progressive: bool | None = None, learned_scales: bool | None = None,
                  row_scales: bool | None = None, half_levels: bool | None = None) -> Row:  # fmt: skip
        """Build the row of a network with approximated activations, then few-bit integers.

        Parameters
        ----------
        parent : Row
        bits : int
        activation : str
        distillation, progressive, learned_scales, row_scales, half_levels : optional
            Recipe of the stages; what is left out is the budget's.
        factor : float
            Factor on the number of updates of the integer stages.
        """
        stage, budget = parent.stage, self.budget
        old = stage.config
        distilled = "" if distillation is None else "-d" if distillation else "-undistilled"
        share = budget.distillation if distillation is None else distillation
        teacher = self.baseline().stage if share else None
        more = f"-x{factor:g}" if factor != 1 else ""
        if progressive is not None:
            more += "-progressive" if progressive else "-at-once"
        if learned_scales is not None:
            more += "-learned" if learned_scales else "-fixed"
        if row_scales is not None:
            more += "-rows" if row_scales else "-gates"
        if half_levels is not None:
            more += "-half" if half_levels else "-whole"
        if row_scales is None:
            # Scales of block rows need one block size.
            row_scales = budget.row_scales and stage.block_sizes is None
        scale = "row" if row_scales else "gate"
        learns = budget.learned_scales if learned_scales is None else learned_scales
        levels = "half" if (budget.half_levels if half_levels is None else half_levels) else "integer"
        kind = "" if activation == "pwl" else f"-{activation}"

        def following(name: str, kind: str, bits: int, settings: StageSettings, parent: Stage) -> Stage:
            is_normalized = kind == "quantized" and learns and row_scales
            usual = NORMALIZED_RATE if is_normalized else settings.learning_rate
            settings = replace(settings, learning_rate=budget.retraining_rate or usual)
            config = self.config(old.block_size, bits, activation, old.network.units)
            if kind == "quantized":
                config = config.replace({"quantization.weight_scale": scale, "quantization.weight_levels": levels})
            return Stage(name, kind, config, settings, stage.block_sizes, parent, teacher=teacher)

        approximate = following(f"{stage.name}{kind}-approximate{distilled}", "approximate", 8,
                                budget.settings("approximate", share), stage)  # fmt: skip
        settings = budget.settings("quantized", share, factor)
        final = following(f"{stage.name}{kind}-b{bits}{distilled}{more}", "quantized", bits,
                          replace(settings, learned_scales=learns), approximate)  # fmt: skip
        goes_through = budget.progressive if progressive is None else progressive
        return Row(f"{bits} bit, {self._sizes(final)}", through_wider_weights(final) if goes_through else final)

    def _sizes(self, stage: Stage) -> str:
        hidden = stage.config.network.units
        more = f", H = {hidden}" if hidden != self.hidden_size else ""
        if stage.block_sizes:
            return f"k = {stage.block_sizes[0]} in W_x, {stage.block_sizes[1]} in W_h{more}"
        return f"k = {stage.config.block_size}{more}"


def plain_rows(rows: RowBuilder) -> list[Row]:
    """Build the row of the plain script, where ``torch.nn`` has the cell."""
    return [rows.plain()] if rows.cell in MODULES else []


def language_rows(rows: RowBuilder) -> list[Row]:
    """Build the rows of a language task, those that are asked for most first."""
    k4, k8, k16 = (rows.circulant(k, scratch=True) for k in (4, 8, 16))
    return [
        rows.baseline(), *plain_rows(rows), k8, rows.quantized(k8, 8), k4, rows.quantized(k4, 4), rows.quantized(k8, 4),
        rows.quantized(k4, 2), k16, rows.quantized(k16, 8), rows.quantized(k8, 6), rows.quantized(k8, 3),
        rows.quantized(k4, 8), rows.quantized(k4, 3), rows.quantized(k16, 4), rows.quantized(k8, 2),
    ]  # fmt: skip


def speech_rows(rows: RowBuilder) -> list[Row]:
    """Build the rows of a speech task."""
    k4, k8, k16 = (rows.circulant(k, scratch=True) for k in (4, 8, 16))
    return [
        rows.baseline(), *plain_rows(rows), k8, rows.quantized(k8, 8), k4, rows.quantized(k4, 4), rows.quantized(k8, 4),
        rows.quantized(k16, 8),
    ]  # fmt: skip


def tried_rows(rows: RowBuilder) -> list[Row]:
    """Build additional rows at the budget of the others: projected networks, and what users and the literature ask for.

    Some of them may be among the usual rows as well.
    """
    projected = []
    for k, widths in PROJECTED_BITS.items():
        parent = rows.circulant(k)
        projected += [parent, *(rows.quantized(parent, bits) for bits in widths)]
    k8 = rows.circulant(8)
    scratch = {k: rows.circulant(k, scratch=True) for k in (2, 4, 8)}
    distilled = rows.circulant(8, distillation=DISTILLATION)
    taught = [rows.circulant(k, distillation=DISTILLATION, scratch=True) for k in (8, 4)]
    pulled = rows.circulant(8, pulled=True)
    wide = {k: rows.circulant(2 * k, hidden=equal_bytes(rows, 2 * k, like=k)) for k in (4, 8)}
    apart = [rows.circulant(0, sizes=sizes) for sizes in ((4, 8), (8, 4), (1, 8), (8, 16), (4, 16))]
    notes = [
        ("projected and retrained", projected),
        ("from scratch", [scratch[8], *(rows.quantized(scratch[8], bits) for bits in (8, 4)), scratch[4],
                          *(rows.quantized(scratch[4], bits) for bits in (4, 2)), scratch[2],
                          rows.quantized(scratch[2], 2)]),
        ("distilled", [distilled, *(rows.quantized(distilled, bits, distillation=DISTILLATION) for bits in (8, 4))]),
        ("distilled, from scratch", [*taught, *(rows.quantized(row, 4, distillation=DISTILLATION) for row in taught),
                                     *(rows.quantized(taught[1], bits, distillation=DISTILLATION) for bits in (8, 2))]),
        *((name, [rows.quantized(rows.circulant(4), bits, **(LEVERS_OFF | one)) for bits in lever_bits(one)])
          for name, one in LEVERS.items() if rows.has_half_levels or not one.get("half_levels")),
        ("pulled to its projection", [pulled, rows.quantized(pulled, 4)]),
        *((f"wider at the bytes of k = {k}", [row, rows.quantized(row, 4)]) for k, row in wide.items()),
        ("block sizes apart", [rows.quantized(row, bits) for row in apart for bits in (8, 4)]),
        ("multiplier-free activations", [rows.quantized(k8, 8, activation="shift")]),
        ("retrained twice as long", [rows.quantized(rows.circulant(8, factor=2), 8)]),
    ]  # fmt: skip
    return [rows.warm_restarts(), *(replace(row, note=note) for note, some in notes for row in some)]


def lever_bits(lever: dict) -> tuple[int, ...]:
    """Choose the widths of the weights that show what a lever does; half levels gain most at the narrowest."""
    if lever.get("half_levels"):
        return 3, 2
    return (4, 3, 2) if lever.get("distillation") and lever.get("row_scales") else (4, 2)


def equal_bytes(rows: RowBuilder, block_size: int, like: int) -> int:
    """Find the largest H that needs, with ``block_size``, no more bytes than the H of ``rows`` with k = ``like``."""
    limit, hidden = weight_bytes(rows.circulant(like).stage), rows.hidden_size
    while weight_bytes(rows.circulant(block_size, hidden=hidden + block_size).stage) <= limit:
        hidden += block_size
    return hidden


@dataclass(frozen=True)
class Study:
    """One table of the study.

    Attributes
    ----------
    task : str
        ``characters``, ``words``, ``digits`` or ``phones``.
    split : str
        ``text`` for texts; for recordings ``official``, or ``speakers``: the mean over speakers held out in turn.
    input_size : int
        X.
    budget : Budget
    rows : callable
        Function from a :class:`RowBuilder` to the usual rows; ``--ablations`` adds those of :func:`tried_rows`.
    """

    task: str
    split: str
    input_size: int
    budget: Budget
    rows: Callable[[RowBuilder], list[Row]]
    cell: str = "lstm"

    def table(self, hidden_size: int, factor: float, seed: int, ablations: bool, names: list[str] | None) -> list[Row]:
        """Build the rows of the table.

        Parameters
        ----------
        hidden_size : int
        factor : float
            Factor on the number of updates.
        seed : int
        ablations : bool
            Whether to add the additional rows.
        names : list of str, optional
            Stages of the rows that are wanted beside the baseline, in any order; additional rows may be among them.
        """
        rows = RowBuilder(self.input_size, hidden_size, replace(self.budget.scaled(factor), seed=seed), self.cell)
        usual = self.rows(rows)
        tries = [row for row in tried_rows(rows) if row.stage.name not in {one.stage.name for one in usual}]
        if names is None:
            return usual + (tries if ablations else [])
        every = {row.stage.name: row for row in usual + tries}
        for name in names:
            require(name in every, "--rows", f"made of {', '.join(every)}", name)
        return [row for row in every.values() if row is usual[0] or row.stage.name in names]


# Circulant networks start from random weights and spend nearly all updates in integers.  With learnt scales of block
# rows that is better than to project a dense network and to retrain it.
_BUDGET = Budget(dense=100, circulant=100, approximate=100, quantized=2700, learned_scales=True, row_scales=True)
# The streams of a text never end.  Without a limit the cell state of float networks, and with it the gradient, grows so
# far that they stop learning; without resets networks do not learn to begin from zero state.
_TEXT = replace(_BUDGET, cell_limit=8.0, reset_every=16)
_SPEECH = replace(_BUDGET, quantized=1300, batch=64, evaluate_every=100, learning_rate=4e-3)
# Every held-out speaker needs networks of its own, so digits get fewer updates there.
_SPEAKER = replace(_SPEECH, quantized=500)
# Learning the alignment of phones takes longer than learning digits.
_ALIGNED = replace(_SPEECH, quantized=1800)
STUDIES = (
    Study("characters", "text", 64, _TEXT, language_rows),
    Study("words", "text", 128, _TEXT, language_rows),
    Study("digits", "official", fsdd.NUM_FEATURES, _SPEECH, speech_rows),
    Study("digits", "speakers", fsdd.NUM_FEATURES, _SPEAKER, speech_rows),
    Study("phones", "official", fsdd.NUM_FEATURES, _ALIGNED, speech_rows),
    Study("phones", "speakers", fsdd.NUM_FEATURES, _ALIGNED, speech_rows),
)


def weight_bytes(stage: Stage) -> int:
    """Count the bytes of the recurrent matrices, without biases, peepholes, embedding and output layer.

    Integers are counted as the accelerator stores them, including the zeros of rows that read only x or only h.
    """
    config, gates = stage.config, stage.config.cell.gates
    network, stored = config.network, stage.kind == "quantized"
    bits = config.weight_bits if stored else 32
    rows = [
        sum(stored or reads for reads in part) for part in zip(*((g.reads_x, g.reads_h) for g in gates), strict=True)
    ]
    k_x, k_h = stage.block_sizes or (config.block_size,) * 2

    def matrix(size: int, cols: int, k: int) -> int:
        return num_blocks(size, k) * num_blocks(cols, k) * k

    total = 0
    for number in range(network.num_layers):
        inputs = config.layer(number).network.input_size
        total += rows[0] * matrix(network.units, inputs, k_x)
        total += rows[1] * matrix(network.units, config.output_size, k_h)
        total += matrix(network.projection_size, network.units, k_h)
    return -(-(total * bits + stored * config.scale_storage_bits) // 8)


def removed_percent(stage: Stage, hidden_size: int) -> float:
    """Compute what percentage of the weight memory of the dense float32 network with H = ``hidden_size`` is removed."""
    smallest = {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.lookahead": None}
    dense = stage.config.replace({"network.hidden_size": hidden_size, **smallest}).dense_float_bytes
    return 100 * (1 - weight_bytes(stage) / dense)


def _known(path: Path) -> dict:
    """Load figures that were measured before; empty where there is no such file, so that they are measured again."""
    try:
        known = read_json(path)
    except InvalidFileError:
        return {}
    return known if isinstance(known, dict) else {}


def _key(row: Row, task: Task) -> str:
    """Hash of everything that determines the figures of a row."""
    identity = [task.name, task.fingerprint, row.stage.description()]
    identity += [["best of", *(rival.description() for rival in row.rivals)]] if row.rivals else []
    identity += [asdict(row.script)] if row.script else []
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def known_row(row: Row, task: Task, folder: Path) -> dict | None:
    """Load the figures of a row that was measured before; ``None`` where it must be trained or measured first."""
    known = _known(folder / f"{row.stage.name}.json")
    if known.get("key") != _key(row, task):
        return None
    return known | {"label": row.label, "note": known["note"] if row.rivals else row.note}


def run_row(row: Row, task: Task, folder: Path, hidden_size: int) -> dict:
    """Train what is missing, measure on the test split, store the figures beside the checkpoint, and return them."""
    known = known_row(row, task, folder)
    if known is not None:
        return known
    stage, path = row.stage, folder / f"{row.stage.name}.json"
    note = row.note
    if row.script is not None:
        network = train_plain(row.script, task, folder, stage.settings.evaluate_every)
    else:
        network = run_stage(stage, task, folder)
    if row.rivals:
        last = task.measure(network, "test")[task.metric]
        stage, network = best_of((stage, *row.rivals), task, folder)
        if stage is not row.stage:
            note = f"best after {stage.total_updates:,} updates; {last:.3f} after all"
    quantized = network if isinstance(network, SequenceNetwork) and network.quantized else None
    result = {
        "label": row.label,
        "note": note,
        "name": row.stage.name,
        "task": task.name,
        "block_sizes": list(stage.block_sizes or (stage.config.block_size,) * 2),
        "hidden_size": stage.config.network.units,
        "weight_bits": stage.config.weight_bits if stage.kind == "quantized" else 32,
        "weight_frac": list(quantized.config.quantization.weight_frac) if quantized else None,
        "activation": stage.config.activation.kind if stage.kind != "float" else "true",
        "arithmetic": "integer reference" if stage.kind == "quantized" else "float32",
        "weight_bytes": weight_bytes(stage),
        "removed_percent": round(removed_percent(stage, hidden_size), 2),
        "updates": row.stage.total_updates,
        "figures": task.measure(sequence_model(quantized) if quantized else network, "test"),
        "key": _key(row, task),
    }
    if is_main_process():
        write_atomic(path, json.dumps(result, indent=2) + "\n")
    return result


def dense_beside_plain(dense: float, plain: float, relative: bool) -> str:
    """Say whether the dense baseline is as good as the plain script: within 1 % of perplexity, or 1 point of error."""
    more = 100 * (dense / plain - 1) if relative else dense - plain
    unit = "%" if relative else "points"
    verdict = "as good as this" if more <= PLAIN_TOLERANCE else "weaker than this, so that losses look small"
    return f"dense float is {verdict} ({more:+.2f} {unit})"


def with_losses(results: Sequence[dict | None], task: Task) -> list[dict]:
    """Compare the rows of one part of a study with the first of them, the dense baseline.

    Parameters
    ----------
    results : sequence of dict or None
        Figures of every row as :func:`run_row` returns them, in the order of the table; ``None`` for those that are not
        finished.
    task : Task

    Returns
    -------
    list of dict
        The finished rows; none of them before the baseline is finished.
    """
    if not results or results[0] is None:
        return []
    base = results[0]["figures"][task.metric]
    # Perplexity is compared by ratio, error rates by difference.
    relative = task.metric == "perplexity"
    rows = []
    for result in results:
        if result is None:
            continue
        value = result["figures"][task.metric]
        row = result | {
            "metric": task.metric,
            "value": value,
            "loss_unit": "% relative" if relative else "points",
            "loss": 100 * (value / base - 1) if relative else value - base,
        }
        if row["name"] == PLAIN:
            row["note"] = dense_beside_plain(base, value, relative)
        rows.append(row)
    return rows
