"""How a few numbers change a weight of a network, and how a network computes with weights that are not its own.

Letters: O outputs and I inputs of a layer, R rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor, nn

Numbers: TypeAlias = Mapping[str, Tensor]
"""Name -> numbers of one speaker."""


class Change(Protocol):
    """How numbers change one weight."""

    def shapes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        """End of the name -> shape of the numbers that belong to this weight."""

    def __call__(self, weight: Tensor, numbers: Numbers) -> Tensor:
        """The weight, changed; zeros leave it as it is."""


class Difference:
    """Every number of the weight is learnt; what is kept is how far it has moved."""

    def shapes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        """That of the weight."""
        return {"": tuple(weight.shape)}

    def __call__(self, weight: Tensor, numbers: Numbers) -> Tensor:
        """The sum."""
        return weight + numbers[""]


class InputFactors:
    """A factor 1 + d for each input of a layer: the columns of its weight are scaled, (O, I) or (O, I, ...)."""

    def shapes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        """One for each input."""
        return {"": (weight.shape[1],)}

    def __call__(self, weight: Tensor, numbers: Numbers) -> Tensor:
        """The weight with its columns scaled."""
        return weight * (1 + numbers[""]).view(-1, *[1] * (weight.ndim - 2))


class LowRank:
    """A product of two thin matrices (O, R) and (R, I) is added to the weight; a convolution's is taken as (O, I x k).

    The first begins at zero and the second at random, so that the network is as it was and derivatives do not vanish.
    What is kept of the second is how far it has moved from where a seed put it.

    Args:
        rank: R at most.
        seed: of the beginning.

    Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1; the range of the beginning, one by the square root of I,
    is the one of PEFT.
    """

    def __init__(self, rank: int, *, seed: int) -> None:
        self._rank, self._seed = rank, seed
        self._begin: dict[tuple[int, int], Tensor] = {}

    def shapes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        """Those of both matrices."""
        num_outputs, num_inputs = len(weight), weight[0].numel()
        rank = min(self._rank, num_outputs, num_inputs)
        return {".left": (num_outputs, rank), ".right": (rank, num_inputs)}

    def __call__(self, weight: Tensor, numbers: Numbers) -> Tensor:
        """The weight and the product."""
        right_RI = self._beginning(weight, numbers[".right"]) + numbers[".right"]
        return weight + (numbers[".left"] @ right_RI).view(weight.shape)

    def _beginning(self, weight: Tensor, like_RI: Tensor) -> Tensor:
        rank, num_inputs = like_RI.shape
        if (rank, num_inputs) not in self._begin:
            generator = torch.Generator().manual_seed(self._seed)
            drawn_RI = torch.rand(rank, num_inputs, generator=generator)
            self._begin[rank, num_inputs] = ((2 * drawn_RI - 1) / num_inputs**0.5).to(weight)
        return self._begin[rank, num_inputs]


@contextmanager
def exchanged(network: nn.Module, weights: Numbers) -> Iterator[None]:
    """Let the network compute with other weights inside the block; its own are put back, the very same tensors.

    Args:
        network: of any kind.
        weights: name of a parameter -> what stands in for it, which may be the outcome of a computation.
    """
    places = {name: _place_of(network, name) for name in weights}
    before = {name: own[leaf] for name, (own, leaf) in places.items()}
    try:
        for name, (own, leaf) in places.items():
            own[leaf] = weights[name]
        yield
    finally:
        for name, (own, leaf) in places.items():
            own[leaf] = before[name]


def _place_of(network: nn.Module, name: str) -> tuple[dict[str, Tensor | None], str]:
    """Where a module keeps a parameter."""
    owner, _, leaf = name.rpartition(".")
    return cast("dict[str, Tensor | None]", network.get_submodule(owner)._parameters), leaf
