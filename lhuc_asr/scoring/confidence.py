"""How good confidences are: which words were right, normalised cross-entropy, and how well errors are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.scoring.edit import Edit, align


def correct_words(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[bool, ...]:
    """Whether each word of the hypothesis was said, by an alignment with the fewest errors.

    Example:
        >>> correct_words("THE CAT SAT".split(), "THE BAT SAT DOWN".split())
        (True, False, True, False)
    """
    pairs = align(reference, hypothesis)
    return tuple(pair.edit is Edit.correct for pair in pairs if pair.hypothesis is not None)


def normalised_cross_entropy(confidences: Sequence[float], correct: Sequence[bool]) -> float:
    """How much confidences say about which words are right, against knowing only their share.

    Args:
        confidences: (N,) in [0, 1], one for each recognised word.
        correct: (N,) whether the word was right.

    Returns:
        1 for certainty that is always justified, 0 for telling everybody the share of right words, below 0 for worse;
        minus infinity when a certainty (0 or 1) was wrong; nan when all words are right or all are wrong, for then
        there is nothing to find out.

    Raises:
        DataError: no words, different numbers, or confidences outside [0, 1].

    Source: NIST, "The normalized cross entropy as a measure of confidence" (Rich Transcription evaluations, and the
    documentation of sclite).

    Example:
        >>> round(normalised_cross_entropy([0.9, 0.8, 0.1, 0.2], [True, True, False, False]), 4)
        0.763
    """
    values, right = _checked(confidences, correct)
    share = right.mean()
    if share in (0.0, 1.0):
        return float("nan")
    entropy = -len(right) * (share * np.log2(share) + (1 - share) * np.log2(1 - share))
    with np.errstate(divide="ignore"):
        surprise = -np.log2(np.where(right, values, 1 - values)).sum()
    return float((entropy - surprise) / entropy)


@dataclass(frozen=True, eq=False)
class ErrorDetection:
    """Finding wrong words by their confidence: what is found and what is falsely suspected, at every threshold.

    Attributes:
        thresholds: (K,) confidences at or below which a word is suspected, rising.
        found: (K,) share of the wrong words that are suspected.
        false_alarms: (K,) share of the right words that are suspected.
        area: area under ``found`` over ``false_alarms``: the chance that a wrong word is less sure than a right one,
            ties counted half; 0.5 for confidences that say nothing, 1 for perfect ones; nan without wrong or right
            words.
    """

    thresholds: NDArray[np.float64]
    found: NDArray[np.float64]
    false_alarms: NDArray[np.float64]
    area: float


def error_detection(confidences: Sequence[float], correct: Sequence[bool]) -> ErrorDetection:
    """The error-detection curve of some words, and the area under it.

    Args:
        confidences: (N,) in [0, 1], one for each recognised word.
        correct: (N,) whether the word was right.

    Raises:
        DataError: no words, different numbers, or confidences outside [0, 1].

    Example:
        >>> error_detection([0.9, 0.4, 0.6, 0.2], [True, True, False, False]).area
        0.75
    """
    values, right = _checked(confidences, correct)
    thresholds, where = np.unique(values, return_inverse=True)
    wrong_at = np.bincount(where, weights=~right, minlength=len(thresholds))
    right_at = np.bincount(where, weights=right, minlength=len(thresholds))
    if not right.any() or right.all():
        nan = np.full(len(thresholds), np.nan)
        return ErrorDetection(thresholds, nan, nan, float("nan"))
    found, false_alarms = wrong_at.cumsum() / wrong_at.sum(), right_at.cumsum() / right_at.sum()
    heights = (np.concatenate([[0.0], found[:-1]]) + found) / 2
    area = float((heights * np.diff(false_alarms, prepend=0.0)).sum())
    return ErrorDetection(thresholds, found, false_alarms, area)


def _checked(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, right = np.asarray(confidences, np.float64), np.asarray(correct, np.bool_)
    if len(values) == 0 or len(values) != len(right):
        raise DataError(
            f"confidences are judged on words: {len(values)} confidences and {len(right)} outcomes were given"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"confidences lie between 0 and 1; found {values.min()} to {values.max()}")
    return values, right
