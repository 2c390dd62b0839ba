"""What a network learns: minibatches, what each of them asks, and how well held-out speakers are recognised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from torch import Tensor

from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.training.processes.shares import ALL, Share
from lhuc_asr.training.tasks.conditioning import Conditioning
from lhuc_asr.training.tasks.evaluation import FrameScore

Batch = TypeVar("Batch")

Arithmetic = Callable[[], AbstractContextManager[Any]]
"""Opens the block in which a network is run, so that its products are of the precision that was asked for."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What a network made of one minibatch.

    Attributes:
        objective: () what training lowers, nats a frame.
        num_correct: outputs that were right; a fraction where the objective knows no single right one.
        num_frames: outputs that were judged.
    """

    objective: Tensor
    num_correct: float
    num_frames: int


class Task(ABC, Generic[Batch]):
    """What the training loop asks of frames, or of whole utterances with a criterion.

    What is in a minibatch depends on seed, epoch and number of the minibatch alone, so that a run can be taken up again
    anywhere.

    Attributes:
        conditioning: what changes the network from example to example and learns beside it; None where nothing does.
    """

    conditioning: Conditioning | None = None

    @abstractmethod
    def check(self, network: AcousticNetwork) -> None:
        """Raise a `LhucError` where the network cannot learn this, before anything is computed."""

    @abstractmethod
    def num_batches(self, epoch: int) -> int:
        """Minibatches of an epoch."""

    @abstractmethod
    def batches(self, epoch: int, *, start: int = 0, share: Share = ALL) -> Iterator[Batch | None]:
        """A process's share of the minibatches of an epoch, from a number on; None where it has no part of one."""

    @abstractmethod
    def judge(self, network: AcousticNetwork, batch: Batch, arithmetic: Arithmetic) -> Judged:
        """Run the network, in training mode and on its device, on one minibatch."""

    @abstractmethod
    def score(self, network: AcousticNetwork) -> FrameScore:
        """How well the network, in evaluation mode, does on held-out speakers."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON values that must be the same for a run to be the same run."""

    @abstractmethod
    def utterances_of(self, batch: Batch) -> Sequence[str]:
        """Ids of the utterances that the examples of a minibatch are of."""

    def describe(self, batch: Batch) -> str:
        """Names a minibatch in a message, where more can be said than its number."""
        return ""


def plain(settings: Any) -> dict[str, Any]:
    """Settings as JSON values; nothing where there are none."""
    if not is_dataclass(settings) or isinstance(settings, type):
        return {}
    return asdict(settings, dict_factory=lambda items: {k: v.name if isinstance(v, Enum) else v for k, v in items})
