"""The training loop: float first, then with the integers in the forward pass.

A run is a folder's ``checkpoint.pt``: configuration, settings, parameters, optimiser, position.  It can be
interrupted at any step and resumed to the same result.
"""

import dataclasses
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from model.char_model import encode
from model.config import Config
from model.corpus import Corpus
from model.errors import InvalidFileError, UserError, require
from model.training.char_network import CharNetwork
from model.training.data import TextStreams
from model.training.export import choose_formats
from model.weight_image import compare


class DivergedError(UserError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class TrainSettings:
    """Hyperparameters; with a seed they decide the result.

    Parameters
    ----------
    steps : int
        Updates of the parameters.
    quantized_share : float
        Share of the steps, at the end, with integers in the forward pass.
    batch, segment : int
        B streams; T characters of truncated back-propagation.
    learning_rate, final_learning_rate : float
        Ends of a cosine, after a linear warm-up.
    warmup : int
        Steps of the warm-up.
    gradient_norm : float
        Gradients are clipped to it.
    evaluate_every : int
        Steps between validations, each of which writes the checkpoint.
    seed : int
    """

    steps: int = 20000
    quantized_share: float = 0.4
    batch: int = 64
    segment: int = 64
    learning_rate: float = 1e-2
    final_learning_rate: float = 5e-5
    warmup: int = 200
    gradient_norm: float = 1.0
    evaluate_every: int = 250
    seed: int = 1

    def __post_init__(self):
        for name in ("steps", "batch", "segment", "evaluate_every"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        require(0 <= self.quantized_share <= 1, "quantized_share", "from 0 to 1", self.quantized_share)
        require(self.learning_rate > 0, "learning_rate", "more than 0", self.learning_rate)

    @property
    def float_steps(self) -> int:
        """Steps before the switch to integers."""
        return self.steps - round(self.steps * self.quantized_share)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * (1 + math.cos(math.pi * progress)) / 2


class Progress:
    """One line on stderr that says how far, how well and how long still; silent every step but a few per second."""

    def __init__(self, total: int, start: int = 0):
        self.total, self.start = total, start
        self.began, self.shown = time.monotonic(), 0.0

    def show(self, step: int, text: str, always: bool = False) -> None:
        """``step`` steps are done."""
        now = time.monotonic()
        # A log file needs a line now and then, a terminal a moving one.
        interval = 0.5 if sys.stderr.isatty() else 30.0
        if not always and now - self.shown < interval:
            return
        self.shown = now
        left = (now - self.began) / max(1, step - self.start) * (self.total - step)
        end = "\r" if sys.stderr.isatty() and not always else "\n"
        line = f"step {step}/{self.total}  {text}  {int(left) // 60}:{int(left) % 60:02d} left"
        print(f"{line:<78}", end=end, file=sys.stderr, flush=True)


class Trainer:
    """A training run and its state.

    Parameters
    ----------
    config : Config
    corpus : Corpus
    symbols : str
        V characters, which cover the corpus.
    settings : TrainSettings

    Members
    -------
    network : CharNetwork
    step : int
        Steps done.
    validation, best : float
        Bits per character of the validation split: last measured; least since the switch to integers.
    best_state : dict
        Parameters of ``best``.
    """

    def __init__(self, config: Config, corpus: Corpus, symbols: str, settings: TrainSettings):
        longest = len(corpus.train) // (settings.segment + 1)
        require(settings.batch <= longest, "batch", f"at most {longest} for this text and segment", settings.batch)
        torch.manual_seed(settings.seed)
        self.corpus, self.symbols, self.settings = corpus, symbols, settings
        self.network = CharNetwork(config, len(symbols))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99))
        self.train_codes = torch.from_numpy(encode(corpus.train, symbols))
        self.validation_codes = torch.from_numpy(encode(corpus.validation, symbols))
        self.streams = TextStreams(self.train_codes, settings.batch, settings.segment)
        self.step, self.state = 0, None
        self.validation = self.best = math.inf
        self.best_state = None

    def run(self, checkpoint: Path) -> bool:
        """Train to the end; ``False`` when interrupted from the keyboard, which leaves a usable checkpoint.

        Raises
        ------
        DivergedError
            The checkpoint on disk then still holds the best parameters.
        """
        settings = self.settings
        progress = Progress(settings.steps, self.step)
        loss = math.nan
        try:
            while self.step < settings.steps:
                if self.step >= settings.float_steps and not self.network.quantized:
                    self._start_quantization()
                loss = self._update()
                if not math.isfinite(loss):
                    raise DivergedError(
                        f"loss must be finite, not {loss} at step {self.step}: "
                        f"use a lower --learning-rate than {settings.learning_rate} ({checkpoint} keeps the best)"
                    )
                self.step += 1
                if self.step % settings.evaluate_every == 0 or self.step == settings.steps:
                    self._validate()
                    self.save(checkpoint)
                    stage = "integer" if self.network.quantized else "float"
                    progress.show(self.step, f"validation {self.validation:.4f} bpc ({stage})", always=True)
                else:
                    progress.show(self.step, f"train {loss / math.log(2):.3f} bpc")
        except KeyboardInterrupt:
            self.save(checkpoint)
            return False
        return True

    def _start_quantization(self) -> None:
        self.network.start_quantization(*choose_formats(self.network))
        self.best, self.best_state = math.inf, None

    def _update(self) -> float:
        """One step of stateful truncated back-propagation through time; nats per character."""
        inputs, targets = self.streams[self.step]
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(self.step)
        logits, state = self.network(inputs, self.state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        if torch.isfinite(loss):
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
            self.optimizer.step()
            self.network.clamp_parameters()
            self.state = tuple(part.detach() for part in state)
        return float(loss.detach())

    def _validate(self) -> None:
        self.validation = self.network.bits_per_character(self.validation_codes)
        if self.validation < self.best:
            self.best = self.validation
            self.best_state = {name: value.clone() for name, value in self.network.state_dict().items()}

    def best_network(self) -> CharNetwork:
        """The network with the best parameters so far, quantized (after training, when that was not reached)."""
        network = CharNetwork(self.network.config, len(self.symbols))
        network.load_state_dict(self.best_state or self.network.state_dict())
        if self.network.quantized:
            network.start_quantization(self.network.config, self.network.head_frac)
        else:
            network.start_quantization(*choose_formats(network))
        return network

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the checkpoint atomically."""
        content = {
            "config": self.network.config.to_dict(),
            "quantized": self.network.quantized,
            "head_frac": self.network.head_frac,
            "settings": dataclasses.asdict(self.settings),
            "symbols": self.symbols,
            "text_sha256": self.corpus.sha256,
            "step": self.step,
            "validation": self.validation,
            "best": self.best,
            "network": self.network.state_dict(),
            "best_network": self.best_state,
            "optimizer": self.optimizer.state_dict(),
            "state": self.state,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        torch.save(content, temporary)
        os.replace(temporary, path)

    @classmethod
    def resume(cls, path: Path, corpus: Corpus, wanted: Config | None = None) -> "Trainer":
        """Continue a run where its checkpoint left it.

        Raises
        ------
        InvalidFileError
            Missing, damaged, of another text, or of another network than ``wanted`` (whose ``weight_frac`` need not
            agree, as training chooses it).
        """
        if not path.is_file():
            raise InvalidFileError(f"{path} must be a checkpoint, not a missing file")
        try:
            content = torch.load(path, weights_only=True)
            config = Config.from_dict(content["config"])
            trainer = cls(config, corpus, content["symbols"], TrainSettings(**content["settings"]))
            if content["quantized"]:
                trainer.network.start_quantization(config, content["head_frac"])
            trainer.network.load_state_dict(content["network"])
            trainer.optimizer.load_state_dict(content["optimizer"])
            found = content["text_sha256"]
            trainer.step, trainer.state = content["step"], content["state"]
            trainer.validation, trainer.best = content["validation"], content["best"]
            trainer.best_state = content["best_network"]
        except UserError:
            raise
        except Exception as error:  # torch reports a damaged file by a dozen kinds of exception.
            reason = str(error).partition("\n")[0]
            raise InvalidFileError(f"{path} must be a whole checkpoint: {reason}") from None
        if found != corpus.sha256:
            raise InvalidFileError(f"text must have the SHA-256 {found} of {path}, not {corpus.sha256}")
        if wanted is not None:
            fracs = {"quantization.weight_frac": list(config.quantization.weight_frac)}
            compare(path, wanted.replace(fracs), config)
        return trainer
