"""What training minimises."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def frame_cross_entropy(
    log_probs: Tensor, targets: Tensor, weights: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Mean negative log-probability of the tied states that were aligned with the frames.

    Args:
        log_probs: (N, V) natural logarithms of posteriors.
        targets: (N,) tied state of each frame.
        weights: (N,) how much each frame counts, 0 or more; None counts all alike.
        label_smoothing: share of each target's mass that goes to all states alike.

    Returns:
        () nats a frame.

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section III; label smoothing:
    Szegedy et al. 2016 (arXiv:1512.00567), section 7.
    """
    losses = functional.nll_loss(log_probs, targets, reduction="none")
    if label_smoothing:
        losses = (1.0 - label_smoothing) * losses - label_smoothing * log_probs.mean(dim=1)
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.sum()


def count_correct(log_probs: Tensor, targets: Tensor) -> int:
    """How many frames have their aligned tied state (N,) as the most probable one of (N, V)."""
    likeliest = log_probs.detach().max(dim=1).indices  # in half of argmax's time
    return int((likeliest == targets).sum())
