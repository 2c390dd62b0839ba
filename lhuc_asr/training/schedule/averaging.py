"""The mean of the weights of several epochs, which often does better on other speakers than each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def best_epochs(measured: Sequence[float], count: int) -> tuple[int, ...]:
    """The epochs with the lowest measure, best first; of equal ones the earlier is better.

    Args:
        measured: one value an epoch; epochs where it is not finite are never among the best.
        count: how many at most.

    Returns:
        Epochs, from 1.

    Example:
        >>> best_epochs([3.0, 2.0, float("nan"), 2.0, 2.5], 3)
        (2, 4, 5)
    """
    finite = (epoch for epoch, value in enumerate(measured, start=1) if math.isfinite(value))
    return tuple(sorted(finite, key=lambda epoch: (measured[epoch - 1], epoch))[:count])


def mean_weights(epochs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each weight, and of the statistics of normalisations; counters are those of the first epoch.

    Args:
        epochs: weights and buffers by name, of equal names and shapes; the best epoch first.

    Example:
        >>> mean_weights([{"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}])
        {'w': tensor([2.5000])}

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 6.1, of the last checkpoints; Izmailov et al. 2018
    (arXiv:1803.05407) tell why the mean generalises.
    """
    first = epochs[0]
    return {
        name: torch.stack([epoch[name].double() for epoch in epochs]).mean(dim=0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }
