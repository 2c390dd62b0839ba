"""How good confidences are: which words were right, normalised cross-entropy, and how well errors are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.words.hypothesis import Word
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


@dataclass(frozen=True, slots=True)
class ConfidenceScore:
    """What the confidences of one system are worth.

    Attributes:
        num_words: recognised words with a confidence.
        num_correct: those among them that were right.
        num_without: recognised words without a confidence, which do not count.
        normalised_cross_entropy: see the function of that name.
        area: under the error-detection curve, see `ErrorDetection`.
    """

    num_words: int
    num_correct: int
    num_without: int
    normalised_cross_entropy: float
    area: float

    def __str__(self) -> str:
        share = 100 * self.num_correct / self.num_words
        without = f", {self.num_without} words without" if self.num_without else ""
        return (
            f"normalised cross-entropy {self.normalised_cross_entropy:.3f}, area under the error-detection curve "
            f"{self.area:.3f} ({self.num_words} words, {share:.1f} % right{without})"
        )

    @staticmethod
    def of(confidences: Sequence[float], correct: Sequence[bool], *, num_without: int = 0) -> ConfidenceScore:
        """Judge the confidences of some words."""
        return ConfidenceScore(
            num_words=len(correct),
            num_correct=int(np.sum(correct)),
            num_without=num_without,
            normalised_cross_entropy=normalised_cross_entropy(confidences, correct),
            area=error_detection(confidences, correct).area,
        )


def score_confidences(references: Mapping[str, str], words: Mapping[str, Sequence[Word]]) -> ConfidenceScore | None:
    """Judge the confidences of a system against what was said.

    Args:
        references: utterance id -> words that were said.
        words: utterance id -> recognised words; those of other utterances do not count.

    Returns:
        What they are worth, or None where no word has a confidence.

    Example:
        >>> words = [Word("ONE", 0.0, 0.2, 0.9), Word("TOO", 0.2, 0.2, 0.1)]
        >>> print(score_confidences({"u": "ONE TWO"}, {"u": words}))
        normalised cross-entropy 0.848, area under the error-detection curve 1.000 (2 words, 50.0 % right)
    """
    confidences, correct, num_without = [], [], 0
    for utterance in sorted(references.keys() & words.keys()):
        heard = [word.text for word in words[utterance]]
        outcomes = correct_words(references[utterance].split(), heard)
        for word, right in zip(words[utterance], outcomes, strict=True):
            if word.confidence is None:
                num_without += 1
            else:
                confidences.append(word.confidence)
                correct.append(right)
    return ConfidenceScore.of(confidences, correct, num_without=num_without) if confidences else None


def _checked(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, right = np.asarray(confidences, np.float64), np.asarray(correct, np.bool_)
    if len(values) == 0 or len(values) != len(right):
        raise DataError(
            f"confidences are judged on words: {len(values)} confidences and {len(right)} outcomes were given"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"confidences lie between 0 and 1; found {values.min()} to {values.max()}")
    return values, right
