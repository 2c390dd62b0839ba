"""The paper's convolutional network: filters slide over frequency, the best of a few places is kept, a DNN follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lhuc_asr.errors import ConfigError
from lhuc_asr.models.dnn import ACTIVATIONS, DnnConfig, HiddenLayer, draw_weights
from lhuc_asr.models.layered import Layer, LayeredNetwork
from lhuc_asr.models.network import NetworkKind


@dataclass(kw_only=True, slots=True)
class CnnConfig(DnnConfig):
    """Shape of the network; the settings of `DnnConfig` are those of the fully connected layers above.

    Attributes:
        num_filters: H of the convolution, each with one feature map.
        filter_bands: neighbouring bands that a filter spans; in time it spans the whole window.
        pool_bands: neighbouring places of a filter of which the highest output is kept.
        num_streams: equal parts of the features of a frame: 1 for filterbanks alone, 3 with deltas and delta-deltas.
    """

    kind: NetworkKind = NetworkKind.cnn
    num_filters: int = 300
    filter_bands: int = 9
    pool_bands: int = 3
    num_streams: int = 1

    def __post_init__(self) -> None:
        DnnConfig.__post_init__(self)
        for name in ("num_filters", "filter_bands", "pool_bands", "num_streams"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {getattr(self, name)}")


class ConvolutionalLayer(Layer):
    """Convolution over frequency and max-pooling; the units are the filters, each with its pooled feature map.

    All non-linearities rise, so that it is the same whether they stand before or after the pooling.
    """

    def __init__(self, window: int, feat_dim: int, config: CnnConfig) -> None:
        super().__init__()
        self._num_channels, self._num_bands = window * config.num_streams, feat_dim // config.num_streams
        self.conv = nn.Conv1d(self._num_channels, config.num_filters, config.filter_bands)
        self.norm = nn.BatchNorm1d(config.num_filters) if config.batch_norm else None
        self.pool = nn.MaxPool1d(config.pool_bands)
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        self.num_places = _num_places(feat_dim, config)

    def activate(self, x_ND: Tensor) -> Tensor:
        """(N, W * F) -> (N, H, S), the pooled feature maps of H filters at S places."""
        z_NHS = self.conv(x_ND.reshape(x_ND.shape[0], self._num_channels, self._num_bands))
        if self.norm is not None:
            z_NHS = self.norm(z_NHS)
        h_NHS: Tensor = self.activation(self.pool(z_NHS))
        return h_NHS

    def pass_on(self, h_NH: Tensor) -> Tensor:
        """(N, H, S) -> (N, H * S)."""
        passed_NHS: Tensor = self.dropout(h_NH)
        return passed_NHS.flatten(1)


class Cnn(LayeredNetwork):
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

    config: CnnConfig

    def __init__(self, config: CnnConfig, feat_dim: int, num_outputs: int, *, seed: int = 0) -> None:
        """Draw the initial weights; the same seed gives the same network.

        Args:
            config: of the convolution and of the layers above.
            feat_dim: F, features of one frame: bands, stream after stream.
            num_outputs: V, tied states.
            seed: of the initial weights.

        Raises:
            ConfigError: the features have too few bands, or cannot be divided into the streams.
        """
        super().__init__(context=config.context, feat_dim=feat_dim, num_outputs=num_outputs)
        self.config = config
        with torch.random.fork_rng(devices=[]):
            lowest = ConvolutionalLayer(2 * config.context + 1, feat_dim, config)
            dims = [lowest.num_places * config.num_filters] + [config.hidden_dim] * config.num_layers
            self.layers = nn.ModuleList([lowest, *(HiddenLayer(num_inputs, config) for num_inputs in dims[:-1])])
            self.output = nn.Linear(dims[-1], num_outputs)
        upper = [cast(HiddenLayer, layer).linear for layer in list(self.layers)[1:]]
        generator = torch.Generator().manual_seed(seed)
        draw_weights([lowest.conv, *upper, self.output], config.activation, generator)


def _num_places(feat_dim: int, config: CnnConfig) -> int:
    """Places in frequency that are left after pooling."""
    if feat_dim % config.num_streams:
        raise ConfigError(f"{feat_dim} features cannot be divided into model.num_streams={config.num_streams} streams")
    bands = feat_dim // config.num_streams
    num_places = (bands - config.filter_bands + 1) // config.pool_bands
    if num_places < 1:
        raise ConfigError(
            f"{bands} bands are too few for filters of {config.filter_bands} (model.filter_bands) at "
            f"{config.pool_bands} places (model.pool_bands)"
        )
    return num_places
