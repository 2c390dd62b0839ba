"""The log that is made up: true chances, tastes that only clicks tell, and the best that any ranking could reach."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.ranking.data.attainable import attainable, expected_areas, expected_auc
from lhuc_asr.ranking.data.synthetic import SyntheticConfig, synthetic_log

SMALL = SyntheticConfig(num_users=40, num_items=60, num_impressions=20_000, num_authors=10)


def test_equal_seeds_give_equal_logs_and_others_do_not() -> None:
    first, again, other = (synthetic_log(SMALL, seed=seed) for seed in (3, 3, 4))
    for name, column in first.log.columns.items():
        np.testing.assert_array_equal(column, again.log.columns[name])
    assert (first.log.user_id != other.log.user_id).any()


def test_clicks_come_with_their_chances() -> None:
    log = synthetic_log(SMALL).log
    for task in ("click", "like"):
        chances, labels = log.chances[task], log.labels[task]
        bins = np.digitize(chances, [0.2, 0.4, 0.6, 0.8])
        for place in np.unique(bins):
            inside = bins == place
            error = np.sqrt(np.mean(chances[inside] * (1 - chances[inside])) / inside.sum())
            assert abs(labels[inside].mean() - chances[inside].mean()) < 4 * error


def test_nobody_likes_without_a_click() -> None:
    log = synthetic_log(SMALL).log
    assert (log.labels["like"] <= log.labels["click"]).all()
    assert (log.chances["like"] < log.chances["click"]).all()


def test_people_are_shown_very_different_amounts_and_some_come_late() -> None:
    made = synthetic_log(SMALL)
    counts = np.unique(made.log.user_id, return_counts=True)[1]
    assert counts.max() > 10 * counts.min()
    half = len(made.log) // 2
    assert set(made.log.item_id[half:]) - set(made.log.item_id[:half])
    assert (np.diff(made.times) >= 0).all()


def test_people_differ_in_what_they_like_only_if_there_is_taste() -> None:
    """Without tastes, the chance of a click does not depend on the person once all that a model sees is given."""
    plain = synthetic_log(SyntheticConfig(num_users=40, num_items=60, num_impressions=20_000, taste=0.0)).log
    seen = np.stack([plain.item_id, plain.domain, plain.sparse["hour"]], axis=1)
    _, group = np.unique(seen, axis=0, return_inverse=True)
    for number in range(50):
        assert np.ptp(plain.chances["click"][group == number]) < 1e-6


def exhaustive_auc(scores: list[float], chances: list[float]) -> float:
    """Pairs in order and pairs in all, over every possible outcome of all draws."""
    good = pairs = 0.0
    for outcome in product([0, 1], repeat=len(scores)):
        weight = np.prod([p if y else 1 - p for p, y in zip(chances, outcome, strict=True)])
        for i, j in product(range(len(scores)), repeat=2):
            if outcome[i] and not outcome[j]:
                pairs += weight
                good += weight * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
    return float(good / pairs)


CHANCE = st.floats(0.05, 0.95)


@given(st.lists(st.tuples(st.integers(0, 3), CHANCE), min_size=2, max_size=6))
def test_the_expected_area_counts_all_outcomes(drawn: list[tuple[int, float]]) -> None:
    scores, chances = zip(*drawn, strict=True)
    found = expected_auc(np.array(scores, float), np.array(chances))
    assert found == pytest.approx(exhaustive_auc(list(scores), list(chances)))


@given(st.lists(CHANCE, min_size=2, max_size=8), st.randoms())
def test_no_other_order_is_better_than_that_of_the_chances(chances: list[float], random) -> None:
    other = chances.copy()
    random.shuffle(other)
    best = expected_auc(np.array(chances), np.array(chances))
    assert best >= expected_auc(np.array(other), np.array(chances)) - 1e-12


def test_drawn_labels_agree_with_the_expected_area() -> None:
    rng = np.random.default_rng(0)
    chances = rng.random(20_000)
    clicked = rng.random(20_000) < chances
    ranks = np.argsort(np.argsort(chances)) + 1
    num = clicked.sum()
    drawn = (ranks[clicked].sum() - num * (num + 1) / 2) / (num * (len(chances) - num))
    assert drawn == pytest.approx(expected_auc(chances, chances), abs=0.005)


def test_users_are_weighted_by_their_impressions_and_single_ones_have_no_area() -> None:
    users = np.array([5, 9, 5, 5, 7, 9])
    chances = np.array([0.9, 0.5, 0.1, 0.5, 0.5, 0.5])
    areas, weights = expected_areas(chances, chances, users)
    assert weights.tolist() == [3, 2]
    assert areas[1] == 0.5
    best = attainable(synthetic_log(SMALL).log, "click")
    assert 0.7 < best.gauc < 1 and best.num_users == 40


def test_a_real_log_has_no_attainable_area() -> None:
    log = synthetic_log(SMALL).log
    with pytest.raises(DataError, match=r"chances of 'follow' are not known, those of click, like are"):
        attainable(log, "follow")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"num_users": 0}, "num_users must be at least 1, got 0"),
        ({"late": 1.0}, "late must lie in"),
        ({"taste": -1.0}, "taste"),
    ],
)
def test_a_world_that_cannot_be_is_refused(setting: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SyntheticConfig(**setting)  # type: ignore[arg-type]
