"""Gaussian statistics of every phone state in every context: what the decision tree is grown on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.states.conversion import frame_contexts
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.topology import EDGE, SILENCE

VARIANCE_FLOOR = 0.01
"""Floor of variances while the tree grows, so that a handful of frames cannot look infinitely sharp."""


@dataclass(frozen=True, eq=False)
class TreeStatistics:
    """Frames, their sum and their squares for each of K contexts.

    Attributes:
        contexts: (K, 4) int64 left phone, centre phone, right phone, HMM state; silence has no neighbours (1, 1).
        moments: (K, 1 + 2 F) float64: number of frames, sum, sum of squares.
    """

    contexts: NDArray[np.int64]
    moments: NDArray[np.float64]

    @staticmethod
    def gather(hmm: HmmModel, utterances: Iterable[tuple[NDArray[np.float32], NDArray[np.int32]]]) -> TreeStatistics:
        """Statistics of aligned utterances: pairs of feats (T, F) and transition ids (T,)."""
        contexts, feats = [], []
        for frames, alignment in utterances:
            contexts.append(_contexts_of(hmm, alignment))
            feats.append(frames)
        stacked = np.concatenate(feats).astype(np.float64)
        moments = np.concatenate([np.ones((len(stacked), 1)), stacked, stacked * stacked], axis=1)
        return _summed(np.concatenate(contexts), moments)

    @staticmethod
    def merge(parts: Iterable[TreeStatistics]) -> TreeStatistics:
        """Statistics of several workers as one."""
        parts = list(parts)
        return _summed(
            np.concatenate([part.contexts for part in parts]), np.concatenate([part.moments for part in parts])
        )

    def of_left_biphones(self) -> TreeStatistics:
        """The same frames, their HMM state and the phone that follows forgotten."""
        contexts = self.contexts.copy()
        contexts[:, 2], contexts[:, 3] = SILENCE, 0
        return _summed(contexts, self.moments)

    def where(self, chosen: NDArray[np.bool_]) -> TreeStatistics:
        """Some of the contexts."""
        return TreeStatistics(self.contexts[chosen], self.moments[chosen])

    def per_root(self) -> Iterator[tuple[int, int, TreeStatistics]]:
        """(phone, state, statistics of its contexts) for every phone state that occurs."""
        for phone, state in sorted({(int(row[1]), int(row[3])) for row in self.contexts}):
            yield phone, state, self.where((self.contexts[:, 1] == phone) & (self.contexts[:, 3] == state))


def log_likelihood(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-likelihood of frames under the one Gaussian that fits them best.

    Args:
        moments: (..., 1 + 2 F) number of frames, sum, sum of squares.

    Returns:
        (...) nats; 0 for no frames.
    """
    dim = (moments.shape[-1] - 1) // 2
    occupancy = moments[..., 0]
    share = np.maximum(occupancy, 1e-10)[..., None]
    means = moments[..., 1 : 1 + dim] / share
    variances = np.maximum(moments[..., 1 + dim :] / share - means**2, VARIANCE_FLOOR)
    values: NDArray[np.float64] = -0.5 * occupancy * (np.log(2 * np.pi * variances).sum(axis=-1) + dim)
    return values


def _contexts_of(hmm: HmmModel, alignment: NDArray[np.int32]) -> NDArray[np.int64]:
    frames = frame_contexts(hmm, alignment)
    rows = np.stack([frames.left, frames.centre, frames.right, frames.state], axis=1).astype(np.int64)
    neighbours = rows[:, [0, 2]]
    silent = (neighbours == EDGE) | (rows[:, 1:2] == SILENCE)
    rows[:, [0, 2]] = np.where(silent, SILENCE, neighbours)
    return rows


def _summed(contexts: NDArray[np.int64], moments: NDArray[np.float64]) -> TreeStatistics:
    """One row for each different context."""
    base = int(contexts.max(initial=0)) + 1
    key = np.ravel_multi_index(tuple(contexts.T), (base,) * contexts.shape[1])
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    return TreeStatistics(contexts[order[starts]], np.add.reduceat(moments[order], starts, axis=0))
