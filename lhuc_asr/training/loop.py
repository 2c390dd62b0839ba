"""The training loop: shuffled frames, gradient steps, held-out speakers after each epoch, checkpoints on the way."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.weights import load_weights
from lhuc_asr.progress import track
from lhuc_asr.tensors import digest
from lhuc_asr.training.board import ScalarBoard
from lhuc_asr.training.checkpoint import CheckpointStore, EpochReport, Progress
from lhuc_asr.training.evaluation import FrameScore, score_frames
from lhuc_asr.training.frame_data import FrameData, TrainingData
from lhuc_asr.training.newbob import Measure, NewbobConfig, advance, start
from lhuc_asr.training.objectives import frame_cross_entropy
from lhuc_asr.training.optimiser import (
    OptimiserConfig,
    build_optimiser,
    optimiser_tensors,
    restore_optimiser,
    set_lr,
)
from lhuc_asr.training.precision import Precision, resolve
from lhuc_asr.training.seeds import Purpose, derive_seed, generator
from lhuc_asr.units import Seconds

logger = logging.getLogger(__name__)

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""(N, W, F) windows and a random stream -> (N, W, F) windows that sound different but mean the same."""


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    """How a network learns from aligned frames.

    Attributes:
        batch_size: frames of a minibatch.
        label_smoothing: share of each target's mass that goes to all states alike.
        precision: arithmetic of the matrix products.
        go_back: after an epoch that did not help, return to the best weights before the next.
        checkpoint_minutes: a checkpoint is written that often, and after every epoch.
        optimiser: how gradients become steps.
        newbob: learning rate and number of epochs.
    """

    batch_size: int = 256
    label_smoothing: float = 0.0
    precision: Precision = Precision.auto
    go_back: bool = True
    checkpoint_minutes: float = 2.0
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    newbob: NewbobConfig = field(default_factory=NewbobConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"training.batch_size must be at least 1, got {self.batch_size}")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ConfigError(f"training.label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        if self.checkpoint_minutes < 0:
            raise ConfigError(f"training.checkpoint_minutes must be 0 or more, got {self.checkpoint_minutes}")


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What training achieved.

    Attributes:
        history: every epoch in figures.
        best_epoch: the epoch whose weights the network now has, from 1.
        seconds: wall-clock time of this call.
    """

    history: tuple[EpochReport, ...]
    best_epoch: int
    seconds: Seconds

    @property
    def best(self) -> EpochReport:
        """The figures of the epoch that was kept."""
        return self.history[self.best_epoch - 1]


def train(
    network: AcousticNetwork,
    data: TrainingData,
    config: TrainingConfig,
    directory: Path,
    *,
    seed: int = 0,
    augment: Augment | None = None,
) -> TrainingReport:
    """Train a network, or go on where an earlier call in the same directory was broken off.

    A run that was killed and resumed ends with the same weights, bit for bit, as one that ran through with as many
    threads: all that is random depends on seed, epoch and minibatch alone, the rest lies in the checkpoint.

    Args:
        network: its weights are where a new run begins; at the end it has those of the best epoch, in evaluation mode.
        data: frames to learn from, and frames of held-out speakers.
        config: how to learn.
        directory: for the checkpoint and TensorBoard scalars; belongs to this run alone.
        seed: of the order of frames, dropout and augmentation.
        augment: changes the training windows; None leaves them as they are.

    Raises:
        ConfigError: the run in this directory began with other settings, data or initial weights.
        DataError: a target is no output of the network, or the objective ceased to be finite.
    """
    began = time.monotonic()
    _check_targets(network, data)
    with torch.random.fork_rng():
        return _Run(network, data, config, directory, seed=seed, augment=augment).finish(began)


class _Run:
    """One run: network, optimiser and progress, which always belong together between two minibatches."""

    def __init__(
        self,
        network: AcousticNetwork,
        data: TrainingData,
        config: TrainingConfig,
        directory: Path,
        *,
        seed: int,
        augment: Augment | None,
    ) -> None:
        self.device = next(network.parameters()).device
        config = replace(config, precision=resolve(config.precision, self.device))
        self.network, self.data, self.config, self.seed, self.augment = network, data, config, seed, augment
        self.optimiser = build_optimiser(network, config.optimiser)
        self.progress = Progress(newbob=start(config.newbob))
        self.store = CheckpointStore(directory, _identity(network, data, config, seed, augment))
        self.board = ScalarBoard(directory / "tensorboard")
        self.saved = time.monotonic()

    def finish(self, began: float) -> TrainingReport:
        """Train to the end, from wherever the checkpoint stands."""
        self._resume()
        while not self.progress.newbob.finished:
            self._run_epoch()
            self._close_epoch()
        self.board.close()
        load_weights(self.network, self.store.best(), source=str(self.store.directory))
        self.network.eval()
        return TrainingReport(
            history=self.progress.history,
            best_epoch=self.progress.best_epoch,
            seconds=time.monotonic() - began,
        )

    def _resume(self) -> None:
        progress = self.store.load()
        if progress is None:
            return
        self.progress = progress
        tensors = self.store.last()
        self._restore(tensors)
        logger.info("resuming after %d epochs and %d minibatches", progress.newbob.num_epochs, progress.batch)

    def _run_epoch(self) -> None:
        epoch = self.progress.newbob.num_epochs
        order = torch.randperm(len(self.data.training), generator=generator(self.seed, Purpose.order, epoch))
        batches = torch.split(order, self.config.batch_size)[self.progress.batch :]
        set_lr(self.optimiser, self.progress.newbob.lr)
        self.network.train()
        for indices in track(batches, f"epoch {epoch + 1}", unit="minibatch"):
            loss, num_correct = self._step(*self.data.training.batch(indices))
            self.progress = replace(
                self.progress,
                batch=self.progress.batch + 1,
                loss_sum=self.progress.loss_sum + loss * len(indices),
                num_correct=self.progress.num_correct + num_correct,
                num_frames=self.progress.num_frames + len(indices),
            )
            if time.monotonic() - self.saved >= 60 * self.config.checkpoint_minutes:
                self._save()

    def _step(self, windows: Tensor, states: Tensor) -> tuple[float, int]:
        """One minibatch: its objective and how many of its frames were right."""
        epoch, batch = self.progress.newbob.num_epochs, self.progress.batch
        torch.manual_seed(derive_seed(self.seed, Purpose.dropout, epoch, batch))
        if self.augment is not None:
            windows = self.augment(windows, generator(self.seed, Purpose.augmentation, epoch, batch))
        targets = states.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision is Precision.bfloat16):
            log_probs = self.network.forward_windows(windows.to(self.device)).float()
        loss = frame_cross_entropy(log_probs, targets, label_smoothing=self.config.label_smoothing)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.optimiser.max_gradient_norm:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimiser.max_gradient_norm)
        self.optimiser.step()
        return float(loss.detach()), int((log_probs.detach().argmax(dim=1) == targets).sum())

    def _close_epoch(self) -> None:
        score = score_frames(self.network, self.data.validation)
        before = self.progress
        newbob = advance(before.newbob, _measured(score, self.config.newbob.measure), self.config.newbob)
        report = EpochReport(
            epoch=newbob.num_epochs,
            lr=before.newbob.lr,
            train_loss=before.loss_sum / before.num_frames,
            train_accuracy=before.num_correct / before.num_frames,
            valid_loss=score.loss,
            valid_accuracy=score.accuracy,
        )
        if newbob.lowest is None:
            raise DataError(
                f"the held-out loss of the first epoch is {score.loss}; "
                f"lower training.newbob.initial_lr ({self.config.newbob.initial_lr})"
            )
        self.board.write(report)
        _log(report, newbob.improved)
        best_epoch = newbob.num_epochs if newbob.improved else before.best_epoch
        self.progress = Progress(newbob=newbob, history=(*before.history, report), best_epoch=best_epoch)
        if not newbob.improved and self.config.go_back:
            load_weights(self.network, self.store.best(), source=str(self.store.directory))
            self.optimiser.state.clear()
        self._save(best=self.network.state_dict() if newbob.improved else None)

    def _save(self, best: dict[str, Tensor] | None = None) -> None:
        weights = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        memory = {f"optimiser.{name}": tensor for name, tensor in optimiser_tensors(self.optimiser).items()}
        self.store.save(self.progress, {**weights, **memory}, best)
        self.saved = time.monotonic()

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimiser": {}}
        for key, tensor in tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = tensor
        load_weights(self.network, parts["network"], source=str(self.store.directory))
        restore_optimiser(self.optimiser, parts["optimiser"])


def _measured(score: FrameScore, measure: Measure) -> float:
    """What the schedule watches; a loss that is not finite is never an improvement."""
    return 1.0 - score.accuracy if measure is Measure.frame_error and math.isfinite(score.loss) else score.loss


def _check_targets(network: AcousticNetwork, data: TrainingData) -> None:
    for frames in (data.training, data.validation):
        if int(frames.targets.max()) >= network.num_outputs:
            raise DataError(f"tied state {int(frames.targets.max())} is none of the network's {network.num_outputs}")


def _identity(
    network: AcousticNetwork, data: TrainingData, config: TrainingConfig, seed: int, augment: Augment | None
) -> dict[str, Any]:
    """What must be the same for a run to be the same run."""
    settings = _plain(config)
    settings.pop("checkpoint_minutes")
    return {
        "training": settings,
        "seed": seed,
        "augmentation": _plain(getattr(augment, "config", None)) or (augment is not None),
        "initial_weights": digest(network.state_dict()),
        "training_frames": _digest(data.training),
        "validation_frames": _digest(data.validation),
    }


def _plain(settings: Any) -> dict[str, Any]:
    """Settings as JSON values; nothing where there are none."""
    if not is_dataclass(settings) or isinstance(settings, type):
        return {}
    return asdict(settings, dict_factory=lambda items: {k: v.name if isinstance(v, Enum) else v for k, v in items})


def _digest(data: FrameData) -> str:
    return digest({"targets": data.targets})


def _log(report: EpochReport, improved: bool) -> None:
    logger.info(
        "epoch %d: lr %.3g, training loss %.4f, accuracy %.2f %%; held-out loss %.4f, accuracy %.2f %%%s",
        report.epoch,
        report.lr,
        report.train_loss,
        100 * report.train_accuracy,
        report.valid_loss,
        100 * report.valid_accuracy,
        "" if improved else " (no better)",
    )
