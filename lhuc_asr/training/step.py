"""One step of the optimiser: minibatches, their gradients put together, and what the network made of them.

Where several processes train together, each has taken its share of the minibatches, and they add up what they found:
the gradient of all frames is that of one process. One sum a step does it. torch's DistributedDataParallel would not
fit: it takes the mean over processes, while shares differ in frames and may be empty, and frames are counted only when
the network has run. Batch normalisation uses the statistics of a process's own share; those that it remembers for
evaluation are averaged over the processes by frames, so that all have the same weights after every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.errors import DataError
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.training.examples.seeds import Purpose, derive_seed, seed_device
from lhuc_asr.training.precision import Precision
from lhuc_asr.training.processes.distributed import add_up, own_share
from lhuc_asr.training.tasks.task import Judged, Task

_CONSTRAIN_EVERY = 4


@dataclass(frozen=True)
class Tally:
    """What a network made of some minibatches.

    Attributes:
        loss_sum: sum of the objective over their frames.
        num_correct: how many of their frames were right.
        num_frames: frames of theirs.

    Example:
        >>> Tally(3.0, 1, 2) + Tally(1.0, 2, 3)
        Tally(loss_sum=4.0, num_correct=3, num_frames=5)
    """

    loss_sum: float = 0.0
    num_correct: float = 0
    num_frames: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.loss_sum + other.loss_sum, self.num_correct + other.num_correct, self.num_frames + other.num_frames
        )


class Stepper:
    """Takes steps along the gradient of a task.

    Args:
        network: in training mode.
        task: what it learns.
        optimiser: of its parameters.
        max_gradient_norm: longer gradients are shortened to this norm; 0 is never.
        precision: arithmetic of the matrix products.
        seed: of dropout.
    """

    def __init__(
        self,
        network: AcousticNetwork,
        task: Task[Any],
        optimiser: torch.optim.Optimizer,
        *,
        max_gradient_norm: float = 0.0,
        precision: Precision = Precision.float32,
        seed: int = 0,
    ) -> None:
        self.network, self.task, self.optimiser = network, task, optimiser
        self.max_gradient_norm, self.precision, self.seed = max_gradient_norm, precision, seed
        self._device = next(network.parameters()).device
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._statistics = list(_remembered(network))
        self._share = own_share()

    def step(self, batches: Sequence[Any], *, epoch: int, first: int, number: int) -> Tally:
        """Go one step along the mean gradient of all frames of some minibatches.

        Args:
            batches: one, or several that count as one; None where this process's share of one is empty.
            epoch: from 0.
            first: number of the first of them in the epoch, from 0.
            number: of the step in the epoch, from 0.

        Raises:
            DataError: the objective is not finite.
        """
        self.optimiser.zero_grad()
        is_alone = len(batches) == self._share.of == 1
        tally = Tally()
        for place, batch in enumerate(batches, start=first):
            if batch is None:
                continue
            judged, loss = self._judge(batch, epoch, place)
            objective = judged.objective if is_alone else judged.objective * judged.num_frames
            objective.backward()  # type: ignore[no-untyped-call]
            tally += Tally(loss * judged.num_frames, judged.num_correct, judged.num_frames)
        if self._share.of > 1:
            tally = self._gather(tally)
        if not is_alone:
            self._scale_gradients(1.0 / tally.num_frames)
        self._go(number, factor=1.0 if is_alone else 1.0 / tally.num_frames)
        return tally

    def _judge(self, batch: Any, epoch: int, place: int) -> tuple[Judged, float]:
        seed_device(self._device, derive_seed(self.seed, Purpose.dropout, epoch, place) ^ self._share.number)
        judged = self.task.judge(self.network, batch, self._arithmetic)
        loss = float(judged.objective.detach())
        if not math.isfinite(loss):
            raise DataError(
                f"the objective is {loss} in minibatch {place + 1} of epoch {epoch + 1}{self.task.describe(batch)}; "
                "lower training.newbob.initial_lr, or look at that speech"
            )
        return judged, loss

    def _gather(self, tally: Tally) -> Tally:
        """Add up gradients and tallies of all processes, and average statistics, all in one message."""
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in self._parameters]
        counts = torch.tensor([tally.loss_sum, tally.num_correct, tally.num_frames], device=self._device)
        statistics = [tensor * tally.num_frames for tensor in self._statistics]
        parts = [*gradients, *statistics, counts]
        total = torch.cat([part.reshape(-1) for part in parts])
        add_up(total)
        summed = [
            part.view_as(like)
            for part, like in zip(torch.split(total, [part.numel() for part in parts]), parts, strict=True)
        ]
        for weight, gradient in zip(self._parameters, summed, strict=False):
            weight.grad = gradient
        loss_sum, num_correct, num_frames = summed[-1].tolist()
        for tensor, sum_ in zip(self._statistics, summed[len(gradients) :], strict=False):
            tensor.copy_(sum_ / num_frames)
        return Tally(loss_sum, num_correct, round(num_frames))

    def _go(self, number: int, *, factor: float) -> None:
        if self.max_gradient_norm:
            torch.nn.utils.clip_grad_norm_(self._parameters, self.max_gradient_norm)
        self.optimiser.step()
        if self.task.conditioning is not None:
            self.task.conditioning.step(self.optimiser.param_groups[0]["lr"], factor)
        if number % _CONSTRAIN_EVERY == _CONSTRAIN_EVERY - 1:
            self.network.constrain()

    def _scale_gradients(self, factor: float) -> None:
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        torch._foreach_mul_(gradients, factor)

    def _arithmetic(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision is Precision.bfloat16)


def _remembered(network: nn.Module) -> Iterator[Tensor]:
    """Statistics that normalisations keep for evaluation."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            assert module.running_mean is not None and module.running_var is not None
            yield from (module.running_mean, module.running_var)
