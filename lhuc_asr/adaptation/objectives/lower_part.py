"""What lies below the first site does not change while scales are learnt: it is computed once and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, count
from math import prod

import torch
from torch import Tensor, nn

from lhuc_asr.adaptation.objectives.minibatches import JointMinibatch, SpeakerFrames, joint_minibatches
from lhuc_asr.adaptation.objectives.rows import Rows
from lhuc_asr.adaptation.targets.frame_targets import Targets, joined
from lhuc_asr.lhuc.hooks import layer_of
from lhuc_asr.models.network import AcousticNetwork

_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Minibatch:
    """A minibatch as the network gets it, on the network's device.

    Attributes:
        inputs: (N, ...) windows, or what the lower part gives for them.
        targets: of the N frames.
        rows: whose they are.
    """

    inputs: Tensor
    targets: Targets
    rows: Rows


class GroupFrames:
    """The frames of a group of speakers, passed through the lower part of the network once.

    Args:
        network: in evaluation mode.
        speakers: of the group, by place.
        split: the module up to which the network is computed; None gives windows as they are.
        cache_bytes: what the lower part gives is kept if it is no bigger than that, else computed anew every time.
        dtype: in which it is kept; None leaves it as it is.

    Attributes:
        sizes: frames of each speaker, and so the targets.
        num_items: the same: frames are drawn one by one.
        device: of the network.
    """

    def __init__(
        self,
        network: AcousticNetwork,
        speakers: Sequence[SpeakerFrames],
        split: str | None,
        *,
        cache_bytes: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._network, self._speakers, self._split, self._dtype = network, speakers, split, dtype
        self.device = device_of(network)
        self.sizes = self.num_items = [speaker.num_frames for speaker in speakers]
        self._starts = [0, *accumulate(self.sizes)]
        self._targets = joined([speaker.targets for speaker in speakers]).to(self.device)
        self._kept = self._keep(cache_bytes) if split is not None else None

    def minibatches(self, orders: Mapping[int, Tensor], batch_size: int) -> Iterator[JointMinibatch]:
        """Minibatches of so many frames, each speaker's in the order given."""
        return joint_minibatches(orders, batch_size)

    def take(self, batch: JointMinibatch) -> Minibatch:
        """One minibatch of each of some speakers, one after the other."""
        own = zip(batch.speakers, batch.items, strict=True)
        numbers = torch.cat([frames + self._starts[place] for place, frames in own]).to(self.device)
        inputs = self._computed(batch) if self._kept is None else self._kept.index_select(0, numbers)
        return Minibatch(inputs, self._targets.index_select(0, numbers), batch.rows)

    def _computed(self, batch: JointMinibatch) -> Tensor:
        own = zip(batch.speakers, batch.items, strict=True)
        windows = torch.cat([self._speakers[place].windows(frames) for place, frames in own])
        return self._lower(windows)

    def _lower(self, windows: Tensor) -> Tensor:
        windows = windows.to(self.device)
        if self._split is None:
            return windows
        with torch.no_grad():
            output = self._network.output_of(self._split, windows)
            return output.to(self._dtype or output.dtype)

    def _keep(self, most_bytes: int) -> Tensor | None:
        one = self._lower(self._speakers[0].windows(torch.zeros(1, dtype=torch.int64)))
        shape = (self._starts[-1], *one.shape[1:])
        if prod(shape) * one.element_size() > most_bytes:
            return None
        kept = one.new_empty(shape)
        for start, chunk in self._chunks():
            kept[start : start + len(chunk)] = self._lower(chunk)
        return kept

    def _chunks(self) -> Iterator[tuple[int, Tensor]]:
        """Number of the first frame and windows, a few at a time."""
        for start, speaker in zip(self._starts, self._speakers, strict=False):
            for numbers in torch.split(torch.arange(speaker.num_frames), _CHUNK):
                yield start + int(numbers[0]), speaker.windows(numbers)


def highest_split(network: AcousticNetwork, sites: Sequence[str], windows: Tensor) -> str | None:
    """The highest module at which the network can be divided so that no site acts below.

    It is found by watching the network run, so that it does not matter in which order modules were defined. The
    module may itself be a site: its output is then kept as it is before it is scaled.

    Args:
        network: in evaluation mode; in training mode it is not divided, for nothing is then the same twice.
        sites: names of what is scaled.
        windows: (N, W, F) any input; one window does.

    Returns:
        One of ``network.split_points``, or None.
    """
    if network.training or not network.split_points:
        return None
    entered, left = _times(network, {*sites, *network.split_points}, windows)

    def is_below(point: str) -> bool:
        others = [site for site in sites if site != point]
        return point in left and all(left[point] < entered.get(site, -1) for site in others)

    return max(filter(is_below, network.split_points), key=left.__getitem__, default=None)


def _times(network: AcousticNetwork, names: set[str], windows: Tensor) -> tuple[dict[str, int], dict[str, int]]:
    """When each module is entered for the first time, and left for the last time."""
    entered: dict[str, int] = {}
    left: dict[str, int] = {}

    clock = count()

    def watch(stack: ExitStack, name: str, module: nn.Module) -> None:
        def enter(*_: object) -> None:
            entered.setdefault(name, next(clock))

        def leave(*_: object) -> None:
            left[name] = next(clock)

        stack.callback(module.register_forward_pre_hook(enter).remove)
        stack.callback(module.register_forward_hook(leave).remove)

    with ExitStack() as stack, torch.no_grad():
        for name in names:
            watch(stack, name, layer_of(network, name))
        network.forward_windows(windows.to(device_of(network)))
    return entered, left


def device_of(network: nn.Module) -> torch.device:
    """Where the network lies."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
