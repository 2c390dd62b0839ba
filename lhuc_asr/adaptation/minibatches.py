"""Minibatches of several speakers side by side: every step takes the next one of each who has any left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lhuc_asr.adaptation.rows import Rows
from lhuc_asr.features.splicing import SplicedFrames


@dataclass(frozen=True, eq=False)
class SpeakerFrames:
    """What one speaker's scales are learnt from.

    Attributes:
        frames: the speaker's N frames with their context.
        targets: (N,) tied state of every frame.
    """

    frames: SplicedFrames
    targets: Tensor

    @property
    def have_targets(self) -> bool:
        """Whether there are frames, and each has a target."""
        return len(self.targets) == self.frames.num_frames > 0


@dataclass(frozen=True, eq=False)
class JointMinibatch:
    """One minibatch of each of some speakers.

    Attributes:
        speakers: places of the speakers in their group.
        frames: for each of them the numbers of the frames, counted within the speaker.
    """

    speakers: tuple[int, ...]
    frames: tuple[Tensor, ...]

    @property
    def rows(self) -> Rows:
        """How the frames lie when they are put one after the other."""
        return Rows(tuple(map(len, self.frames)))


def joint_minibatches(orders: Mapping[int, Tensor], batch_size: int) -> Iterator[JointMinibatch]:
    """Cut every speaker's frames into minibatches, as if the speaker were alone, and take them side by side.

    Args:
        orders: place of a speaker -> frame numbers in the order in which they are seen.
        batch_size: frames in a minibatch; a speaker's last one holds what is left.

    Yields:
        As many as the longest speaker has; speakers who have finished drop out.

    Example:
        >>> steps = joint_minibatches({0: torch.arange(3), 1: torch.arange(1)}, batch_size=2)
        >>> [(step.speakers, step.rows.counts) for step in steps]
        [((0, 1), (2, 1)), ((0,), (1,))]
    """
    parts = {place: torch.split(order, batch_size) for place, order in orders.items()}
    for step in range(max(map(len, parts.values()), default=0)):
        now = {place: own[step] for place, own in parts.items() if step < len(own)}
        yield JointMinibatch(tuple(now), tuple(now.values()))
