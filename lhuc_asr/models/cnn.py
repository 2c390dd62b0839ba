"""The paper's convolutional network: filters slide over frequency, the best of a few places is kept, a DNN follows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lhuc_asr.models.convolution import ConvolutionalNetwork, FilterConfig, PooledFilters
from lhuc_asr.models.dnn import ACTIVATIONS, DnnConfig, HiddenLayer, draw_weights
from lhuc_asr.models.layered import Layer
from lhuc_asr.models.network import NetworkKind


@dataclass(kw_only=True, slots=True)
class CnnConfig(DnnConfig, FilterConfig):
    """Shape of the network: `FilterConfig` of the convolution, `DnnConfig` of the fully connected layers above."""

    kind: NetworkKind = NetworkKind.cnn

    def __post_init__(self) -> None:
        DnnConfig.__post_init__(self)
        FilterConfig.__post_init__(self)


class ConvolutionalLayer(PooledFilters):
    """Convolution over frequency and max-pooling; the units are the filters, each with its pooled feature map.

    All non-linearities rise, so that it is the same whether they stand before or after the pooling.
    """

    def __init__(self, window: int, feat_dim: int, config: CnnConfig) -> None:
        super().__init__(window, feat_dim, config)
        self.conv = nn.Conv1d(self.num_channels, config.num_filters, config.filter_bands)
        self.norm = nn.BatchNorm1d(config.num_filters) if config.batch_norm else None
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)

    def activate(self, x_ND: Tensor) -> Tensor:
        """(N, W * F) -> (N, H, S), the pooled feature maps of H filters at S places."""
        z_NHS = self.conv(self.channels(x_ND))
        if self.norm is not None:
            z_NHS = self.norm(z_NHS)
        h_NHS: Tensor = self.activation(self.pool(z_NHS))
        return h_NHS


class Cnn(ConvolutionalNetwork[CnnConfig]):
    """One convolutional layer over frequency below fully connected layers.

    Example:
        >>> network = Cnn(CnnConfig(num_layers=1, hidden_dim=8, num_filters=5), feat_dim=40, num_outputs=3)
        >>> network(torch.zeros(1, 20, 40)).shape
        torch.Size([1, 20, 3])
        >>> network.adaptation_sites
        ('layers.0.activation', 'layers.1.activation')

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section V: 300 filters, units behind the pooling; the
    width of filters and pools is that of Sainath et al. 2013 ("Deep convolutional neural networks for LVCSR").
    """

    def _filters(self, window: int) -> PooledFilters:
        return ConvolutionalLayer(window, self.feat_dim, self.config)

    def _hidden_layer(self, num_inputs: int) -> Layer:
        return HiddenLayer(num_inputs, self.config)

    def _draw_weights(self, generator: torch.Generator) -> None:
        draw_weights(self._layers, self.output, self.config.activation, generator)
