"""Weights fit their network, or are refused with a reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lhuc_asr.errors import ModelError
from lhuc_asr.models.weights import load_weights


def test_weights_arrive_exactly() -> None:
    network, other = nn.Linear(2, 3), nn.Linear(2, 3)
    load_weights(network, other.state_dict(), source="x")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())


def test_weights_of_another_network_are_refused() -> None:
    network = nn.Linear(2, 3)
    with pytest.raises(ModelError, match="'weight'"):
        load_weights(network, {"weight": torch.zeros(3, 1), "bias": torch.zeros(3)}, source="x")
    with pytest.raises(ModelError, match="'extra'"):
        load_weights(network, {**network.state_dict(), "extra": torch.zeros(1)}, source="x")
