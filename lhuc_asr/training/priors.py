"""How often each tied state occurs in the training alignments."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.errors import DataError


def log_state_priors(targets: Iterable[NDArray[np.integer]], num_states: int, *, floor: float = 1.0) -> Tensor:
    """Logarithms of the relative frequencies of the tied states.

    A hybrid system divides posteriors by these to get scaled likelihoods:
    log p(x | s) = log p(s | x) - log p(s) + a constant of the frame.

    Args:
        targets: (T,) tied states of each utterance.
        num_states: V.
        floor: count below which no state falls, so that a state never seen is not infinitely likely.

    Returns:
        (V,) natural logarithms, float32; the probabilities sum to 1.

    Raises:
        DataError: there are no frames.

    Source: Bourlard & Morgan 1994, "Connectionist speech recognition", chapter 7.
    """
    counts = np.zeros(num_states, dtype=np.float64)
    for states in targets:
        counts += np.bincount(states, minlength=num_states)
    if not counts.sum():
        raise DataError("state priors need at least one aligned frame, found none")
    counts = np.maximum(counts, floor)
    return torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32))
