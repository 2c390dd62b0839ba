"""Convolutional maxout network: of a few filters over frequency the highest at its best place; maxout layers above."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lhuc_asr.models.convolution import ConvolutionalNetwork, FilterConfig, PooledFilters
from lhuc_asr.models.layered import Layer
from lhuc_asr.models.maxout import Maximum, MaxoutConfig, MaxoutLayer, draw_pieces
from lhuc_asr.models.network import NetworkKind


@dataclass(kw_only=True, slots=True)
class MaxoutCnnConfig(MaxoutConfig, FilterConfig):
    """Shape of the network: `FilterConfig` of the convolution, `MaxoutConfig` of the fully connected layers above.

    ``num_pieces`` and ``dropout`` are also those of the convolution.
    """

    kind: NetworkKind = NetworkKind.maxout_cnn

    def __post_init__(self) -> None:
        MaxoutConfig.__post_init__(self)
        FilterConfig.__post_init__(self)


class MaxoutFilters(PooledFilters):
    """Filters over frequency; a unit gives the highest of a few at the best of a few neighbouring places.

    Which maximum is taken first makes no difference. ``piece0``, ``piece1``, ... hold a filter of every unit each.
    """

    def __init__(self, window: int, feat_dim: int, config: MaxoutCnnConfig) -> None:
        super().__init__(window, feat_dim, config)
        for piece in range(config.num_pieces):
            filters = nn.Conv1d(self.num_channels, config.num_filters, config.filter_bands)
            self.add_module(f"piece{piece}", filters)
        self.activation = Maximum()
        self.dropout = nn.Dropout(config.dropout)

    def activate(self, x_ND: Tensor) -> Tensor:
        """(N, W * F) -> (N, H, S), the pooled feature maps of H units at S places."""
        x_NCD = self.channels(x_ND)
        h_NHS: Tensor = self.activation(*(self.pool(piece(x_NCD)) for piece in self.linears))
        return h_NHS


class MaxoutCnn(ConvolutionalNetwork[MaxoutCnnConfig]):
    """One convolutional layer over frequency below fully connected layers, all of maxout units.

    Without dropout such networks learn their training speakers by heart sooner than sigmoid ones: where speech is
    little, set ``dropout`` and, if it hinders towards the end, let training anneal it.

    Example:
        >>> network = MaxoutCnn(MaxoutCnnConfig(num_layers=1, hidden_dim=8, num_filters=5), feat_dim=40, num_outputs=3)
        >>> network(torch.zeros(1, 20, 40)).shape
        torch.Size([1, 20, 3])
        >>> network.adaptation_sites
        ('layers.0.activation', 'layers.1.activation')

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), table XIV, which does not print the network's shape;
    units behind the pooling as in its section V, pieces as in Goodfellow et al. 2013 (arXiv:1302.4389), section 2.
    """

    def _filters(self, window: int) -> PooledFilters:
        return MaxoutFilters(window, self.feat_dim, self.config)

    def _hidden_layer(self, num_inputs: int) -> Layer:
        return MaxoutLayer(num_inputs, self.config)

    def _draw_weights(self, generator: torch.Generator) -> None:
        draw_pieces(self._layers, self.output, generator)
