"""How sure is a change in error rate, given that other speakers might have been tested?

Speakers are drawn again and again with replacement, for both systems the same ones; utterances of one speaker resemble
each other, so the speaker, not the utterance, is what is drawn.

Source: Bisani and Ney, ICASSP 2004.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.scoring.edit import ErrorCounts

_BLOCK = 1000


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Outcome of drawing speakers.

    Attributes:
        num_speakers: how many there are to draw from.
        num_replications: how often they were drawn.
        relative_change: change of the error rate, in percent of the first system's; negative is an improvement.
        low: 2.5th percentile of the relative change over the draws.
        high: 97.5th percentile.
        p_value: two-sided; small when nearly all draws agree on which system is better.
    """

    num_speakers: int
    num_replications: int
    relative_change: float
    low: float
    high: float
    p_value: float


def bootstrap_speakers(
    first: Mapping[str, ErrorCounts],
    second: Mapping[str, ErrorCounts],
    *,
    num_replications: int = 10_000,
    seed: int = 0,
) -> Bootstrap | None:
    """Compare the error rates of two systems over drawn sets of speakers.

    Args:
        first: speaker -> errors of one system.
        second: the same speakers -> errors of the other.
        num_replications: how many sets to draw.
        seed: the same seed gives the same result.

    Returns:
        None when there are fewer than two speakers, or the first system made no error.
    """
    errors = np.array([[first[speaker].errors, second[speaker].errors] for speaker in sorted(first)], dtype=np.float64)
    if len(errors) < 2 or errors[:, 0].sum() == 0:
        return None
    drawn = _draw(errors, num_replications, np.random.default_rng(seed))
    drawn = drawn[drawn[:, 0] > 0]  # without an error of the first system a relative change means nothing
    changes = 100.0 * (drawn[:, 1] / drawn[:, 0] - 1.0)
    total = errors.sum(axis=0)
    low, high = np.percentile(changes, [2.5, 97.5])
    tail = min(np.count_nonzero(changes >= 0), np.count_nonzero(changes <= 0))
    return Bootstrap(
        num_speakers=len(errors),
        num_replications=num_replications,
        relative_change=float(100.0 * (total[1] / total[0] - 1.0)),
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2.0 * (tail + 1) / (len(changes) + 1)),
    )


def _draw(errors: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count, 2) errors of both systems over drawn speakers; (S, 2) errors are given.

    Both systems are scored on the same words, so their number cancels in the relative change.
    """
    num_speakers = len(errors)
    weights = np.full(num_speakers, 1.0 / num_speakers)
    blocks = [
        rng.multinomial(num_speakers, weights, size=min(_BLOCK, count - start)) @ errors
        for start in range(0, count, _BLOCK)
    ]
    return np.concatenate(blocks)
