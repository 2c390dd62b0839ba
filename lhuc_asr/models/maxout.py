"""Maxout network: a unit gives the highest of a few linear functions of its input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from lhuc_asr.models.layered import Layer, LayeredConfig, LayeredNetwork
from lhuc_asr.models.network import NetworkKind
from lhuc_asr.ranges import require_at_least


@dataclass(kw_only=True, slots=True)
class MaxoutConfig(LayeredConfig):
    """Shape of the network: `LayeredConfig`, and what its units are.

    Attributes:
        num_pieces: linear functions of each unit.
    """

    kind: NetworkKind = NetworkKind.maxout
    num_pieces: int = 2

    def __post_init__(self) -> None:
        LayeredConfig.__post_init__(self)
        require_at_least(2, self, "model", "num_pieces")


class Maximum(nn.Module):
    """The highest of some tensors, place by place."""

    def forward(self, *pieces_NH: Tensor) -> Tensor:
        """K times (N, H) -> (N, H), or K times (N, H, S) -> (N, H, S)."""
        return reduce(torch.maximum, pieces_NH)


class MaxoutLayer(Layer):
    """One hidden layer; ``piece0``, ``piece1``, ... hold a linear function of every unit each."""

    def __init__(self, num_inputs: int, config: MaxoutConfig) -> None:
        super().__init__()
        for piece in range(config.num_pieces):
            self.add_module(f"piece{piece}", nn.Linear(num_inputs, config.hidden_dim))
        self.activation = Maximum()
        self.dropout = nn.Dropout(config.dropout)

    def activate(self, x_ND: Tensor) -> Tensor:
        """(N, D) -> (N, H), the output of ``activation``."""
        h_NH: Tensor = self.activation(*(piece(x_ND) for piece in self.linears))
        return h_NH


class Maxout(LayeredNetwork[MaxoutConfig]):
    """Fully connected maxout network over spliced frames, with a softmax over tied states.

    Example:
        >>> network = Maxout(MaxoutConfig(num_layers=2, hidden_dim=8), feat_dim=40, num_outputs=3)
        >>> network(torch.zeros(1, 20, 40)).shape
        torch.Size([1, 20, 3])
        >>> network.adaptation_sites
        ('layers.0.activation', 'layers.1.activation')

    Source: Goodfellow et al. 2013 (arXiv:1302.4389), section 2.
    """

    def _hidden_layer(self, num_inputs: int) -> Layer:
        return MaxoutLayer(num_inputs, self.config)

    def _draw_weights(self, generator: torch.Generator) -> None:
        draw_pieces(self._layers, self.output, generator)


def draw_pieces(layers: Iterable[Layer], output: nn.Linear, generator: torch.Generator) -> None:
    """Draw the weights of maxout layers so that signals keep their size from layer to layer, and of the output.

    The square of the highest of two numbers drawn from a normal distribution has the variance of one of them as its
    mean (He et al. 2015, arXiv:1502.01852, section 2.2, reasons so for ReLU, where it is half of it); with more pieces
    it is a little more. So each weight has the variance 1 / D.
    """
    for piece in (piece for layer in layers for piece in layer.linears):
        assert piece.bias is not None
        nn.init.normal_(piece.weight, std=piece.weight[0].numel() ** -0.5, generator=generator)
        nn.init.zeros_(piece.bias)
    nn.init.xavier_uniform_(output.weight, generator=generator)
    nn.init.zeros_(output.bias)
