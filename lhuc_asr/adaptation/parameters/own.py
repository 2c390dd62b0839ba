"""One speaker's numbers in a set of parameters; to whoever learns them they are what scales are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from torch import Tensor, nn

from lhuc_asr.adaptation.parameters.sets import ParameterSet
from lhuc_asr.lhuc.adapter import LhucAdapter, like_parameters
from lhuc_asr.lhuc.amplitude import Amplitude, amplitude, identity_r
from lhuc_asr.lhuc.hooks import bare
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.network import AcousticNetwork


class OwnParameters:
    """The numbers of one speaker, beside a network that stays as it is.

    Args:
        own: where they act.
        r: name -> numbers; they are not copied.

    Attributes:
        kind: None, for they act as they are, and zeros leave the network as it is.
        sites: none.

    Example:
        >>> import torch
        >>> from lhuc_asr.adaptation.parameters.sets import InputTransform
        >>> from lhuc_asr.models.dnn import Dnn, DnnConfig
        >>> network = Dnn(DnnConfig(num_layers=1, hidden_dim=5, context=1), feat_dim=4, num_outputs=3).eval()
        >>> own = OwnParameters.zeros(network, InputTransform(network))
        >>> with own.attached(network):
        ...     network(torch.zeros(1, 7, 4)).shape
        torch.Size([1, 7, 3])
    """

    kind: Amplitude | None = None
    sites: tuple[Site, ...] = ()

    def __init__(self, own: ParameterSet, r: Mapping[str, Tensor]) -> None:
        self.own = own
        self.r = {name: nn.Parameter(r[name], requires_grad=False) for name in own.shapes}

    @classmethod
    def zeros(cls, network: nn.Module, own: ParameterSet) -> OwnParameters:
        """Numbers that leave the network as it is, on its device."""
        like = like_parameters(network)
        return cls(own, {name: like.new_zeros(shape) for name, shape in own.shapes.items()})

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[nn.Module]:
        """Let them act inside the block; afterwards no trace is left."""
        network = bare(model)
        assert isinstance(network, AcousticNetwork)
        with self.own.applied(network, self.r):
            yield model


Beginning: TypeAlias = LhucAdapter | OwnParameters
"""Where a speaker begins to learn, and what holds what was learnt."""


def acting(r: Tensor, kind: Amplitude | None) -> Tensor:
    """What numbers become before they act: factors by an amplitude, or what they are."""
    return r if kind is None else amplitude(r, kind)


def neutral(kind: Amplitude | None) -> float:
    """The number that changes nothing."""
    return 0.0 if kind is None else identity_r(kind)
