"""A task whose network is told of every example under which condition it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from lhuc_asr.errors import ConfigError
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.training.examples.seeds import Purpose, generator
from lhuc_asr.training.processes.distributed import own_share
from lhuc_asr.training.processes.shares import ALL, Share
from lhuc_asr.training.tasks.conditioning import Conditioning
from lhuc_asr.training.tasks.evaluation import FrameScore
from lhuc_asr.training.tasks.task import Arithmetic, Judged, Task

Batch = TypeVar("Batch")


@dataclass(frozen=True, eq=False)
class Conditioned(Generic[Batch]):
    """A minibatch with its conditions.

    Attributes:
        batch: what is learnt from.
        rows: (B,) of its examples.
    """

    batch: Batch
    rows: Tensor


class ConditionedTask(Task[Conditioned[Batch]]):
    """A task whose network is told of every example under which condition it stands.

    Args:
        task: what is learnt; its minibatches tell their utterances.
        conditioning: which condition that is, and what it does.
        seed: of what is drawn anew for every minibatch.
    """

    def __init__(self, task: Task[Batch], conditioning: Conditioning, *, seed: int = 0) -> None:
        self.task, self.seed = task, seed
        self.conditioning: Conditioning = conditioning

    def check(self, network: AcousticNetwork) -> None:
        """Raise ConfigError where several processes train together, and what the task itself raises."""
        if own_share().of > 1:
            raise ConfigError(
                f"speaker-adaptive training runs in one process, torchrun started {own_share().of}: "
                "start lhuc-train without torchrun"
            )
        self.task.check(network)

    def num_batches(self, epoch: int) -> int:
        """Minibatches of an epoch."""
        return self.task.num_batches(epoch)

    def batches(self, epoch: int, *, start: int = 0, share: Share = ALL) -> Iterator[Conditioned[Batch] | None]:
        """The task's minibatches with the rows of their examples."""
        for number, batch in enumerate(self.task.batches(epoch, start=start, share=share), start=start):
            if batch is None:
                yield None
                continue
            random = generator(self.seed, Purpose.conditions, epoch, number)
            yield Conditioned(batch, self.conditioning.rows(self.task.utterances_of(batch), random))

    def judge(self, network: AcousticNetwork, batch: Conditioned[Batch], arithmetic: Arithmetic) -> Judged:
        """What the task makes of the minibatch, under its conditions."""
        with self.conditioning.given(batch.rows):
            return self.task.judge(network, batch.batch, arithmetic)

    def score(self, network: AcousticNetwork) -> FrameScore:
        """How well the network does on held-out speakers, of whom nothing is known."""
        return self.task.score(network)

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be the same run."""
        return {**self.task.identity(), "conditioning": self.conditioning.identity()}

    def utterances_of(self, batch: Conditioned[Batch]) -> Sequence[str]:
        """Ids of the utterances that the examples are of."""
        return self.task.utterances_of(batch.batch)

    def describe(self, batch: Conditioned[Batch]) -> str:
        """The task's own name of the minibatch."""
        return self.task.describe(batch.batch)
