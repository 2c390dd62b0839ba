"""Small time-delay networks of both kinds, whose normalisations have something to do."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

from helpers.network_promises import DIM
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig
from lhuc_asr.models.tdnnf import TdnnF, TdnnFConfig
from lhuc_asr.models.time_delay import TimeDelayNetwork

Network = TypeVar("Network", bound=TimeDelayNetwork[Any])

SHAPES = [([1, 0, 2], 1), ([1, 3, 0, 3], 3), ([3, 3], 3), ([1, 2], 3), ([2], 2), ([0], 1)]
"""Dilations and sub-sampling: with frames left out at the bottom, in the middle and below the output."""


def small_tdnn(seed: int = 3, **settings: Any) -> Tdnn:
    config = TdnnConfig(**{"hidden_dim": 7, "dilations": [1, 0, 2], **settings})
    return _shaken(Tdnn(config, feat_dim=DIM, num_outputs=6, seed=seed), seed)


def small_tdnnf(seed: int = 3, **settings: Any) -> TdnnF:
    config = TdnnFConfig(**{"hidden_dim": 7, "bottleneck_dim": 4, "dilations": [1, 0, 2], **settings})
    return _shaken(TdnnF(config, feat_dim=DIM, num_outputs=6, seed=seed), seed)


def _shaken(network: Network, seed: int) -> Network:
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return network.eval()
