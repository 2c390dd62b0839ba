"""Which speakers learn side by side: groups that fit into memory and keep all cores busy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

import torch

from lhuc_asr.adaptation.update.group import CACHE_BYTES

_ROWS_ON_CPU = 1024
"""Products of more rows are hardly faster, and what lies between them leaves the processor's cache."""

_ROWS_ON_GPU = 32768
"""As many as 128 speakers with minibatches of 256; 6 layers of 2048 units then need 2 GB."""

_GROUPS_ON_CPU = 8
"""Where there are fewer speakers, everybody is a group, so that this many processes have something to do."""


@dataclass(frozen=True, kw_only=True)
class GroupSizes:
    """How big groups may be.

    Attributes:
        rows: frames in a step, of all speakers of a group together.
        frames: frames of all speakers of a group together, of which what lies below the first site is kept.
        at_least: groups, if there are so many speakers.
    """

    rows: int
    frames: int
    at_least: int

    @staticmethod
    def for_device(device: torch.device, units: int) -> GroupSizes:
        """Sizes that suit a device.

        Args:
            device: of the network.
            units: of the first site, each kept in single precision; at most 1 GiB is filled by a group.
        """
        frames = CACHE_BYTES // (4 * units)
        if device.type == "cpu":
            return GroupSizes(rows=_ROWS_ON_CPU, frames=frames, at_least=_GROUPS_ON_CPU)
        return GroupSizes(rows=_ROWS_ON_GPU, frames=frames, at_least=1)


def groups_of_speakers(num_frames: Mapping[str, int], batch_size: int, sizes: GroupSizes) -> Iterator[tuple[str, ...]]:
    """Divide speakers into groups, in the order given; a speaker who is too big for any group is one alone.

    The division depends neither on the number of processes nor on how fast they are.

    Args:
        num_frames: speaker -> frames.
        batch_size: frames of each speaker in a step.
        sizes: how big groups may be.

    Example:
        >>> sizes = GroupSizes(rows=4, frames=100, at_least=1)
        >>> list(groups_of_speakers({"a": 2, "b": 9, "c": 90, "d": 9}, 2, sizes))
        [('a', 'b'), ('c', 'd')]
    """
    most_speakers = ceil(len(num_frames) / sizes.at_least)
    group: list[str] = []
    rows = frames = 0
    for speaker, own in num_frames.items():
        own_rows = min(own, batch_size)
        is_full = len(group) == most_speakers or rows + own_rows > sizes.rows or frames + own > sizes.frames
        if group and is_full:
            yield tuple(group)
            group, rows, frames = [], 0, 0
        group.append(speaker)
        rows, frames = rows + own_rows, frames + own
    if group:
        yield tuple(group)
