"""The training loop: minibatches, gradient steps, held-out speakers after each epoch, checkpoints on the way."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.progress import track
from lhuc_asr.ranges import require_at_least, require_share_below_one
from lhuc_asr.tensors import digest
from lhuc_asr.training.board import ScalarBoard
from lhuc_asr.training.checkpoint import CheckpointStore, EpochReport, Progress
from lhuc_asr.training.examples.sequence_batches import SequenceConfig
from lhuc_asr.training.learner import Learner
from lhuc_asr.training.optimiser import OptimiserConfig, build_optimiser, set_lr
from lhuc_asr.training.precision import Precision, resolve
from lhuc_asr.training.processes.distributed import Device, by_first, is_first, own_device, own_share
from lhuc_asr.training.schedule.annealing import DropoutAnnealing
from lhuc_asr.training.schedule.averaging import best_epochs, mean_weights
from lhuc_asr.training.schedule.newbob import Measure, NewbobConfig, advance, start
from lhuc_asr.training.step import Stepper
from lhuc_asr.training.tasks.evaluation import FrameScore
from lhuc_asr.training.tasks.task import Task, plain
from lhuc_asr.units import Seconds

logger = logging.getLogger(__name__)

_LATER = ("num_accumulated", "num_averaged", "annealed_epochs")
"""Settings that came later; at their defaults a run is the one that it was without them."""


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    """How a network learns.

    Attributes:
        batch_size: frames of a minibatch, where frames are learnt from one by one.
        label_smoothing: share of each target's mass that goes to all states alike.
        precision: arithmetic of the matrix products.
        device: where they are computed.
        decay: share of itself to which the learning rate falls, minibatch by minibatch, until ``newbob.max_epochs``;
            1 leaves it to newbob alone.
        warmup: minibatches over which it rises at the very beginning.
        num_accumulated: minibatches that count as one: a step follows the mean gradient of all their frames. Batch
            normalisation still sees them one by one.
        num_averaged: so many of the best epochs, by the measure of newbob, have their weights averaged at the end; the
            mean is taken only where it does no worse on the held-out speakers than the best epoch.
        annealed_epochs: over so many the network's dropout falls evenly to 0, where it stays; 0 leaves it as it is.
            Newbob should not end before: see ``newbob.min_epochs``.
        go_back: after an epoch that did not help, return to the best weights before the next.
        sequences: how whole utterances become minibatches, where these are learnt from.
        checkpoint_minutes: a checkpoint is written that often, and after every epoch.
        optimiser: how gradients become steps.
        newbob: learning rate and number of epochs.
    """

    batch_size: int = 256
    label_smoothing: float = 0.0
    precision: Precision = Precision.auto
    device: Device = Device.auto
    decay: float = 1.0
    warmup: int = 0
    num_accumulated: int = 1
    num_averaged: int = 1
    annealed_epochs: int = 0
    go_back: bool = True
    sequences: SequenceConfig = field(default_factory=SequenceConfig)
    checkpoint_minutes: float = 2.0
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    newbob: NewbobConfig = field(default_factory=NewbobConfig)

    def __post_init__(self) -> None:
        require_at_least(1, self, "training", "batch_size", "num_accumulated", "num_averaged")
        require_at_least(0, self, "training", "warmup", "annealed_epochs", "checkpoint_minutes")
        require_share_below_one(self, "training", "label_smoothing")
        if not 0.0 < self.decay <= 1.0:
            raise ConfigError(f"training.decay must lie in (0, 1], got {self.decay}")

    def relevant(self) -> dict[str, Any]:
        """The settings that matter, so that what was trained before dropout could fall need not be trained again."""
        names = (setting.name for setting in fields(self))
        return {name: getattr(self, name) for name in names if name != "annealed_epochs" or self.annealed_epochs}


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What training achieved.

    Attributes:
        history: every epoch in figures.
        best_epoch: the epoch that did best on the held-out speakers, from 1.
        averaged: epochs whose mean weights the network now has; empty where it has those of the best epoch alone.
        average: how the mean does on the held-out speakers, also where it was not taken; None where none was made.
        seconds: wall-clock time of this call.
    """

    history: tuple[EpochReport, ...]
    best_epoch: int
    averaged: tuple[int, ...] = ()
    average: FrameScore | None = None
    seconds: Seconds

    @property
    def best(self) -> EpochReport:
        """The figures of the best epoch."""
        return self.history[self.best_epoch - 1]


