"""The probe passes where every scale acts, names the site and the reason where one does not, and leaves no trace."""

import pytest
import torch
from torch import nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.probe import prove_sites_act
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.dnn import Dnn, DnnConfig


@pytest.mark.parametrize("config", [{}, {"dropout": 0.3, "batch_norm": True}, {"activation": "relu"}])
def test_every_site_of_our_net_acts(config):
    network = Dnn(DnnConfig(num_layers=4, hidden_dim=6, context=1, **_enum(config)), feat_dim=4, num_outputs=5)
    network.eval()
    prove_sites_act(network, find_sites(network, network.adaptation_sites), torch.randn(1, 16, 4))


def _enum(config):
    from lhuc_asr.models.dnn import Activation

    return {key: Activation(value) if key == "activation" else value for key, value in config.items()}


def test_the_net_and_the_random_numbers_are_put_back():
    network = Dnn(DnnConfig(num_layers=2, hidden_dim=6, context=1, batch_norm=True), feat_dim=4, num_outputs=5).eval()
    network.layers[0].train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    prove_sites_act(network, find_sites(network, network.adaptation_sites), torch.ones(1, 16, 4) + torch.eye(16)[:, :4])
    assert torch.equal(torch.get_rng_state(), state)
    assert network.layers[0].training and not network.layers[1].training and not network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.ignored, self.absent = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, x):
        self.ignored(x)
        return self.used(x)


class OnlyInTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.activation = nn.Linear(3, 4), nn.Sigmoid()

    def forward(self, x):
        return self.activation(self.linear(x)) if self.training else torch.sigmoid(self.linear(x))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)


@pytest.mark.parametrize(
    ("net", "site", "reason"),
    [
        (Unused(), Site("ignored", (4,)), "'ignored' changes nothing in evaluation mode"),
        (Unused(), Site("absent", (4,)), r"'absent' \(Linear\) never runs in evaluation mode"),
        (OnlyInTraining(), Site("activation", (4,)), r"'activation' \(Sigmoid\) never runs in evaluation mode"),
        (nn.Sequential(layer := nn.Linear(3, 3), layer), Site("0", (3,)), "runs 2 times in one pass"),
        (nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()), Site("1", (8,)), "the adapter has 8 units"),
    ],
)
def test_what_does_not_act_is_refused_with_the_reason(net, site, reason):
    with pytest.raises(SiteError, match=reason):
        prove_sites_act(net, [site], torch.randn(2, 3))
    assert not any(module._forward_hooks for module in net.modules())


def test_attention_output_projection_is_refused():
    with pytest.raises(SiteError, match=r"'attention\.out_proj'"):
        prove_sites_act(Attention().eval(), [Site("attention.out_proj", (4,))], torch.randn(1, 5, 4))


def test_transformer_fast_path_is_honoured_or_refused_never_silent():
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0).eval()
    prove_sites_act(layer, [Site("linear1", (8,))], torch.randn(1, 5, 4))


def test_normalisation_after_the_site_cannot_hide_it():
    net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.LayerNorm(4))
    prove_sites_act(net, find_sites(net, "1"), torch.randn(2, 3))


def test_an_output_that_is_not_finite_proves_nothing():
    net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())
    with pytest.raises(SiteError, match="not finite"):
        prove_sites_act(net, find_sites(net, "1"), torch.full((2, 3), float("nan")))
