"""Where a network is divided: as high as possible, and never above anything that is scaled."""

from __future__ import annotations

import pytest
import torch

from lhuc_asr.adaptation.objectives.lower_part import highest_split
from lhuc_asr.errors import SiteError
from lhuc_asr.models.dnn import Dnn, DnnConfig

NETWORK = Dnn(DnnConfig(num_layers=4, hidden_dim=5, context=1, batch_norm=True), feat_dim=4, num_outputs=3).eval()
WINDOW = torch.zeros(1, 3, 4)


@pytest.mark.parametrize(
    ("sites", "split"),
    [
        (["layers.0.activation", "layers.3.activation"], "layers.0.activation"),
        (["layers.3.activation", "layers.2.activation"], "layers.2.activation"),
        (["layers.2.linear"], "layers.1.activation"),
        (["layers.2.norm", "layers.2.activation"], "layers.1.activation"),
        (["layers.2.dropout"], "layers.2.activation"),
        (["layers.2"], "layers.1.activation"),
        (["output"], "layers.3.activation"),
        (["layers.0.linear", "layers.3.activation"], None),
        (["layers.0"], None),
    ],
)
def test_the_highest_module_below_all_sites(sites: list[str], split: str | None) -> None:
    assert highest_split(NETWORK, sites, WINDOW) == split
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in NETWORK.modules())


def test_a_network_in_training_mode_is_not_divided() -> None:
    network = Dnn(DnnConfig(num_layers=2, hidden_dim=5, context=1, dropout=0.5), feat_dim=4, num_outputs=3).train()
    assert highest_split(network, ["layers.1.activation"], WINDOW) is None


def test_a_site_that_does_not_exist_is_told() -> None:
    with pytest.raises(SiteError, match=r"wants layer 'layers\.9'"):
        highest_split(NETWORK, ["layers.9"], WINDOW)