def train(
    network: AcousticNetwork, task: Task[Any], config: TrainingConfig, directory: Path, *, seed: int = 0
) -> TrainingReport:
    """Train a network, or go on where an earlier call in the same directory was broken off.

    A run that was killed and resumed ends with the same weights, bit for bit, as one that ran through with as many
    threads and processes: all that is random depends on seed, epoch and minibatch alone, the rest lies in the
    checkpoint.

    Where torchrun started several processes and `distributed.joined` has joined them, all of them call this with the
    same arguments. Each takes its share of every minibatch, so that the run follows that of one process, up to
    rounding, what is drawn for dropout and noise, and statistics of batch normalisation, which are those of a share.
    The first process alone judges the held-out speakers and writes. A run may go on with another number of processes.

    Args:
        network: its weights are where a new run begins; at the end it has those of the best epoch, or the
            mean of the best ones, in evaluation mode.
        task: what it learns.
        config: how to learn.
        directory: for the checkpoint and TensorBoard scalars; belongs to this run alone.
        seed: of dropout; order and augmentation are the task's.

    Raises:
        ConfigError: the run in this directory began with other settings, data or initial weights, or dropout shall
            fall and the network has none.
        DataError: the network cannot learn the task, or the objective ceased to be finite; what was learnt until the
            last checkpoint is kept.
    """
    began = time.monotonic()
    task.check(network)
    home = next(network.parameters()).device
    network.to(own_device(config.device) if home.type == "cpu" else home)
    try:
        conditioned = nullcontext() if task.conditioning is None else task.conditioning.attached(network)
        with torch.random.fork_rng(), conditioned:
            return _Run(network, task, config, directory, seed=seed).finish(began)
    finally:
        network.to(home)


