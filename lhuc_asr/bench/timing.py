"""Timings that can be compared: all variants in every round, in changing order, on the wall clock and the CPU clock."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.progress import track
from lhuc_asr.units import Seconds

_NUM_RESAMPLES = 2000
_LEVEL = 0.95
_SEED = 20160101


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to do the work.

    Attributes:
        name: as tables show it.
        run: does all of the work once; what it gives back is only looked at to see that variants agree.
        inside: entered before the clock starts and left after it has stopped, such as attaching an adapter.
        against: the variant whose time its own is divided by; "" for none.
        most_rounds: it takes part in no more than that many, for work that takes long and is far from the others.
    """

    name: str
    run: Callable[[], object]
    inside: Callable[[], AbstractContextManager[object]] = nullcontext
    against: str = ""
    most_rounds: int = 1_000_000

    def once(self) -> object:
        """Do the work without looking at the clock."""
        with self.inside():
            return self.run()


@dataclass(frozen=True)
class Interval:
    """A median over rounds, and the interval that holds the true one in 95 of 100 cases (bootstrap over rounds)."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float] | NDArray[np.float64]) -> Interval:
        """From one value a round.

        Example:
            >>> Interval.of([2.0, 2.0, 2.0])
            Interval(median=2.0, low=2.0, high=2.0)
        """
        sample = np.asarray(values, dtype=np.float64)
        drawn = np.random.default_rng(_SEED).choice(sample, size=(_NUM_RESAMPLES, len(sample)))
        low, high = np.quantile(np.median(drawn, axis=1), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        return Interval(float(np.median(sample)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, eq=False)
class Timings:
    """Seconds of every variant in every round.

    Attributes:
        wall: variant -> (rounds,) seconds on the wall clock, for those rounds in which it took part.
        cpu: variant -> (rounds,) seconds of one core, all threads and child processes added up.
        outcomes: variant -> what it gave in the round that did not count.
    """

    wall: dict[str, NDArray[np.float64]]
    cpu: dict[str, NDArray[np.float64]]
    outcomes: dict[str, object]

    @property
    def num_rounds(self) -> int:
        """Of those variants that took part in all."""
        return max(map(len, self.wall.values()))

    def ratio(self, name: str, against: str) -> Interval:
        """How many times as long a variant takes as another one; rounds are compared one by one."""
        return _quotients(self.wall, name, against)

    def cpu_ratio(self, name: str, against: str) -> Interval:
        """The same on the CPU clock, which other programs on the machine move less."""
        return _quotients(self.cpu, name, against)


def _quotients(clock: dict[str, NDArray[np.float64]], name: str, against: str) -> Interval:
    common = min(len(clock[name]), len(clock[against]))
    return Interval.of(clock[name][:common] / clock[against][:common])


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How long is measured.

    Attributes:
        seconds: as many rounds as fit into that time.
        fewest: but never fewer than that.
        most: nor more.
        warm: let every timed run follow one that is not timed, so that all find their weights in the cache.
    """

    seconds: Seconds = 30.0
    fewest: int = 5
    most: int = 100
    warm: bool = False


def interleave(variants: Sequence[Variant], rounds: Rounds, device: torch.device, *, description: str) -> Timings:
    """Run all variants once a round, each round in another order, so that what the machine does meanwhile hits all.

    A round before the others does not count.

    Args:
        variants: all names differ.
        rounds: how many.
        device: waited for before a clock is read.
        description: of the progress bar.
    """
    outcomes, num_rounds = _first_round(variants, rounds)
    order = list(variants)
    wall: dict[str, list[float]] = {variant.name: [] for variant in variants}
    cpu: dict[str, list[float]] = {variant.name: [] for variant in variants}
    shuffle = random.Random(_SEED).shuffle
    for done in track(range(num_rounds), description, total=num_rounds, unit="round"):
        shuffle(order)
        for variant in (one for one in order if done < one.most_rounds):
            if rounds.warm:
                variant.once()
            seconds, core = _timed(variant, device)
            wall[variant.name].append(seconds)
            cpu[variant.name].append(core)
    return Timings(_arrays(wall), _arrays(cpu), outcomes)


def _first_round(variants: Sequence[Variant], rounds: Rounds) -> tuple[dict[str, object], int]:
    """What every variant gives, and how many rounds there is time for."""
    outcomes: dict[str, object] = {}
    per_round = 1e-9
    for variant in variants:
        began = time.perf_counter()
        outcomes[variant.name] = variant.once()
        if variant.most_rounds > rounds.most:
            per_round += (time.perf_counter() - began) * (2 if rounds.warm else 1)
    return outcomes, int(min(max(rounds.seconds / per_round, rounds.fewest), rounds.most))


def _arrays(lists: dict[str, list[float]]) -> dict[str, NDArray[np.float64]]:
    return {name: np.array(values) for name, values in lists.items()}


def _timed(variant: Variant, device: torch.device) -> tuple[Seconds, Seconds]:
    with variant.inside():
        _wait_for(device)
        core, clock = core_seconds(), time.perf_counter()
        variant.run()
        _wait_for(device)
        return time.perf_counter() - clock, core_seconds() - core


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def core_seconds() -> Seconds:
    """Time of one core that this process has used, with all threads and with child processes that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
