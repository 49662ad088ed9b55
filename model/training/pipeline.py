"""Training in stages from dense float to few-bit circulant integers; each stage starts from the checkpoint before it.

The stages are: dense float → circulant float (least-squares projection, retrained) → approximated activations →
quantized (retrained).  A stage names its parent, so that the rows of a study share stages.  A checkpoint describes its
stage and all stages before it: training continues from a checkpoint of the same stage and rejects any other.
"""

import dataclasses
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import distributed, nn

from chessrnn.model.config import Config
from chessrnn.model.curves import add_point, curve_file
from chessrnn.model.errors import Interrupted, InvalidFileError, UserError, require, shortened, shown
from chessrnn.model.progress import Progress
from chessrnn.model.training.checkpoint import load_checkpoint, save_checkpoint
from chessrnn.model.training.distillation import distillation_loss
from chessrnn.model.training.export import choose_formats, refine_formats
from chessrnn.model.training.layers import STAGES
from chessrnn.model.training.sequence_network import STORED_NAMES, Dropout, SequenceNetwork
from chessrnn.model.training.tasks.base import Task

# Share of the teacher's predictions in the loss, where nobody chooses another one.
DISTILLATION = 0.5
# Keys of a checkpoint, with the types of their values.
CHECKPOINT = {
    "stage": dict,
    "weight_frac": list,
    "formats": dict,
    "head_frac": int,
    "step": int,
    "best": (int, float),
    "network": dict,
    "best_network": (dict, type(None)),
    "optimizer": dict,
    "states": list,
    "teacher_state": object,
}


class DivergedError(UserError):
    """Error of a training whose loss is no longer a finite number."""


