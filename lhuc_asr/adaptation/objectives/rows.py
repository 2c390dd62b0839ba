"""Rows of several speakers, one speaker after the other, in one tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows each speaker has; where all have equally many nothing is ever copied.

    Attributes:
        counts: rows of each of the S speakers, N in all.

    Example:
        >>> Rows((2, 1)).sums(torch.tensor([[1.0], [2.0], [3.0]])).tolist()
        [[3.0], [3.0]]
    """

    counts: tuple[int, ...]

    @property
    def are_even(self) -> bool:
        """Whether all speakers have equally many."""
        return len(set(self.counts)) == 1

    def grouped(self, rows: Tensor) -> Tensor:
        """A view of (N, ...) rows that `spread` factors fit: (S, n, ...) where they are even."""
        return rows.view(len(self.counts), self.counts[0], *rows.shape[1:]) if self.are_even else rows

    def spread(self, values: Tensor) -> Tensor:
        """Values of speakers (S, ...) for their rows: (S, 1, ...) where they are even, else (N, ...)."""
        return values.unsqueeze(1) if self.are_even else self.repeat(values)

    def repeat(self, values: Tensor) -> Tensor:
        """Values of speakers (S, ...), one for each row (N, ...)."""
        counts = torch.tensor(self.counts, device=values.device)
        return values.repeat_interleave(counts, dim=0, output_size=sum(self.counts))

    def sums(self, rows: Tensor) -> Tensor:
        """(S, ...) sum over each speaker's rows."""
        if self.are_even:
            return self.grouped(rows).sum(dim=1)
        return torch.stack([part.sum(dim=0) for part in torch.split(rows, list(self.counts))])

    def means(self, rows: Tensor) -> Tensor:
        """(S, ...) mean over each speaker's rows."""
        sums = self.sums(rows)
        return sums / self.sizes(sums)

    def sizes(self, like: Tensor) -> Tensor:
        """(S, 1, ...) numbers of rows, with as many dimensions, on the device and in the precision of ``like``."""
        counts = torch.tensor(self.counts, device=like.device, dtype=like.dtype)
        return counts.view(-1, *[1] * (like.ndim - 1))
