"""Filters that slide over frequency, the pooling of their feature maps, and networks whose lowest layer they are."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from lhuc_asr.errors import ConfigError
from lhuc_asr.models.layered import Layer, LayeredNetwork, Shape
from lhuc_asr.ranges import require_at_least


@dataclass(kw_only=True)  # without slots: it stands beside another base that has them
class FilterConfig:
    """Shape of the convolution.

    Attributes:
        num_filters: H of the convolution, each with one feature map.
        filter_bands: neighbouring bands that a filter spans; in time it spans the whole window.
        pool_bands: neighbouring places of a filter of which the highest output is kept.
        num_streams: equal parts of the features of a frame: 1 for filterbanks alone, 3 with deltas and delta-deltas.
    """

    num_filters: int = 300
    filter_bands: int = 9
    pool_bands: int = 3
    num_streams: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, self, "model", "num_filters", "filter_bands", "pool_bands", "num_streams")

    def num_bands(self, feat_dim: int) -> int:
        """Bands of each stream of F features.

        Raises:
            ConfigError: the features cannot be divided into the streams.
        """
        if feat_dim % self.num_streams:
            raise ConfigError(
                f"{feat_dim} features cannot be divided into model.num_streams={self.num_streams} streams"
            )
        return feat_dim // self.num_streams

    def num_places(self, feat_dim: int) -> int:
        """Places in frequency that are left of F features after pooling, S.

        Raises:
            ConfigError: the features have too few bands, or cannot be divided into the streams.
        """
        bands = self.num_bands(feat_dim)
        num_places = (bands - self.filter_bands + 1) // self.pool_bands
        if num_places < 1:
            raise ConfigError(
                f"{bands} bands are too few for filters of {self.filter_bands} (model.filter_bands) at "
                f"{self.pool_bands} places (model.pool_bands)"
            )
        return num_places


class PooledFilters(Layer):
    """A layer whose units are filters over frequency, each with its pooled feature map.

    Attributes:
        num_channels: C, inputs of a filter at one band: frames of the window times streams.
        num_outputs: H * S, what the layer above gets.
        pool: keeps the best of neighbouring places.
    """

    def __init__(self, window: int, feat_dim: int, config: FilterConfig) -> None:
        super().__init__()
        self.num_channels = window * config.num_streams
        self.num_outputs = config.num_filters * config.num_places(feat_dim)
        self.pool = nn.MaxPool1d(config.pool_bands)
        self._num_bands = config.num_bands(feat_dim)

    def channels(self, x_ND: Tensor) -> Tensor:
        """(N, W * F) -> (N, C, bands)."""
        return x_ND.reshape(x_ND.shape[0], self.num_channels, self._num_bands)

    def pass_on(self, h_NH: Tensor) -> Tensor:
        """(N, H, S) -> (N, H * S)."""
        passed_NHS: Tensor = self.dropout(h_NH)
        return passed_NHS.flatten(1)


class ConvolutionalNetwork(LayeredNetwork[Shape]):
    """A layer of filters over frequency below fully connected layers.

    The features of a frame are bands, stream after stream.

    Raises:
        ConfigError: the features have too few bands, or cannot be divided into the streams.
    """

    @abstractmethod
    def _filters(self, window: int) -> PooledFilters:
        """The lowest layer, above windows of so many frames."""

    def _stack(self, window: int) -> list[Layer]:
        filters = self._filters(window)
        return [filters, *self._fully_connected(filters.num_outputs)]
