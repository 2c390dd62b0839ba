"""The matched-pairs sentence-segment word error test: do two systems differ by more than chance?

Sentences are cut into segments that are bounded by words which both systems recognised, so that the errors in one
segment do not depend on those in another; then the mean difference in errors per segment is tested against zero.

Source: Gillick and Cox, ICASSP 1989; segmentation as in NIST's ``sc_stats -t mapsswe``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lhuc_asr.scoring.edit import AlignedPair, Edit, align_like_sclite

MIN_CORRECT = 2
"""Words in a row that both systems must have right to end a segment."""


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """Outcome of the test.

    Attributes:
        num_segments: segments with an error of at least one system.
        mean_difference: errors per segment, first system minus second; positive when the second is better.
        z: mean over its standard error.
        p_value: two-sided probability of such a difference by chance.
    """

    num_segments: int
    mean_difference: float
    z: float
    p_value: float


def mapsswe(
    references: Mapping[str, str],
    first: Mapping[str, str],
    second: Mapping[str, str],
) -> MatchedPairs:
    """Compare two systems on the same utterances.

    The segments and Z are those of sc_stats; it prints p from a table of Z in steps of 0.01, so its p may be a little
    larger.

    Args:
        references: utterance id -> words that were said.
        first: utterance id -> words that one system recognised.
        second: the same of the other.
    """
    return _test([difference for own in _segments(references, first, second).values() for difference in own])


def mapsswe_by_speaker(
    references: Mapping[str, str],
    first: Mapping[str, str],
    second: Mapping[str, str],
    speaker_of: Mapping[str, str],
) -> dict[str, MatchedPairs]:
    """The same test for every speaker alone: with a hundred words or so, chance alone makes one better or worse.

    Args:
        references: utterance id -> words that were said.
        first: utterance id -> words that one system recognised.
        second: the same of the other.
        speaker_of: utterance id -> speaker.
    """
    differences: dict[str, list[int]] = {}
    for utterance, own in _segments(references, first, second).items():
        differences.setdefault(speaker_of[utterance], []).extend(own)
    return {speaker: _test(own) for speaker, own in sorted(differences.items())}


def _segments(
    references: Mapping[str, str], first: Mapping[str, str], second: Mapping[str, str]
) -> dict[str, list[int]]:
    """Utterance -> errors of the first system minus errors of the second in each of its segments."""
    return {
        utterance: _differences(
            *(_columns(align_like_sclite(text.split(), system[utterance].split())) for system in (first, second))
        )
        for utterance, text in references.items()
    }


def _columns(alignment: Sequence[AlignedPair]) -> list[tuple[int, bool]]:
    """(words inserted before it, whether it was recognised) of every reference word; the end counts as recognised."""
    columns, inserted = [], 0
    for pair in alignment:
        if pair.edit is Edit.insertion:
            inserted += 1
        else:
            columns.append((inserted, pair.edit is Edit.correct))
            inserted = 0
    return [*columns, (inserted, True)]


def _differences(first: Sequence[tuple[int, bool]], second: Sequence[tuple[int, bool]]) -> list[int]:
    """Errors of the first minus errors of the second in each segment of one utterance."""
    differences, difference, is_open, num_correct = [], 0, False, 0
    for (inserted_1, correct_1), (inserted_2, correct_2) in zip(first, second, strict=True):
        if inserted_1 or inserted_2:
            is_open, num_correct = True, 0
        difference += inserted_1 - inserted_2 + correct_2 - correct_1
        if correct_1 and correct_2:
            num_correct += 1
        else:
            is_open, num_correct = True, 0
        if is_open and num_correct == MIN_CORRECT:
            differences.append(difference)
            difference, is_open = 0, False
    return [*differences, difference] if is_open else differences


def _test(differences: Sequence[int]) -> MatchedPairs:
    """Two-sided normal test that the mean is zero; without any spread nothing can be said, so p is 1."""
    count = len(differences)
    if count == 0:
        return MatchedPairs(0, 0.0, 0.0, 1.0)
    mean = sum(differences) / count
    squares = sum((difference - mean) ** 2 for difference in differences)
    if count == 1 or squares == 0:
        return MatchedPairs(count, mean, 0.0, 1.0)
    z = mean / math.sqrt(squares / (count - 1) / count)
    return MatchedPairs(count, mean, z, math.erfc(abs(z) / math.sqrt(2)))
