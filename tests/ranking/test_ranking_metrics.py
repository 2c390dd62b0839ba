"""AUC by counting all pairs; GAUC by hand; calibration of what is known to be calibrated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.errors import DataError
from lhuc_asr.ranking.metrics import (
    auc,
    expected_calibration_error,
    grouped_auc,
    log_loss,
    predicted_over_observed,
)

impressions = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(-2, 2)), min_size=1, max_size=40
)  # few different scores, so that ties are common


def auc_of_pairs(scores, labels):
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels == 1] for b in scores[labels == 0]]
    return np.mean(pairs) if pairs else np.nan


@given(impressions)
def test_auc_counts_pairs(rows):
    scores, labels, _ = (np.array(column, float) for column in zip(*rows, strict=True))
    np.testing.assert_allclose(auc(scores, labels), auc_of_pairs(scores, labels))


@given(impressions)
def test_gauc_is_the_weighted_mean_of_the_users_own(rows):
    scores, labels, users = (np.array(column, float) for column in zip(*rows, strict=True))
    found = grouped_auc(scores, labels, users)
    own = {u: auc_of_pairs(scores[users == u], labels[users == u]) for u in set(users)}
    counted = {u: value for u, value in own.items() if not np.isnan(value)}
    assert (found.num_users, found.num_left_out) == (len(counted), len(own) - len(counted))
    weights = [np.sum(users == u) for u in counted]
    expected = np.average(list(counted.values()), weights=weights) if counted else np.nan
    np.testing.assert_allclose(found.value, expected)


@given(impressions, st.floats(-50, 50))
def test_gauc_does_not_see_what_differs_between_users(rows, shift):
    scores, labels, users = (np.array(column, float) for column in zip(*rows, strict=True))
    shifted = grouped_auc(scores + shift * users, labels, users)
    np.testing.assert_allclose(shifted.value, grouped_auc(scores, labels, users).value, atol=1e-12)


def test_true_probabilities_are_calibrated_and_doubled_ones_are_not():
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.01, 0.4, 200_000)
    labels = (rng.random(len(chance)) < chance).astype(float)
    assert predicted_over_observed(chance, labels) == pytest.approx(1, abs=0.02)
    assert expected_calibration_error(chance, labels) < 0.005
    assert predicted_over_observed(2 * chance, labels) == pytest.approx(2, abs=0.04)
    assert expected_calibration_error(2 * chance, labels) == pytest.approx(chance.mean(), abs=0.01)
    assert log_loss(chance, labels) < log_loss(2 * chance, labels)


def test_log_loss_by_hand():
    assert log_loss([0.5, 0.25], [1, 0]) == pytest.approx((np.log(2) - np.log(0.75)) / 2)
    assert np.isfinite(log_loss([0.0, 1.0], [1, 0]))


def test_where_nothing_can_be_said():
    assert np.isnan(auc([0.1, 0.2], [1, 1])) and np.isnan(predicted_over_observed([0.1], [0]))
    with pytest.raises(DataError, match=r"\(2,\) labels need as many scores in one row, got \(3,\)"):
        auc([1, 2, 3], [0, 1])
    with pytest.raises(DataError, match="1 of 2 scores are NaN"):
        auc([np.nan, 2], [0, 1])
