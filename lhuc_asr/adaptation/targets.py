"""Targets of frames as objectives take them: one tied state each, or several that share a frame, and what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """Frames that several tied states share, or that do not count fully.

    Attributes:
        states: (N, K) int64 tied states.
        shares: (N, K) float32, at least 0: probability of the state times what the frame counts. Where a frame has
            fewer than K states, 0 fills the row.

    Example:
        >>> targets = SoftTargets(torch.tensor([[0, 2]]), torch.tensor([[0.25, 0.75]]))
        >>> cross_entropies(torch.tensor([[-1.0, -5.0, -2.0]]), targets)
        tensor([1.7500])
    """

    states: Tensor
    shares: Tensor

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, which: slice | Tensor) -> SoftTargets:
        return SoftTargets(self.states[which], self.shares[which])

    def index_select(self, dim: int, numbers: Tensor) -> SoftTargets:
        """Some of the frames."""
        return SoftTargets(self.states.index_select(dim, numbers), self.shares.index_select(dim, numbers))

    def to(self, device: torch.device) -> SoftTargets:
        """The same on another device."""
        return SoftTargets(self.states.to(device), self.shares.to(device))

    @staticmethod
    def of(targets: Targets, width: int) -> SoftTargets:
        """Any targets, with room for so many states."""
        if isinstance(targets, Tensor):
            targets = SoftTargets(targets[:, None], torch.ones(len(targets), 1, device=targets.device))
        more = (0, width - targets.states.shape[1])
        return SoftTargets(torch.nn.functional.pad(targets.states, more), torch.nn.functional.pad(targets.shares, more))

    def simplified(self) -> Targets:
        """The same as (N,) states where every frame has one state alone and counts fully."""
        if self.states.shape[1] == 1 and bool((self.shares == 1).all()):
            return self.states.squeeze(1)
        return self


Targets: TypeAlias = Tensor | SoftTargets
"""(N,) tied states, each certain and counting fully, or soft ones."""


def joined(parts: Sequence[Targets]) -> Targets:
    """Targets one after the other; soft ones if one of them is."""
    hard = [part for part in parts if isinstance(part, Tensor)]
    if len(hard) == len(parts):
        return torch.cat(hard) if hard else torch.zeros(0, dtype=torch.int64)
    width = max(part.states.shape[1] for part in parts if isinstance(part, SoftTargets))
    soft = [SoftTargets.of(part, max(1, width)) for part in parts]
    return SoftTargets(torch.cat([part.states for part in soft]), torch.cat([part.shares for part in soft]))


def cross_entropies(log_probs_NV: Tensor, targets: Targets) -> Tensor:
    """(N,) what each frame adds to the objective.

    Args:
        log_probs_NV: (N, V) natural logarithms.
        targets: of the N frames.
    """
    if isinstance(targets, Tensor):
        return -log_probs_NV.gather(1, targets[:, None]).squeeze(1)
    return -(log_probs_NV.gather(1, targets.states) * targets.shares).sum(dim=1)


def differentiated_by_logits(log_probs_NV: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """The same, and its derivatives (N, V) by the logits, which take the memory of ``log_probs_NV``."""
    if isinstance(targets, Tensor):
        right = targets[:, None]
        log_probs_N1 = log_probs_NV.gather(1, right)
        return -log_probs_N1.squeeze(1), log_probs_NV.exp_().scatter_(1, right, log_probs_N1.exp() - 1.0)
    losses_N = cross_entropies(log_probs_NV, targets)
    shares_NK = targets.shares.to(log_probs_NV.dtype)
    g_NV = log_probs_NV.exp_().mul_(shares_NK.sum(dim=1, keepdim=True))
    return losses_N, g_NV.scatter_add_(1, targets.states, -shares_NK)
