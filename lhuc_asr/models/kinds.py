"""Every kind of network by its name: its settings, its class, and how one is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lhuc_asr.models.blstm import Blstm, BlstmConfig
from lhuc_asr.models.cnn import Cnn, CnnConfig
from lhuc_asr.models.conformer import Conformer
from lhuc_asr.models.conformer_config import ConformerConfig
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.models.maxout import Maxout, MaxoutConfig
from lhuc_asr.models.maxout_cnn import MaxoutCnn, MaxoutCnnConfig
from lhuc_asr.models.network import AcousticNetwork, NetworkConfig, NetworkKind
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig
from lhuc_asr.models.tdnnf import TdnnF, TdnnFConfig

__all__ = ["NETWORKS", "NetworkClasses", "NetworkKind", "build_network"]


@dataclass(frozen=True)
class NetworkClasses:
    """What a kind of network is made of.

    Attributes:
        config: its settings; all have defaults.
        network: from settings, F, V and a seed to the network.
    """

    config: type[NetworkConfig]
    network: Callable[..., AcousticNetwork]


NETWORKS: dict[NetworkKind, NetworkClasses] = {
    NetworkKind.dnn: NetworkClasses(DnnConfig, Dnn),
    NetworkKind.cnn: NetworkClasses(CnnConfig, Cnn),
    NetworkKind.maxout: NetworkClasses(MaxoutConfig, Maxout),
    NetworkKind.maxout_cnn: NetworkClasses(MaxoutCnnConfig, MaxoutCnn),
    NetworkKind.tdnn: NetworkClasses(TdnnConfig, Tdnn),
    NetworkKind.tdnnf: NetworkClasses(TdnnFConfig, TdnnF),
    NetworkKind.blstm: NetworkClasses(BlstmConfig, Blstm),
    NetworkKind.conformer: NetworkClasses(ConformerConfig, Conformer),
}


def build_network(config: NetworkConfig, feat_dim: int, num_outputs: int, *, seed: int = 0) -> AcousticNetwork:
    """Make a network of any kind, with initial weights; the same seed gives the same network.

    Args:
        config: kind and shape.
        feat_dim: F, features of one frame.
        num_outputs: V, tied states.
        seed: of the initial weights.

    Raises:
        ConfigError: the features do not fit the shape.

    Example:
        >>> network = build_network(TdnnConfig(hidden_dim=8, subsampling=3), feat_dim=40, num_outputs=5)
        >>> type(network).__name__, network.config.kind.name, network.subsampling
        ('Tdnn', 'tdnn', 3)
    """
    return NETWORKS[config.kind].network(config, feat_dim, num_outputs, seed=seed)
