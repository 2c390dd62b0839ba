"""All that changes while a network learns, as named tensors: for checkpoints, and to go back to an earlier epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.weights import load_weights
from lhuc_asr.training.optimiser import optimiser_tensors, restore_optimiser
from lhuc_asr.training.tasks.conditioning import Conditioning

_CONDITIONING = "conditioning."
"""Marks what conditions the network among the weights of an epoch."""


@dataclass(frozen=True, eq=False)
class Learner:
    """A network and what learns with it.

    Attributes:
        network: its weights and statistics.
        optimiser: with its memory of gradients.
        conditioning: what changes the network from example to example, with a memory of its own; None where nothing
            does.
    """

    network: AcousticNetwork
    optimiser: torch.optim.Optimizer
    conditioning: Conditioning | None = None

    def learnt(self) -> dict[str, Tensor]:
        """What an epoch has taught, for its file; memories are left out."""
        state = {} if self.conditioning is None else self.conditioning.state()
        return {**self.network.state_dict(), **{f"{_CONDITIONING}{name}": tensor for name, tensor in state.items()}}

    def take_learnt(self, learnt: Mapping[str, Tensor], *, source: Path) -> None:
        """Go back to what `learnt` gave.

        Raises:
            ModelError: it is of another network; ``source`` is named.
        """
        own = {name: tensor for name, tensor in learnt.items() if not name.startswith(_CONDITIONING)}
        load_weights(self.network, own, source=str(source))
        if self.conditioning is not None:
            state = {name[len(_CONDITIONING) :]: tensor for name, tensor in learnt.items() if name not in own}
            self.conditioning.restore(state)

    def all(self) -> dict[str, Tensor]:
        """Everything, so that learning can go on as if nothing had happened."""
        parts = {"network": self.network.state_dict(), "optimiser": optimiser_tensors(self.optimiser)}
        if self.conditioning is not None:
            parts |= {"conditioning": self.conditioning.state(), "memory": self.conditioning.memory()}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def take_all(self, tensors: Mapping[str, Tensor], *, source: Path) -> None:
        """Go on from what `all` gave.

        Raises:
            ModelError: it is of another network; ``source`` is named.
        """
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimiser": {}, "conditioning": {}, "memory": {}}
        for key, tensor in tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = tensor
        load_weights(self.network, parts["network"], source=str(source))
        restore_optimiser(self.optimiser, parts["optimiser"])
        if self.conditioning is not None:
            self.conditioning.restore(parts["conditioning"], parts["memory"])

    def forget(self) -> None:
        """Begin with fresh memories of gradients."""
        self.optimiser.state.clear()
        if self.conditioning is not None:
            self.conditioning.forget()
