"""The objective of one speaker whose own numbers are others than scales, and its derivatives by them."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from lhuc_asr.adaptation.objectives.objective import Factors, differentiated
from lhuc_asr.adaptation.parameters.sets import ParameterSet
from lhuc_asr.models.network import AcousticNetwork

Batch_contra = TypeVar("Batch_contra", contravariant=True)


class Differentiable(Protocol[Batch_contra]):
    """An objective of the network as it is at the moment, with its graph."""

    def losses_with_graph(self, batch: Batch_contra, factors: Factors) -> Tensor:
        """(S,) mean cross-entropy of each speaker's targets."""


class ParameterObjective(Generic[Batch_contra]):
    """Cross-entropy of a network in which one speaker's numbers act; a minibatch has no second speaker.

    Args:
        network: in evaluation mode.
        own: where the numbers act.
        inner: the objective of the network without any scales.
    """

    def __init__(self, network: AcousticNetwork, own: ParameterSet, inner: Differentiable[Batch_contra]) -> None:
        self._network, self._own, self._inner = network, own, inner

    def losses(self, batch: Batch_contra, factors: Factors) -> Tensor:
        """(1,) mean cross-entropy of the speaker's targets; ``factors`` are the numbers, (1, ...) each."""
        with torch.no_grad():
            return self._losses(batch, factors)

    def losses_and_gradients(self, batch: Batch_contra, factors: Factors) -> tuple[Tensor, list[Tensor]]:
        """The same, and the derivatives by the numbers in their order."""
        return differentiated(lambda leaves: self._losses(batch, leaves), factors)

    def _losses(self, batch: Batch_contra, numbers: Factors) -> Tensor:
        with self._own.applied(self._network, {name: values[0] for name, values in numbers.items()}):
            return self._inner.losses_with_graph(batch, {})
