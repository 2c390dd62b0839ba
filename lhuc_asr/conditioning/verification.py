"""How well vectors tell whether two utterances are of one speaker.

Shape suffixes: N vectors, D numbers of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Verification:
    """All pairs of some utterances, judged by the cosine between their vectors.

    Attributes:
        eer: the equal error rate, 0 to 1: as many pairs of one speaker are missed as pairs of two are taken for one.
        num_pairs: that were judged.
    """

    eer: float
    num_pairs: int


def verify(vectors_ND: NDArray[np.floating], speakers: Sequence[str]) -> Verification | None:
    """Judge all pairs; None where there are no two speakers, or nobody with two utterances.

    Example:
        >>> verify(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), ["a", "a", "b"])
        Verification(eer=0.0, num_pairs=3)
    """
    unit_ND = vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    first, second = np.triu_indices(len(speakers), k=1)
    names = np.asarray(speakers)
    is_same, cosines = names[first] == names[second], (unit_ND @ unit_ND.T)[first, second]
    if is_same.all() or not is_same.any():
        return None
    return Verification(equal_error_rate(cosines[is_same], cosines[~is_same]), len(cosines))


def equal_error_rate(same: NDArray[np.floating], different: NDArray[np.floating]) -> float:
    """The error rate at the threshold where misses and false alarms are as near as can be, as their mean.

    Args:
        same: scores of pairs of one speaker, higher where they are thought to be one.
        different: scores of pairs of two.
    """
    thresholds = np.append(np.unique(np.concatenate([same, different])), np.inf)
    misses = np.searchsorted(np.sort(same), thresholds, side="left") / len(same)
    false_alarms = 1 - np.searchsorted(np.sort(different), thresholds, side="left") / len(different)
    nearest = int(np.argmin(np.abs(misses - false_alarms)))
    return float(misses[nearest] + false_alarms[nearest]) / 2
