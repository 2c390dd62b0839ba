"""The newbob schedule: a constant learning rate while it pays, then half of it after every epoch, then the end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lhuc_asr.errors import ConfigError
from lhuc_asr.ranges import require_at_least, require_positive


class Measure(Enum):
    """What of the held-out speakers must fall: mean cross-entropy, or the share of wrong frames."""

    loss = "loss"
    frame_error = "frame_error"


@dataclass(kw_only=True, slots=True)
class NewbobConfig:
    """When the learning rate falls and when training ends.

    Attributes:
        initial_lr: learning rate of the first epochs.
        measure: what is watched, and by which the best epoch is chosen. On few training speakers the loss of others
            rises early, from overconfidence, while their frame errors still fall.
        start_halving: relative improvement of the measure below which halving begins.
        stop: relative improvement below which training ends, once halving has begun; below 0 is never.
        factor: by which the rate is multiplied after every epoch once halving has begun.
        min_epochs: epochs before which halving does not begin.
        max_epochs: training ends after that many epochs at the latest.

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section V: newbob from 0.08; the thresholds are not
    printed there: these are those of Kaldi's ``nnet/train_scheduler.sh``, with halving begun a little later.
    """

    initial_lr: float = 0.08
    measure: Measure = Measure.loss
    start_halving: float = 0.005
    stop: float = 0.001
    factor: float = 0.5
    min_epochs: int = 0
    max_epochs: int = 20

    def __post_init__(self) -> None:
        require_positive(self, "training.newbob", "initial_lr")
        require_at_least(1, self, "training.newbob", "max_epochs")
        require_at_least(0, self, "training.newbob", "min_epochs")
        if not 0 < self.factor < 1:
            raise ConfigError(f"training.newbob.factor must lie between 0 and 1, got {self.factor}")
        if self.stop > self.start_halving:
            raise ConfigError(
                f"training.newbob.stop must not exceed start_halving, got {self.stop} and {self.start_halving}"
            )


@dataclass(frozen=True, kw_only=True)
class NewbobState:
    """Where the schedule stands between two epochs.

    Attributes:
        lr: rate of the next epoch.
        num_epochs: epochs done.
        halving: whether halving has begun.
        finished: whether training has ended.
        lowest: lowest value of the measure so far; None before the first epoch.
        improved: whether the last epoch lowered it.
    """

    lr: float
    num_epochs: int = 0
    halving: bool = False
    finished: bool = False
    lowest: float | None = None
    improved: bool = False


def start(config: NewbobConfig) -> NewbobState:
    """The schedule before the first epoch."""
    return NewbobState(lr=config.initial_lr)


def advance(state: NewbobState, measured: float, config: NewbobConfig) -> NewbobState:
    """The schedule after one more epoch.

    Args:
        state: before the epoch.
        measured: of the held-out speakers after the epoch; not finite counts as no improvement.
        config: thresholds.

    Example:
        >>> config = NewbobConfig(initial_lr=1.0)
        >>> state = start(config)
        >>> for loss in (3.0, 2.0, 1.999, 1.8, 1.799):
        ...     state = advance(state, loss, config)
        ...     print(state.lr, state.finished)
        1.0 False
        1.0 False
        0.5 False
        0.25 False
        0.25 True
    """
    best = state.lowest
    improved = measured < best if best is not None else measured < float("inf")
    improvement = float("inf") if best is None else (best - measured) / abs(best) if improved else 0.0
    num_epochs = state.num_epochs + 1
    finished = num_epochs >= config.max_epochs or (state.halving and improvement < config.stop)
    halving = state.halving or (num_epochs >= config.min_epochs and improvement < config.start_halving)
    return NewbobState(
        lr=state.lr * config.factor if halving and not finished else state.lr,
        num_epochs=num_epochs,
        halving=halving,
        finished=finished,
        lowest=measured if improved else best,
        improved=improved,
    )
