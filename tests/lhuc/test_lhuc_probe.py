"""The probe passes where every scale acts, names the site and the reason where one does not, and leaves no trace."""

import pytest
import torch
from torch import nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.probe import prove_gradient, prove_sites_act
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
        (Unused(), Site("absent", (4,)), r"'absent' \(Linear\) never runs in evaluation mode:"),
        (OnlyInTraining(), Site("activation", (4,)), r"'activation' \(Sigmoid\) never runs in evaluation mode:"),
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


class Streams(nn.Module):
    """Scales act in ``forward``, but the streaming method was written without the layer's call."""

    def __init__(self, forgets):
        super().__init__()
        self.linear, self.activation, self.last = nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)
        self.forgets = forgets

    def forward(self, x):
        return self.last(self.activation(self.linear(x)))

    def stream(self, x):
        h = self.linear(x)
        return self.last(torch.sigmoid(h) if self.forgets else self.activation(h))


def test_other_ways_to_run_the_net_are_proved_too():
    x = torch.randn(2, 5, 3)
    stream = {"streaming": Example((x[:1, :2],), call=lambda net, chunk: net.stream(chunk))}
    prove_sites_act(Streams(forgets=False), [Site("activation", (4,))], x, also=stream)
    with pytest.raises(SiteError, match=r"'activation' \(Sigmoid\) never runs in evaluation mode \(streaming\)"):
        prove_sites_act(Streams(forgets=True), [Site("activation", (4,))], x, also=stream)


class Alone(nn.Module):
    """A shortcut for single utterances."""

    def __init__(self):
        super().__init__()
        self.linear, self.activation = nn.Linear(3, 4), nn.Sigmoid()

    def forward(self, x):
        h = self.activation(self.linear(x))
        return h if len(x) > 1 else torch.sigmoid(self.linear(x))


def test_one_utterance_alone_is_proved_too():
    with pytest.raises(SiteError, match="changes nothing in evaluation mode for one utterance alone"):
        prove_sites_act(Alone(), [Site("activation", (4,))], torch.randn(2, 5, 3))


def test_a_net_that_cannot_train_on_one_utterance_is_told_with_the_way_out():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    sites = [Site("0", (4,))]
    with pytest.raises(SiteError, match=r"fails on the example in training mode for one .*more than 1 value.*modes="):
        prove_sites_act(net, sites, torch.randn(3, 3))
    prove_sites_act(net, sites, torch.randn(3, 3), modes=["evaluation"])
    with pytest.raises(SiteError, match="no mode 'test'"):
        prove_sites_act(net, sites, torch.randn(3, 3), modes=["test"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)).to(dtype)
    x = torch.randn(2, 5, 3, dtype=dtype)
    prove_sites_act(net, find_sites(net, "1", example=x), x)
    prove_gradient(net.requires_grad_(False), find_sites(net, "1", example=x), x)


def test_no_output_proves_nothing():
    net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())
    with pytest.raises(SiteError, match="is empty in evaluation mode; nothing can be proved"):
        prove_sites_act(net, [Site("1", (4,))], torch.randn(2, 0, 3))


class Cut(nn.Module):
    """Nets that the gradient cannot pass."""

    def __init__(self, how):
        super().__init__()
        self.lower, self.upper, self.how = nn.Linear(3, 4), nn.Linear(4, 4), how

    def forward(self, x):
        h = self.lower(x)
        if self.how == "detach":
            h = h.detach()
        if self.how == "no_grad":
            with torch.no_grad():
                return self.upper(h)
        if self.how == "saturated":
            h = h.clamp(-100, -99)
        if self.how == "infinite":
            h = (h - h).sqrt() * 0 + h
        return self.upper(h) if self.how != "argmax" else self.upper(h).argmax(-1)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("detach", r"no gradient reaches r of 'lower': above this layer the net cuts it off, by detach\(\)"),
        ("no_grad", r"no gradient reaches any r.*torch.no_grad\(\)"),
        ("argmax", "no gradient reaches any r"),
        ("saturated", "the gradient of r of 'lower' is 0 for this example"),
        ("infinite", "the gradient of r of 'lower' is not finite"),
    ],
)
def test_a_gradient_that_does_not_arrive_is_told(how, reason):
    net = Cut(how).requires_grad_(False)
    with pytest.raises(SiteError, match=reason):
        prove_gradient(net, [Site("lower", (4,)), Site("upper", (4,))], torch.randn(2, 5, 3))
    assert not any(module._forward_hooks for module in net.modules())


def test_a_net_that_is_not_frozen_is_told():
    net, x = Cut(""), torch.randn(2, 5, 3)
    sites = find_sites(net, "*", example=x)
    with pytest.raises(
        SiteError, match=r"also reaches 4 parameters of the net, the first is 'lower.weight': freeze it"
    ):
        prove_gradient(net, sites, x)
    prove_gradient(net, sites, x, frozen=False)
    assert all(parameter.grad is None for parameter in net.parameters())
    with torch.no_grad():
        prove_gradient(net.requires_grad_(False), sites, x)
    with torch.inference_mode():
        prove_gradient(net, sites, torch.randn(2, 5, 3))


def test_sites_that_run_several_times_are_proved_when_asked_for():
    layer = nn.Linear(3, 3)
    net = nn.Sequential(layer, nn.Sigmoid(), layer)
    x = torch.randn(2, 5, 3)
    prove_sites_act(net, [Site("0", (3,))], x, shared=True)
    prove_sites_act(net, find_sites(net, "0", example=x, shared=True), x)
