"""Time derivatives of features, by Kaldi's definition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError


def add_deltas(feats: NDArray[np.float32], *, order: int = 2, window: int = 2) -> NDArray[np.float32]:
    """Append the first to ``order``-th derivative over time.

    The edge frames are repeated for what lies outside the utterance, for all orders at once, as Kaldi does.

    Args:
        feats: (T, F) features.
        order: highest derivative; 0 appends nothing.
        window: frames to each side in the regression of each order.

    Returns:
        (T, (order + 1) * F) features, deltas, delta-deltas, ...

    Source: Kaldi's ``add-deltas``.

    Example:
        >>> ramp = np.arange(10, dtype=np.float32)[:, None]
        >>> add_deltas(ramp)[5].round(6).tolist()
        [5.0, 1.0, -0.0]
    """
    if order < 0 or window < 1:
        raise ConfigError(f"deltas need order >= 0 and window >= 1, got {order} and {window}")
    num_frames = len(feats)
    blocks = [feats.astype(np.float32)]
    for filter_ in _filters(order, window)[1:]:
        reach = len(filter_) // 2
        block = np.zeros(feats.shape, dtype=np.float32)
        for offset, weight in zip(range(-reach, reach + 1), filter_, strict=True):
            if weight:
                block += np.float32(weight) * feats[np.clip(np.arange(num_frames) + offset, 0, num_frames - 1)]
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


def _filters(order: int, window: int) -> list[NDArray[np.float64]]:
    """One symmetric filter per order; each is the one before, convolved with the regression weights."""
    offsets = np.arange(-window, window + 1, dtype=np.float64)
    regression = offsets / (offsets**2).sum()
    filters = [np.ones(1)]
    for _ in range(order):
        filters.append(np.convolve(filters[-1], regression))
    return filters
