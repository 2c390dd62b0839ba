"""What changes a network from example to example and learns beside it: the training room knows no more of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Conditioning(Protocol):
    """A table of conditions, a row of which every example of a minibatch is given.

    What it remembers between minibatches is in `state` and `memory`, so that a run can be taken up again anywhere;
    tensors that these give are those at work, not copies.
    """

    def rows(self, utterances: Sequence[str], random: torch.Generator) -> Tensor:
        """(B,) int64, the rows of examples of these utterances."""

    def attached(self, network: nn.Module) -> AbstractContextManager[Any]:
        """Let it act on the network inside the block; where no rows are given, as on unknown speech."""

    def given(self, rows: Tensor) -> AbstractContextManager[None]:
        """Let the network compute with these rows inside the block."""

    def step(self, lr: float, factor: float = 1.0) -> None:
        """Learn from the gradients of all backward passes since the last step, multiplied by the factor."""

    def state(self) -> dict[str, Tensor]:
        """What is learnt."""

    def memory(self) -> dict[str, Tensor]:
        """What is remembered from step to step."""

    def restore(self, state: Mapping[str, Tensor], memory: Mapping[str, Tensor] | None = None) -> None:
        """Take over what `state` gave, and `memory` where it is told."""

    def forget(self) -> None:
        """Begin with a fresh memory."""

    def identity(self) -> dict[str, Any]:
        """JSON values that must be the same for a run to be the same run."""
