"""Timings: every variant once a round, intervals around medians, and work of child processes on the CPU clock."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.bench.timing import Interval, Rounds, Timings, Variant, core_seconds, interleave
from lhuc_asr.parallel import map_in_processes

CPU = torch.device("cpu")


def test_every_variant_runs_once_a_round_and_once_before() -> None:
    runs: list[str] = []
    variants = [Variant(name, lambda name=name: runs.append(name)) for name in ("a", "b", "c")]
    timings = interleave(variants, Rounds(seconds=0.0, fewest=7), CPU, description="test")
    assert timings.num_rounds == 7
    assert Counter(runs) == {"a": 8, "b": 8, "c": 8}
    rounds = [tuple(runs[start : start + 3]) for start in range(3, len(runs), 3)]
    assert all(set(one) == {"a", "b", "c"} for one in rounds)
    assert len(set(rounds)) > 1, "the order never changes"


def test_the_outcome_of_the_round_before_is_kept() -> None:
    timings = interleave([Variant("a", lambda: 7)], Rounds(seconds=0.0, fewest=1), CPU, description="test")
    assert timings.outcomes == {"a": 7}
    assert set(timings.wall) == set(timings.cpu) == {"a"}


def test_no_more_rounds_than_allowed() -> None:
    timings = interleave([Variant("a", lambda: None)], Rounds(seconds=60.0, most=4), CPU, description="test")
    assert timings.num_rounds == 4


def test_work_is_done_inside_its_context() -> None:
    inside, seen = [], []

    @contextmanager
    def enter():
        inside.append(True)
        yield
        inside.pop()

    variant = Variant("a", lambda: seen.append(bool(inside)), enter)
    interleave([variant], Rounds(seconds=0.0, fewest=3), CPU, description="test")
    assert seen == [True] * 4
    assert not inside


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=20))
def test_an_interval_holds_its_median(values: list[float]) -> None:
    interval = Interval.of(values)
    assert min(values) <= interval.low <= interval.median <= interval.high <= max(values)


def test_rounds_are_compared_one_by_one() -> None:
    slow_then_fast = np.array([8.0, 1.0, 4.0])
    clock = {"a": slow_then_fast, "b": 2 * slow_then_fast}
    timings = Timings(clock, clock, {})
    assert timings.ratio("b", "a") == timings.cpu_ratio("b", "a") == Interval(2.0, 2.0, 2.0)


def test_slow_work_takes_part_in_a_few_rounds() -> None:
    runs = Counter[str]()
    variants = [
        Variant("quick", lambda: runs.update(["quick"])),
        Variant("slow", lambda: runs.update(["slow"]), against="quick", most_rounds=2),
    ]
    timings = interleave(variants, Rounds(seconds=0.0, fewest=6), CPU, description="test")
    assert runs == {"quick": 7, "slow": 3}
    assert timings.num_rounds == 6
    expected = Interval.of(timings.wall["slow"] / timings.wall["quick"][:2])
    assert timings.ratio("slow", "quick") == expected


def test_the_cpu_clock_counts_child_processes() -> None:
    def work(size: int) -> float:
        return float(np.linalg.svd(np.random.default_rng(0).random((size, size)))[1][0])

    before, own = core_seconds(), time.process_time()
    list(map_in_processes(work, [150, 150], num_jobs=2))
    spent, own_spent = core_seconds() - before, time.process_time() - own
    assert spent > own_spent


@pytest.mark.parametrize("fewest", [1, 3])
def test_fewest_rounds_hold_for_slow_work(fewest: int) -> None:
    timings = interleave([Variant("a", lambda: None)], Rounds(seconds=0.0, fewest=fewest), CPU, description="test")
    assert timings.num_rounds == fewest