class _Run:
    """One run: network, optimiser and progress, which always belong together between two minibatches."""

    def __init__(
        self, network: AcousticNetwork, task: Task[Any], config: TrainingConfig, directory: Path, *, seed: int
    ) -> None:
        self.device = next(network.parameters()).device
        config = replace(config, precision=resolve(config.precision, self.device))
        self.network, self.task, self.config, self.seed = network, task, config, seed
        self.dropout = DropoutAnnealing(network, num_epochs=config.annealed_epochs)
        self.optimiser = build_optimiser(network, config.optimiser)
        self.learner = Learner(network, self.optimiser, task.conditioning)
        self.stepper = Stepper(
            network,
            task,
            self.optimiser,
            max_gradient_norm=config.optimiser.max_gradient_norm,
            precision=config.precision,
            seed=seed,
        )
        self.progress = Progress(newbob=start(config.newbob))
        self.store = CheckpointStore(directory, by_first(lambda: _identity(network, task, config, seed)))
        self.board = ScalarBoard(directory / "tensorboard")
        self.saved = time.monotonic()
        self.before = 0

    def finish(self, began: float) -> TrainingReport:
        """Train to the end, from wherever the checkpoint stands."""
        self._resume()
        while not self.progress.newbob.finished:
            self._run_epoch()
            self._close_epoch()
        self.board.close()
        average = self._average()
        averaged = self.progress.kept if average is not None and self._is_as_good(average) else ()
        if not averaged:
            self._use_best()
        self.network.eval()
        return TrainingReport(
            history=self.progress.history,
            best_epoch=self.progress.best_epoch,
            averaged=averaged,
            average=average,
            seconds=time.monotonic() - began,
        )

    def _average(self) -> FrameScore | None:
        """Give the network the mean of the best epochs, if there are several; how it does."""
        kept = self.progress.kept
        if len(kept) < 2:
            return None
        weights = by_first(lambda: mean_weights([self.store.epoch(epoch) for epoch in kept]))
        self.learner.take_learnt(weights, source=self.store.directory)
        return by_first(lambda: self.task.score(self.network))

    def _is_as_good(self, average: FrameScore) -> bool:
        """Whether the mean is taken; said in the log."""
        best, measure = self.progress.history[self.progress.best_epoch - 1], self.config.newbob.measure
        is_as_good = _measured(average, measure) <= _measured(best.score, measure)
        logger.info(
            "the mean of epochs %s has held-out loss %.4f, accuracy %.2f %%: %s epoch %d",
            ", ".join(map(str, sorted(self.progress.kept))),
            average.loss,
            100 * average.accuracy,
            "taken instead of" if is_as_good else "worse, so the network is that of",
            best.epoch,
        )
        return is_as_good

    def _use_best(self) -> None:
        learnt = by_first(lambda: self.store.epoch(self.progress.best_epoch))
        self.learner.take_learnt(learnt, source=self.store.directory)

    def _resume(self) -> None:
        progress = by_first(self.store.load)
        if progress is None:
            return
        self.progress = progress
        self.learner.take_all(by_first(self.store.last), source=self.store.directory)
        logger.info("resuming after %d epochs and %d minibatches", progress.newbob.num_epochs, progress.batch)

    def _run_epoch(self) -> None:
        epoch, first = self.progress.newbob.num_epochs, self.progress.batch
        self.before = self._batches_before(epoch)
        num_batches = self.task.num_batches(epoch)
        batches = self.task.batches(epoch, start=first, share=own_share())
        self.network.train()
        bar = track(batches, f"epoch {epoch + 1}", total=num_batches - first, unit="minibatch")
        with self.dropout.in_epoch(epoch):
            for group in _groups(bar, self.config.num_accumulated):
                self._step(group, epoch, num_batches)
                if time.monotonic() - self.saved >= 60 * self.config.checkpoint_minutes:
                    self._save()

    def _step(self, group: list[Any], epoch: int, num_batches: int) -> None:
        before = self.progress
        set_lr(self.optimiser, self._lr(epoch, num_batches))
        number = before.batch // self.config.num_accumulated
        tally = self.stepper.step(group, epoch=epoch, first=before.batch, number=number)
        self.progress = replace(before, batch=before.batch + len(group), tally=before.tally + tally)

    def _lr(self, epoch: int, num_batches: int) -> float:
        """The schedule's rate, on its way down, and at the very beginning on its way up."""
        config, batch = self.config, self.progress.batch
        lr = self.progress.newbob.lr * math.pow(config.decay, (epoch + batch / num_batches) / config.newbob.max_epochs)
        number = self.before + batch
        return lr if number >= config.warmup else lr * (number + 1) / config.warmup

    def _batches_before(self, epoch: int) -> int:
        """Minibatches of the epochs before, each with its own number; counted no further than the warm-up goes."""
        total = 0
        for earlier in range(epoch):
            if total >= self.config.warmup:
                break
            total += self.task.num_batches(earlier)
        return total

    def _close_epoch(self) -> None:
        score = by_first(lambda: self.task.score(self.network))
        before = self.progress
        newbob = advance(before.newbob, _measured(score, self.config.newbob.measure), self.config.newbob)
        report = EpochReport(
            epoch=newbob.num_epochs,
            lr=before.newbob.lr,
            train_loss=before.tally.loss_sum / before.tally.num_frames,
            train_accuracy=before.tally.num_correct / before.tally.num_frames,
            valid_loss=score.loss,
            valid_accuracy=score.accuracy,
        )
        if newbob.lowest is None:
            raise DataError(
                f"the held-out loss of the first epoch is {score.loss}; "
                f"lower training.newbob.initial_lr ({self.config.newbob.initial_lr})"
            )
        if is_first():
            self.board.write(report)
        _log(report, newbob.improved)
        history = (*before.history, report)
        measured = [_measured(one.score, self.config.newbob.measure) for one in history]
        self.progress = Progress(newbob=newbob, history=history, kept=best_epochs(measured, self.config.num_averaged))
        learnt = self.learner.learnt()
        if not newbob.improved and self.config.go_back:
            learnt = {name: tensor.clone() for name, tensor in learnt.items()}
            self._use_best()
            self.learner.forget()
        self._save(learnt if newbob.num_epochs in self.progress.kept else None)

    def _save(self, epoch: dict[str, Tensor] | None = None) -> None:
        if not is_first():
            return
        self.store.save(self.progress, self.learner.all(), epoch)
        self.saved = time.monotonic()


def _groups(batches: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Minibatches by so many, the last ones maybe by fewer."""
    while group := list(islice(batches, size)):
        yield group


def _measured(score: FrameScore, measure: Measure) -> float:
    """What the schedule watches; a loss that is not finite is never an improvement."""
    return 1.0 - score.accuracy if measure is Measure.frame_error and math.isfinite(score.loss) else score.loss


def _identity(network: AcousticNetwork, task: Task[Any], config: TrainingConfig, seed: int) -> dict[str, Any]:
    """What must be the same for a run to be the same run."""
    settings = plain(config)
    for name in ("checkpoint_minutes", "device", "sequences", "batch_size", "label_smoothing"):
        settings.pop(name)  # the last three are the task's, where it knows them
    for name in _LATER:
        if settings[name] == getattr(TrainingConfig(), name):
            settings.pop(name)
    return {"training": settings, "seed": seed, "initial_weights": digest(network.state_dict()), **task.identity()}


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
