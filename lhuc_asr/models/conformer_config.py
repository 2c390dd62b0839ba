"""The shape of a Conformer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lhuc_asr.errors import ConfigError
from lhuc_asr.models.network import NetworkConfig, NetworkKind
from lhuc_asr.ranges import require_at_least, require_share_below_one

STRIDES = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2)}
"""Subsampling -> steps in time of the two convolutions of the front-end."""


class Positions(Enum):
    """How frames know where in the utterance they are."""

    none = "none"
    sinusoidal = "sinusoidal"


@dataclass(kw_only=True, slots=True)
class ConformerConfig(NetworkConfig):
    """Shape of the network; the defaults are half of the layers of the paper's small one.

    Attributes:
        num_layers: layers, each with two feed-forward modules, attention and a convolution.
        stream_dim: numbers of a frame that layers pass on and add to.
        hidden_dim: H, units of each feed-forward module.
        num_heads: of the attention; together they are ``stream_dim`` wide.
        kernel_size: neighbouring outputs that a convolution spans, an odd number.
        num_channels: of the two convolutions at the bottom.
        subsampling: an output for every so-manieth frame only, 1 to 4.
        positions: added above the front-end; without any, convolutions alone tell frames apart by their neighbours.
        dropout: share of the numbers that training sets to 0, on all ways within a layer.
        chunk_size: outputs that see each other; none sees what comes after its chunk, so that the network can follow a
            stream. 0: every output sees the whole utterance.
        num_left_chunks: how many earlier chunks attention sees as well.
    """

    kind: NetworkKind = NetworkKind.conformer
    num_layers: int = 8
    stream_dim: int = 144
    hidden_dim: int = 576
    num_heads: int = 4
    kernel_size: int = 15
    num_channels: int = 32
    subsampling: int = 1
    positions: Positions = Positions.sinusoidal
    dropout: float = 0.1
    chunk_size: int = 0
    num_left_chunks: int = 4

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        require_at_least(0, self, "model", "chunk_size", "num_left_chunks")
        require_at_least(1, self, "model", "num_layers", "stream_dim", "hidden_dim", "num_heads", "num_channels")
        if self.stream_dim % self.num_heads:
            raise ConfigError(
                f"model.stream_dim={self.stream_dim} cannot be divided among model.num_heads={self.num_heads} heads"
            )
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ConfigError(f"model.kernel_size must be odd, got {self.kernel_size}")
        if self.subsampling not in STRIDES:
            raise ConfigError(f"model.subsampling must be one of {list(STRIDES)}, got {self.subsampling}")
        require_share_below_one(self, "model", "dropout")

    @property
    def is_causal(self) -> bool:
        """Whether convolutions look back only, and attention no further than to the end of a chunk."""
        return self.chunk_size > 0
