"""Normalised cross-entropy and error detection, by hand and against other definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lhuc_asr.errors import DataError
from lhuc_asr.scoring.confidence import correct_words, error_detection, normalised_cross_entropy

WORDS = st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9]), st.booleans()), min_size=2, max_size=12)


def test_correct_words():
    assert correct_words(["A", "B", "C"], ["A", "X", "C", "D"]) == (True, False, True, False)
    assert correct_words([], ["A"]) == (False,)
    assert correct_words(["A"], []) == ()


def test_nce_golden_values():
    """Three right and one wrong: H = -(3 log2 0.75 + log2 0.25) = 3.2451."""
    entropy = 3 * math.log2(4 / 3) + 2
    surprise = -(math.log2(0.9) + math.log2(0.8) + math.log2(0.6) + math.log2(0.7))  # the wrong one has 0.3
    found = normalised_cross_entropy([0.9, 0.8, 0.6, 0.3], [True, True, True, False])
    assert found == pytest.approx((entropy - surprise) / entropy)
    assert found == pytest.approx(0.4683, abs=1e-4)
    assert normalised_cross_entropy([0.9, 0.8, 0.1, 0.2], [True, True, False, False]) == pytest.approx(0.7630, abs=1e-4)


@given(WORDS)
def test_nce_of_the_share_is_zero_and_of_the_truth_one(words):
    correct = [right for _, right in words]
    assume(len(set(correct)) == 2)
    share = sum(correct) / len(correct)
    assert normalised_cross_entropy([share] * len(correct), correct) == pytest.approx(0.0, abs=1e-12)
    assert normalised_cross_entropy([float(right) for right in correct], correct) == pytest.approx(1.0)


def test_nce_at_the_edges():
    assert normalised_cross_entropy([1.0, 0.5], [False, True]) == -math.inf
    assert math.isnan(normalised_cross_entropy([0.9, 0.8], [True, True]))
    with pytest.raises(DataError, match="0 confidences"):
        normalised_cross_entropy([], [])
    with pytest.raises(DataError, match="between 0 and 1"):
        normalised_cross_entropy([1.5, 0.2], [True, False])


@given(WORDS)
def test_the_area_is_the_chance_that_a_wrong_word_is_less_sure(words):
    correct = [right for _, right in words]
    assume(len(set(correct)) == 2)
    right = [value for value, good in words if good]
    wrong = [value for value, good in words if not good]
    expected = np.mean([(bad < good) + 0.5 * (bad == good) for bad in wrong for good in right])
    assert error_detection([value for value, _ in words], correct).area == pytest.approx(expected)


def test_error_detection_by_hand():
    found = error_detection([0.9, 0.4, 0.6, 0.2], [True, True, False, False])
    assert found.thresholds.tolist() == [0.2, 0.4, 0.6, 0.9]
    assert found.found.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert found.false_alarms.tolist() == [0.0, 0.5, 0.5, 1.0]
    assert found.area == 0.75
    assert math.isnan(error_detection([0.9], [True]).area)
