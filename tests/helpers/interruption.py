"""Runs that are broken off and taken up again: an augmentation that does so, and whether the end is the same."""

from __future__ import annotations

import torch


def jitter(feats: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """An augmentation of windows or utterances: a little noise."""
    return feats + 0.1 * torch.randn(feats.shape, generator=generator)


class Interruption(Exception):
    """Stands for a kill."""


class Interrupted:
    """The same augmentation, which breaks the run off when it is asked for the n-th time."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, feats: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self.left == 0:
            raise Interruption
        self.left -= 1
        return jitter(feats, generator)


def same_bits(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
