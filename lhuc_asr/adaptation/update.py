"""The update: a few sweeps of gradient descent over one speaker's frames, on that speaker's scales alone."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from lhuc_asr.errors import ConfigError, SpeakerError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.training.objectives import frame_cross_entropy
from lhuc_asr.units import Seconds

_OBJECTIVE_BATCH = 1024


class Supervision(Enum):
    """Where targets come from: the first pass's best path, or (research only) the aligned references."""

    one_best = "one_best"
    oracle = "oracle"


@dataclass(kw_only=True, slots=True)
class AdaptConfig:
    """How a speaker's scales are learnt.

    Attributes:
        lr: step of plain gradient descent on the mean cross-entropy of a minibatch.
        num_epochs: sweeps over the speaker's frames.
        batch_size: frames in a minibatch.
        supervision: targets of the frames.
        min_seconds: a speaker with less speech than that, silence not counted, is refused.
        seed: of the order of the frames.

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section V: lr 0.8 for every amplitude; the number of
    sweeps and the batch are not printed there (3 sweeps in the paper of 2014).
    """

    lr: float = 0.8
    num_epochs: int = 3
    batch_size: int = 256
    supervision: Supervision = Supervision.one_best
    min_seconds: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ConfigError(f"adapt.lr must be positive, got {self.lr}")
        if self.num_epochs < 1:
            raise ConfigError(f"adapt.num_epochs must be at least 1, got {self.num_epochs}")
        if self.batch_size < 1:
            raise ConfigError(f"adapt.batch_size must be at least 1, got {self.batch_size}")
        if self.min_seconds < 0:
            raise ConfigError(f"adapt.min_seconds must not be negative, got {self.min_seconds}")


@dataclass(frozen=True, kw_only=True)
class UpdateReport:
    """What an update did.

    Attributes:
        objective_before: mean cross-entropy per frame with the scales at the start.
        objective_after: the same with the scales at the end.
        per_epoch: mean of the minibatch objectives of every sweep, measured on the way.
        seconds: wall-clock time that the update took.
    """

    objective_before: float
    objective_after: float
    per_epoch: tuple[float, ...]
    seconds: Seconds


def adapt(
    network: AcousticNetwork, adapter: LhucAdapter, frames: SplicedFrames, targets: Tensor, config: AdaptConfig
) -> UpdateReport:
    """Learn a speaker's scales; not one bit of the net changes, and gradients reach only r.

    Args:
        network: in evaluation mode.
        adapter: its parameters are moved in place.
        frames: the speaker's N frames with their context.
        targets: (N,) tied state of every frame.
        config: step, sweeps, minibatch.

    Raises:
        SpeakerError: there is not one frame, or the objective ceased to be finite.
    """
    if len(targets) != frames.num_frames or not len(targets):
        raise SpeakerError(f"cannot adapt on {frames.num_frames} frames with {len(targets)} targets")
    start = time.perf_counter()
    with adapter.attached(network):
        before = _objective(network, frames, targets)
        if not math.isfinite(before):
            raise SpeakerError("the objective is not finite before the first step")
        per_epoch = _sweeps(network, adapter, frames, targets, config)
        after = _objective(network, frames, targets)
    if not all(map(math.isfinite, (after, *per_epoch))):
        raise SpeakerError(f"the objective went from {before:.3f} to {after:.3f}; lower adapt.lr ({config.lr})")
    return UpdateReport(
        objective_before=before,
        objective_after=after,
        per_epoch=per_epoch,
        seconds=time.perf_counter() - start,
    )


def _sweeps(
    network: AcousticNetwork, adapter: LhucAdapter, frames: SplicedFrames, targets: Tensor, config: AdaptConfig
) -> tuple[float, ...]:
    parameters = adapter.parameters()
    generator = torch.Generator().manual_seed(config.seed)
    means = []
    for _ in range(config.num_epochs):
        total = 0.0
        for batch in torch.split(torch.randperm(len(targets), generator=generator), config.batch_size):
            loss = _cross_entropy(network, frames, targets, batch)
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for r, gradient in zip(parameters, gradients, strict=True):
                    r.sub_(gradient, alpha=config.lr)
            total += float(loss.detach()) * len(batch)
        means.append(total / len(targets))
    return tuple(means)


@torch.no_grad()
def _objective(network: AcousticNetwork, frames: SplicedFrames, targets: Tensor) -> float:
    total = 0.0
    for batch in torch.split(torch.arange(len(targets)), _OBJECTIVE_BATCH):
        total += float(_cross_entropy(network, frames, targets, batch)) * len(batch)
    return total / len(targets)


def _cross_entropy(network: AcousticNetwork, frames: SplicedFrames, targets: Tensor, batch: Tensor) -> Tensor:
    return frame_cross_entropy(network.forward_windows(frames.windows(batch)), targets[batch])