@dataclass(frozen=True)
class StageSettings:
    """Hyperparameters of one stage, which determine its result.

    Parameters
    ----------
    updates : int
        Number of updates of the parameters.
    batch : int
        Sequences per update, over all processes.
    learning_rate, final_learning_rate : float
        First and last value of a cosine, after a linear warm-up.
    warmup : int
        Number of updates of the warm-up.
    gradient_norm : float
        Norm that gradients are clipped to.
    evaluate_every : int
        Updates between validations, each of which writes the checkpoint.
    distillation : float
        Share of the loss that is the divergence from the teacher's distribution (Hinton et al. 2015).
    pull : float
        Share of the distance to the nearest block-circulant weights by which an update moves the weights; it grows
        linearly from 0 to this value.  This is the quadratic penalty of the alternating direction method (Boyd et al.
        2011), applied separately from the gradient; because its weight grows, the multipliers are not needed.
    cell_limit : float or None
        Magnitude at which the cell state of a float LSTM saturates, as its integers will.  Without a limit the state of
        long sequences grows without bound, and so does the gradient, whose clipping then stops all learning.
    reset_every : int or None
        Text tasks only: updates between two resets of a stream's state to zero, at different updates for different
        streams; ``None`` never resets.  Tests begin from zero state, and networks learn that only if training does so.
    dropout : float
        Share of the elements read by the output layer that are set to zero, chosen anew in every update; the recurrence
        itself has no dropout (Zaremba et al. 2014).
    learned_scales : bool
        Quantized stages only: train the scales of the weights as well, as powers of two for each gate or, where the
        configuration has them, as multipliers of block rows.
    seed : int
    """

    updates: int = 1000
    batch: int = 32
    learning_rate: float = 5e-3
    final_learning_rate: float = 5e-5
    warmup: int = 50
    gradient_norm: float = 1.0
    evaluate_every: int = 250
    distillation: float = 0.0
    pull: float = 0.0
    cell_limit: float | None = None
    reset_every: int | None = None
    dropout: float = 0.0
    learned_scales: bool = False
    seed: int = 1

    def __post_init__(self):
        for name in ("updates", "batch", "evaluate_every"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        require(self.learning_rate > 0, "learning_rate", "more than 0", self.learning_rate)
        require(0 <= self.distillation <= 1, "distillation", "from 0 to 1", self.distillation)
        require(0 <= self.pull <= 1, "pull", "from 0 to 1", self.pull)
        limit = self.cell_limit
        require(limit is None or limit > 0, "cell_limit", "more than 0", limit)
        every = self.reset_every
        require(every is None or every >= 1, "reset_every", "at least 1", every)
        require(0 <= self.dropout < 1, "dropout", "from 0 to below 1", self.dropout)

    def rate(self, step: int) -> float:
        """Compute the learning rate of an update."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.updates - self.warmup)
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Stage:
    """One stage of the training.

    Parameters
    ----------
    name : str
        File name of the checkpoint without suffix, unique within a study.
    kind : str
        One of ``layers.STAGES``.
    config : Config
        Sizes, widths, formats and activation; ``weight_frac`` is chosen from the weights instead.
    settings : StageSettings
    block_sizes : (int, int), optional
        k of W_x and W_h where they differ from the configuration's.
    parent : Stage or None
        Stage that the parameters come from: projected where its block sizes differ, else copied.  ``None`` starts from
        random parameters.
    initial : tuple of (str, tensor)
        Initial parameters by name, for a stage without parent.  ``weight_x``, ``weight_h``, ``bias`` and ``projection``
        of the layer (``weight_x.1`` of the second one) are dense and are projected; values under a name of the
        network's own parameters are copied.
    has_formats : bool
        Quantized stages only: keep the formats of the configuration instead of choosing them from the weights.
    teacher : Stage or None
        Teacher of the distillation: of this stage and those that it comes from, the one that validates best teaches.
    pull_sizes : (int, int), optional
        k of W_x and W_h that the weights of a dense stage with ``pull`` are moved towards.
    """

    name: str
    kind: str
    config: Config
    settings: StageSettings
    block_sizes: tuple[int, int] | None = None
    parent: "Stage | None" = None
    initial: tuple[tuple[str, torch.Tensor], ...] = field(default=(), compare=False)
    teacher: "Stage | None" = None
    pull_sizes: tuple[int, int] | None = None
    has_formats: bool = False

    def __post_init__(self):
        require(self.kind in STAGES, "stage", f"one of {', '.join(STAGES)}", self.kind)
        has_teacher = self.teacher is not None
        require(has_teacher == (self.settings.distillation > 0), "teacher", "given with distillation", has_teacher)
        pulled = self.pull_sizes is not None
        require(pulled == (self.settings.pull > 0), "pull_sizes", "given with pull", self.pull_sizes)

    def description(self) -> dict:
        """Collect everything that determines the result, as plain values."""
        config, settings = self.config.to_dict(), dataclasses.asdict(self.settings)
        del config["name"], config["architecture"]
        if self.config.compression.output_block_size == 1:
            del config["compression"]["output_block_size"]
        if not self.config.quantization.input_shift:
            del config["quantization"]["input_shift"]
        if self.pull_sizes is None:
            # Older checkpoints have no such field and stay valid.
            del settings["pull"]
        for name in ("cell_limit", "reset_every", "dropout", "learned_scales"):
            if not settings[name]:
                del settings[name]
        return {
            "kind": self.kind,
            "config": config,
            "block_sizes": list(self.block_sizes or (self.config.block_size,) * 2),
            "settings": settings,
            "initial": {STORED_NAMES.get(name, name): float(value.double().sum()) for name, value in self.initial},
            "parent": self.parent.description() if self.parent else None,
            "teacher": self.teacher.description() if self.teacher else None,
            **({"pull_sizes": list(self.pull_sizes)} if self.pull_sizes else {}),
            **({"has_formats": True} if self.has_formats else {}),
        }

    @property
    def total_updates(self) -> int:
        """Number of updates from random parameters to the end of this stage."""
        return self.settings.updates + (self.parent.total_updates if self.parent else 0)


def new_network(stage: Stage, task: Task) -> SequenceNetwork:
    """Create a network with random parameters in the sizes of a stage and a task."""
    torch.manual_seed(stage.settings.seed)
    return SequenceNetwork(stage.config, task.num_outputs, task.num_symbols, stage.block_sizes)


def start_from(network: SequenceNetwork, parent: SequenceNetwork) -> None:
    """Copy a parent's parameters, projected where the block sizes differ."""
    for layer in parent.layer.layers:
        layer.settle()
    if network.layer.block_sizes == parent.layer.block_sizes:
        # Scales are chosen anew for the widths of this stage.
        values = {name: value for name, value in parent.layer.state_dict().items() if "log2_scale" not in name}
        network.layer.load_state_dict(values)
    else:
        for layer, theirs in zip(network.layer.layers, parent.layer.layers, strict=True):
            layer.project(theirs)
    names = ["embedding", "output_weight", "output_bias"]
    if network.output_block_size != parent.output_block_size:
        network.set_output_weight(parent.dense_output_weight())
        names.remove("output_weight")
    with torch.no_grad():
        for name in names:
            if getattr(network, name) is not None:
                getattr(network, name).copy_(getattr(parent, name))


def is_main_process() -> bool:
    """Whether this process is the one that writes files and messages."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


class StageTrainer:
    """Training of one stage, with its state.

    Parameters
    ----------
    stage : Stage
    task : Task
    folder : Path
        Folder of the checkpoints.
    parent, teacher : SequenceNetwork or None
        Trained networks of the stage's parent and teacher.

    Members
    -------
    network : SequenceNetwork
    step : int
        Number of updates done.
    best : float
        Least score so far on the validation split; see :meth:`.tasks.base.Task.score`.
    best_state : dict or None
        Parameters that reached ``best``.
    """

    def __init__(self, stage: Stage, task: Task, folder: Path, parent=None, teacher=None):
        self.stage, self.task, self.settings, self.teacher = stage, task, stage.settings, teacher
        self.path = folder / f"{stage.name}.pt"
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        self.world = distributed.get_world_size() if distributed.is_initialized() else 1
        self.network = new_network(stage, task)
        if parent is not None:
            start_from(self.network, parent)
        self._set_initial(dict(stage.initial))
        self.network.layer.stage, self.network.layer.cell_limit = stage.kind, self.settings.cell_limit
        self.step, self.state, self.teacher_state = 0, None, None
        self.best, self.best_state, self.seconds = math.inf, None, 0.0
        self.measured = math.nan
        learns = self.settings.learned_scales
        if stage.kind == "quantized" and stage.has_formats:
            self.network.start_quantization(stage.config, keeps_exponents=True, trains_scales=learns)
        elif stage.kind == "quantized":
            self.network.start_quantization(*choose_formats(self.network), trains_scales=learns)
            batch = task.batch(0, self.settings.batch)
            if not stage.config.has_row_scales:
                refine_formats(self.network, lambda: float(task.loss(self.network(batch.inputs)[0], batch)))
        if self._has_scales and not stage.config.has_row_scales:
            self.network.layer.learn_scales()
        self.optimizer = self._new_optimizer()
        if self.path.is_file():
            self._resume()

    def _new_optimizer(self) -> torch.optim.Adam:
        """Create Adam with a group of parameters for every factor of the learning rate."""
        factors, groups = self.network.rate_factors(), {}
        for name, value in self.network.named_parameters():
            groups.setdefault(factors.get(name, 1.0), []).append(value)
        described = [{"params": values, "rate_factor": factor} for factor, values in groups.items()]
        return torch.optim.Adam(described, lr=self.settings.learning_rate, betas=(0.9, 0.99))

    @torch.no_grad()
    def _set_initial(self, values: dict[str, torch.Tensor]) -> None:
        """Set initial parameters: dense ones are projected to circulant blocks, the others copied.

        An embedding is scaled to the format of x, and W_x of the first layer the other way, as random ones are.
        """
        values = dict(values)
        if self.network.embedding is not None and "weight_x" in values:
            values["weight_x"] = values["weight_x"] * self.network.embedding_scale
        if "embedding" in values:
            values["embedding"] = values["embedding"] / self.network.embedding_scale
        for number, layer in enumerate(self.network.layer.layers):
            place = f".{number}" if number else ""
            if f"weight_x{place}" in values:
                layer.set_dense(*(values.pop(f"{name}{place}") for name in ("weight_x", "weight_h", "bias")))
            if f"projection{place}" in values:
                assert layer.projection is not None
                layer.projection.set_dense(values.pop(f"projection{place}"))
        if "output_weight" in values:
            self.network.set_output_weight(values.pop("output_weight"))
        parameters = dict(self.network.named_parameters())
        for name, value in values.items():
            parameters[name].copy_(value)

    @property
    def _has_scales(self) -> bool:
        """Whether the parameters include the scales of the weights."""
        has_some = self.settings.learned_scales or self.stage.config.has_row_scales
        return self.stage.kind == "quantized" and has_some

    # -- training ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the end of the stage.

        Raises
        ------
        DivergedError
            The loss is not finite; the checkpoint on disk still holds the best parameters.
        Interrupted
            The user pressed Ctrl-C; the checkpoint was written before.
        """
        settings, label = self.settings, self.stage.name
        model = nn.parallel.DistributedDataParallel(self.network) if self.world > 1 else self.network
        progress = Progress(settings.updates, self.step, label)
        # Nothing before the first validation.
        shown = f"{self.task.metric} {self.best:.4g}" if math.isfinite(self.best) else ""
        losses: list[float] = []
        curve = curve_file(self.path)
        if self.step == 0 and self.rank == 0:
            curve.unlink(missing_ok=True)
        try:
            if self.step == 0 and self.task.judges_start:
                shown = self._validate()
            while self.step < settings.updates:
                loss = self._update(model)
                if not math.isfinite(loss):
                    kept = f"{self.path} keeps the best" if self.path.is_file() else "no checkpoint was written"
                    raise DivergedError(
                        f"loss must be finite, not {loss} at step {self.step} of {label}: "
                        f"use a lower learning rate than {settings.learning_rate} ({kept})"
                    )
                self.step += 1
                losses.append(loss)
                if self.step % settings.evaluate_every == 0 or self.step == settings.updates:
                    shown = self._validate()
                    self.save()
                    if self.rank == 0:
                        add_point(curve, self.step, sum(losses) / len(losses), self.task.metric, self.measured)
                        progress.show(self.step, f"validation {shown}", always=True)
                    losses.clear()
                elif self.rank == 0:
                    progress.show(self.step, f"loss {loss:.3f}" + (f", validation {shown}" if shown else ""))
        except KeyboardInterrupt:
            # The other processes may be at any point, so the states of their streams are not collected.
            self.save(gather=self.world == 1)
            raise Interrupted(self.path, self.step) from None

    def _update(self, model: nn.Module) -> float:
        """Do one update and return its loss, averaged over the processes."""
        batch = self.task.batch(self.step, self.settings.batch, self.rank, self.world)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(self.step) * group["rate_factor"]
        logits, state = model(batch.inputs, self._carried(self.state, batch), self._dropout())
        loss = self.task.loss(logits, batch)
        if self.teacher is not None:
            loss = self._distilled(self.teacher, loss, logits, batch)
        value = float(loss.detach())
        if self.world > 1:
            # Every process must know of a divergence, or the others would wait for ever.
            total = torch.tensor(value)
            distributed.all_reduce(total)
            value = float(total) / self.world
        if math.isfinite(value):
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
            self.optimizer.step()
            if self.stage.pull_sizes is not None:
                share = self.settings.pull * (self.step + 1) / self.settings.updates
                self.network.layer.pull_to_circulant(self.stage.pull_sizes, share)
            self.network.clamp_parameters()
            self.state = tuple(part.detach() for part in state)
        return value

    def _dropout(self) -> Dropout | None:
        """Create the dropout of this update and process; it does not depend on interruptions."""
        if not self.settings.dropout:
            return None
        parts = self.settings.seed, self.stage.name, self.step, self.rank, self.world
        return Dropout(self.settings.dropout, torch.Generator().manual_seed(zlib.crc32(repr(parts).encode())))

    def _carried(self, state, batch):
        """Return the state that an update begins with: that of the last update, or zero in streams that are reset."""
        if state is None or not batch.carries_state:
            return batch.state
        every = self.settings.reset_every
        if every is None:
            return state
        stream = self.rank + self.world * torch.arange(state[0].shape[-2])
        goes_on = ((self.step + stream) % every != 0)[:, None]
        return tuple(part * goes_on for part in state)

    def _distilled(self, teacher: SequenceNetwork, loss, logits, batch) -> torch.Tensor:
        """Mix the loss with the divergence from the teacher's distribution of every step."""
        with torch.no_grad():
            target, state = teacher(batch.inputs, self._carried(self.teacher_state, batch))
            self.teacher_state = state
        share = self.settings.distillation
        return (1 - share) * loss + share * distillation_loss(logits, target, self.task.distillation_mask(batch))

    def _validate(self) -> str:
        """Validate, keep the parameters if they are the best so far, and return the metric as text."""
        figures = self.task.measure(self.network, "validation")
        self.measured = figures[self.task.metric]
        score = self.task.score(figures)
        if score < self.best:
            self.best = score
            self.best_state = {name: value.clone() for name, value in self.network.state_dict().items()}
        return f"{self.task.metric} {figures[self.task.metric]:.4g}"

    def best_network(self) -> SequenceNetwork:
        """Create the network of this stage with the best parameters so far."""
        network = new_network(self.stage, self.task)
        if self._has_scales:
            network.layer.learn_scales(self.stage.has_formats, self.settings.learned_scales)
        network.load_state_dict(self.best_state or self.network.state_dict())
        network.layer.stage, network.layer.cell_limit = self.stage.kind, self.settings.cell_limit
        network.layer.config, network.output_frac = self.network.config, self.network.output_frac
        # The exponents have moved since, or before, the best parameters.
        network.layer.adopt_scales()
        return network

    # -- checkpoints ---------------------------------------------------------------------------------------

    def _description(self) -> dict:
        described = {"task": self.task.name, "data": self.task.fingerprint, **self.stage.description()}
        # A checkpoint from before embeddings were scaled was trained with another recipe.
        scaled = self.network.embedding is not None
        return described | ({"embedding_scale": self.network.embedding_scale} if scaled else {})

    def save(self, gather: bool = True) -> None:
        """Write the checkpoint atomically; all processes must call this, and only the main one writes."""
        states = [self.state]
        if self.world > 1:
            states = [None] * self.world
            if gather:
                distributed.all_gather_object(states, self.state)
        if self.rank == 0:
            self._write(states)
        if self.world > 1 and gather:
            # No process may continue with a stage that reads the file before it exists.
            distributed.barrier()

    def _write(self, states: list) -> None:
        content = {
            "stage": self._description(),
            "weight_frac": list(self.network.config.quantization.weight_frac),
            "formats": self._chosen_formats(),
            "head_frac": self.network.output_frac,
            "step": self.step,
            "best": self.best,
            "network": self.network.state_dict(),
            "best_network": self.best_state,
            "optimizer": self.optimizer.state_dict(),
            "states": states,
            "teacher_state": self.teacher_state,
        }
        save_checkpoint(self.path, content)

    def _chosen_formats(self) -> dict[str, object]:
        """List the formats beside ``weight_frac`` that were chosen for the parts that the cell has."""
        layer, points = self.network.layer.layers[0], self.network.config.quantization
        formats = {}
        if layer.peephole is not None:
            formats["quantization.peephole"] = str(points.peephole)
        if layer.projection is not None:
            formats["quantization.projection_frac"] = points.projection_frac
        return formats

    def _resume(self) -> None:
        """Continue from the checkpoint."""
        content = load_checkpoint(self.path, CHECKPOINT)
        compare(self.path, self._description(), content["stage"])
        try:
            formats = {"quantization.weight_frac": content["weight_frac"], **content["formats"]}
            self.network.layer.config = self.stage.config.replace(formats)
            self.network.output_frac = content["head_frac"]
            self.network.load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
        except (UserError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            # Whole, of the same stage, and yet with other parameters: another version wrote it.
            reason = shortened(" ".join(str(error).split()))
            raise InvalidFileError(f"{self.path} must be a checkpoint of this version: {reason}") from None
        self.step, self.best, self.best_state = content["step"], content["best"], content["best_network"]
        # Another number of processes has other streams, whose states start from zero.
        states = content["states"]
        self.state = states[self.rank] if len(states) == self.world else None
        self.teacher_state = content["teacher_state"] if self.world == 1 else None


def _flat(values: dict, prefix: str = "") -> dict[str, object]:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def compare(path: Path, wanted: dict, found: dict) -> None:
    """Reject a checkpoint of another stage with a message that names the first field that differs."""
    wanted, found = _flat(wanted), _flat(found)
    for name in (*wanted, *(name for name in found if name not in wanted)):
        # A field that a description leaves out has its default.
        if wanted.get(name) != found.get(name):
            if name == "data":
                raise InvalidFileError(f"data must be the same that {path} was trained on: use them, or another folder")
            field_name = name.removeprefix("config.")
            rule, value = f"{shown(wanted.get(name))} as asked for", shown(found.get(name))
            raise InvalidFileError(
                f"{field_name} must be {rule}, not {value} as in {path}: use that, or another folder"
            )


def run_stage(stage: Stage, task: Task, folder: Path) -> SequenceNetwork:
    """Train a stage and, before it, all stages that it comes from; finished checkpoints are only loaded.

    Returns
    -------
    SequenceNetwork
        Network with the best parameters of the stage.
    """
    parent = run_stage(stage.parent, task, folder) if stage.parent else None
    teacher = best_of_stages(stage.teacher, task, folder)[1] if stage.teacher else None
    trainer = StageTrainer(stage, task, folder, parent, teacher)
    if trainer.step < stage.settings.updates:
        trainer.run()
    return trainer.best_network()


def best_of(stages: Sequence[Stage], task: Task, folder: Path) -> tuple[Stage, SequenceNetwork]:
    """Choose the stage that validates best, the first among equals."""
    networks = [run_stage(stage, task, folder) for stage in stages]
    scores = [task.score(task.measure(network, "validation")) for network in networks]
    return min(zip(scores, range(len(stages)), stages, networks, strict=True))[2:]


def best_of_stages(stage: Stage, task: Task, folder: Path) -> tuple[Stage, SequenceNetwork]:
    """Choose the stage that validates best from a stage and those that it comes from, the earlier one among equals."""
    stages = [stage]
    while stages[0].parent:
        stages.insert(0, stages[0].parent)
    return best_of(stages, task, folder)
