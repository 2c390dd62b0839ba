"""A click log with the time of every impression, and its parts: the first to learn from, the last to test on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.ranking.schema import ClickLog

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TimedLog:
    """A click log before it is split.

    Attributes:
        log: N impressions, in any order.
        times: (N,) when each was shown; any unit, only the order counts.

    Raises:
        DataError: there is not one time for each impression.
    """

    log: ClickLog
    times: Times

    def __post_init__(self) -> None:
        if self.times.shape != (len(self.log),):
            raise DataError(f"{len(self.log)} impressions need as many times, got shape {self.times.shape}")

    def with_tasks(self, tasks: Sequence[str]) -> TimedLog:
        """The same impressions with some of the labels.

        Raises:
            DataError: there is no such label.
        """
        if missing := [task for task in tasks if task not in self.log.labels]:
            raise DataError(f"there is no label {missing[0]!r}; the log has: {', '.join(self.log.labels)}")
        labels = {task: label for task, label in self.log.labels.items() if task in tasks}
        chances = {task: chance for task, chance in self.log.chances.items() if task in tasks}
        return TimedLog(replace(self.log, labels=labels, chances=chances), self.times)

    def rows(self, chosen: NDArray[Any] | slice) -> TimedLog:
        """Some impressions, by a mask, by numbers or a slice."""
        return TimedLog(self.log.rows(chosen), self.times[chosen])


class Cut(Enum):
    """Where the parts of a log end."""

    moment = "at the same moment for everybody, as in a product that goes on"
    user = "after the same share of each user's impressions, where people come once, as in MovieLens"


@dataclass(kw_only=True, slots=True)
class SplitConfig:
    """How much of a log is held out.

    Attributes:
        cut: at one moment for all, or for each user.
        dev: share of the impressions between training and test, to choose settings and the epoch by.
        test: share of the impressions at the end.
    """

    cut: Cut = Cut.moment
    dev: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if not (self.dev > 0 and self.test > 0 and self.dev + self.test < 1):
            raise ConfigError(
                "click_split.dev and click_split.test are shares above 0 that leave some for training, "
                f"got {self.dev} and {self.test}"
            )


@dataclass(frozen=True, slots=True)
class Split:
    """Three parts of a log: what each user was shown in dev is later than what is in train, and test is later still."""

    train: ClickLog
    dev: ClickLog
    test: ClickLog

    @property
    def parts(self) -> dict[str, ClickLog]:
        """The parts by name, in the order of time."""
        return {"train": self.train, "dev": self.dev, "test": self.test}


def split_by_time(timed: TimedLog, config: SplitConfig | None = None) -> Split:
    """Cut a log into what came first, next and last.

    A ranking model serves the days after those it was trained on: a split at random would let it see a user's later
    tastes, and every item's later fame, while it trains. Impressions of the same moment stay together.

    Args:
        timed: the log.
        config: the shares, and whether the cut is at one moment; where many impressions are of one moment, shares are
            met only roughly, and a user with one or two is in training alone when cut by user.

    Raises:
        DataError: a part would be empty.

    Example:
        >>> log = ClickLog(np.arange(10), np.arange(10), np.zeros(10, int), {"click": np.zeros(10)})
        >>> parts = split_by_time(TimedLog(log, np.arange(10)[::-1])).parts
        >>> {name: part.user_id.tolist() for name, part in parts.items() if name != "train"}
        {'dev': [1], 'test': [0]}
    """
    config = config or SplitConfig()
    ordered = timed.rows(np.argsort(timed.times, kind="stable"))
    age = _age(ordered.times) if config.cut is Cut.moment else _age_by_user(ordered)
    last, later = age >= 1 - config.test, age >= 1 - config.dev - config.test
    masks = {"train": ~later, "dev": later & ~last, "test": last}
    for name, mask in masks.items():
        if not mask.any():
            raise DataError(
                f"{len(timed.log)} impressions at {len(np.unique(timed.times))} different times cannot be split into "
                f"train, dev ({config.dev:g}) and test ({config.test:g}): nothing is left for {name}"
            )
    return Split(**{name: ordered.log.rows(mask) for name, mask in masks.items()})


def _age(times: Times) -> NDArray[np.float64]:
    """(N,) the share of impressions that came before that moment; times ascend."""
    return np.searchsorted(times, times) / max(1, len(times))


def _age_by_user(ordered: TimedLog) -> NDArray[np.float64]:
    """(N,) the share of the user's own impressions that came before that moment."""
    age = np.empty(len(ordered.log))
    by_user = np.argsort(ordered.log.user_id, kind="stable")
    borders = np.flatnonzero(np.diff(ordered.log.user_id[by_user])) + 1
    for group in np.split(by_user, borders):
        age[group] = _age(ordered.times[group])
    return age
