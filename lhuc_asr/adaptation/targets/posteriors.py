"""Probabilities of tied states, frame after frame: from paths and networks, mixed, sharpened, and as targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.adaptation.targets.frame_targets import SoftTargets
from lhuc_asr.decoding.lattices.posteriors import FramePosteriors

_LEAST = 1e-4
"""What is less likely by a network is left out: it would make targets ten times as large, and change them by 1 %."""


def of_path(pdfs: NDArray[np.int32], num_pdfs: int) -> FramePosteriors:
    """The certainty that every frame is what a path says.

    Example:
        >>> of_path(np.array([4, 0], np.int32), 5).dense().tolist()
        [[0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 0.0]]
    """
    num_frames = len(pdfs)
    ones = np.ones(num_frames, np.float32)
    return FramePosteriors(num_pdfs, np.arange(num_frames + 1, dtype=np.int64), pdfs.astype(np.int32), ones)


def of_log_probs(log_probs_TV: NDArray[np.float32]) -> FramePosteriors:
    """What a network says, without what it holds for nearly impossible.

    Args:
        log_probs_TV: (T, V) natural logarithms, up to a constant of each frame.
    """
    probs_TV = np.exp(log_probs_TV.astype(np.float64) - log_probs_TV.max(axis=1, keepdims=True, initial=-np.inf))
    probs_TV /= probs_TV.sum(axis=1, keepdims=True)
    frame, pdf = np.nonzero(probs_TV >= min(_LEAST, 1 / probs_TV.shape[1]))
    return _normalised(len(probs_TV), probs_TV.shape[1], frame, pdf, probs_TV[frame, pdf])


def mixed(parts: Sequence[tuple[float, FramePosteriors]]) -> FramePosteriors:
    """A weighted mean.

    Args:
        parts: at least one, with weights above 0; all of the same utterance.

    Example:
        >>> one, other = (of_path(np.array([state], np.int32), 2) for state in (0, 1))
        >>> mixed([(0.25, one), (0.75, other)]).dense().tolist()
        [[0.25, 0.75]]
    """
    first = parts[0][1]
    keys = [_frames(one).astype(np.int64) * first.num_pdfs + one.pdf for _, one in parts]
    known, where = np.unique(np.concatenate(keys), return_inverse=True)
    shares = np.concatenate([weight * one.value.astype(np.float64) for weight, one in parts])
    values = np.asarray(np.bincount(where, weights=shares, minlength=len(known)), np.float64)
    return _normalised(first.num_frames, first.num_pdfs, known // first.num_pdfs, known % first.num_pdfs, values)


def sharpened(posteriors: FramePosteriors, exponent: float) -> FramePosteriors:
    """Every probability to a power; they sum to 1 again in every frame."""
    if exponent == 1:
        return posteriors
    values: NDArray[np.float64] = posteriors.value.astype(np.float64) ** exponent
    return _normalised(posteriors.num_frames, posteriors.num_pdfs, _frames(posteriors), posteriors.pdf, values)


def as_targets(posteriors: FramePosteriors) -> SoftTargets:
    """Targets of the T frames, each counting fully."""
    counts = np.diff(posteriors.offsets)
    shape = (len(counts), int(counts.max(initial=1)))
    states, shares = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    row, column = _frames(posteriors), np.arange(len(posteriors.pdf)) - np.repeat(posteriors.offsets[:-1], counts)
    states[row, column], shares[row, column] = posteriors.pdf, posteriors.value
    return SoftTargets(torch.from_numpy(states), torch.from_numpy(shares))


def _frames(posteriors: FramePosteriors) -> NDArray[np.int64]:
    """(N,) the frame of every entry."""
    return np.repeat(np.arange(posteriors.num_frames, dtype=np.int64), np.diff(posteriors.offsets))


def _normalised(
    num_frames: int,
    num_pdfs: int,
    frame: NDArray[Any],
    pdf: NDArray[Any],
    values: NDArray[np.float64],
) -> FramePosteriors:
    """From entries ordered by frame and state; those that single precision cannot hold are left out."""
    shares = (values / np.bincount(frame, weights=values, minlength=num_frames)[frame]).astype(np.float32)
    kept = shares > 0
    counts = np.bincount(frame[kept], minlength=num_frames)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return FramePosteriors(num_pdfs, offsets, pdf[kept].astype(np.int32), shares[kept])
