"""The schedule, step by step, and what holds for any sequence of losses."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.errors import ConfigError
from lhuc_asr.training.schedule.newbob import NewbobConfig, NewbobState, advance, start


def follow(losses: list[float], config: NewbobConfig) -> list[NewbobState]:
    states = [start(config)]
    for loss in losses:
        if states[-1].finished:
            break
        states.append(advance(states[-1], loss, config))
    return states


def test_constant_while_it_pays_then_halved_each_epoch_then_the_end() -> None:
    config = NewbobConfig(initial_lr=0.08, start_halving=0.01, stop=0.001)
    losses = [4.0, 3.0, 2.5, 2.49, 2.3, 2.2, 2.1999]
    rates = [state.lr for state in follow(losses, config)]
    assert rates == [0.08, 0.08, 0.08, 0.08, 0.04, 0.02, 0.01, 0.01]
    assert [state.finished for state in follow(losses, config)] == [False] * 7 + [True]


def test_halving_goes_on_even_when_epochs_pay_again() -> None:
    states = follow([4.0, 3.999, 2.0, 1.0], NewbobConfig(initial_lr=1.0))
    assert [state.lr for state in states] == [1.0, 1.0, 0.5, 0.25, 0.125]


def test_first_worse_epoch_begins_halving_and_is_no_improvement() -> None:
    states = follow([2.0, 3.0], NewbobConfig(initial_lr=1.0))
    assert (states[-1].halving, states[-1].improved, states[-1].lowest) == (True, False, 2.0)
    assert not states[-1].finished


def test_min_epochs_holds_the_rate() -> None:
    states = follow([2.0, 2.0, 2.0, 2.0], NewbobConfig(initial_lr=1.0, min_epochs=3))
    assert [state.lr for state in states] == [1.0, 1.0, 1.0, 0.5, 0.5]
    assert states[-1].finished


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_never_improves(loss: float) -> None:
    assert follow([loss], NewbobConfig())[-1].lowest is None
    assert not follow([2.0, loss], NewbobConfig())[-1].improved


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=40), st.integers(1, 12))
def test_any_losses(losses: list[float], max_epochs: int) -> None:
    states = follow(losses, NewbobConfig(max_epochs=max_epochs))
    seen = losses[: len(states) - 1]
    assert len(seen) <= max_epochs
    assert states[-1].lowest == min(seen)
    assert all(later.lr in (earlier.lr, earlier.lr / 2) for earlier, later in itertools.pairwise(states))
    assert not any(state.finished for state in states[:-1])


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"initial_lr": 0.0}, "initial_lr"),
        ({"factor": 1.0}, "factor"),
        ({"stop": 0.5}, "stop"),
        ({"max_epochs": 0}, "max_epochs"),
    ],
)
def test_impossible_schedules_are_refused(wrong: dict[str, float], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        NewbobConfig(**wrong)  # type: ignore[arg-type]
