"""Promises of the adapter: identity at the start, no trace afterwards, gradient to r and to nothing else."""

import hashlib

import pytest
import torch
from torch import nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude, amplitude
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.dnn import Dnn, DnnConfig


@pytest.fixture
def network():
    return Dnn(DnnConfig(num_layers=3, hidden_dim=5, context=1), feat_dim=4, num_outputs=6)


def fingerprint(model):
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def hooks_of(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def all_sites(network):
    return find_sites(network, network.adaptation_sites)


@pytest.mark.parametrize("kind", Amplitude)
def test_a_fresh_adapter_is_the_identity_bit_for_bit(network, kind):
    feats = torch.randn(2, 9, 4)
    plain = network(feats)
    with LhucAdapter.identity(network, all_sites(network), kind).attached(network):
        assert torch.equal(network(feats), plain)


@pytest.mark.parametrize("kind", Amplitude)
def test_it_computes_what_the_paper_says(network, kind):
    windows = torch.randn(8, 3, 4)
    adapter = LhucAdapter({name: torch.rand(5) for name in network.adaptation_sites}, kind)
    h = windows.flatten(1)
    for layer in network.layers:
        h = amplitude(adapter.r[f"layers.{list(network.layers).index(layer)}.activation"], kind) * torch.sigmoid(
            layer.linear(h)
        )
    expected = torch.log_softmax(network.output(h), dim=-1)
    with adapter.attached(network):
        torch.testing.assert_close(network.forward_windows(windows), expected)
        torch.testing.assert_close(network.forward_windows(windows[:1]), expected[:1])


def test_names_and_weights_of_the_net_never_change_and_nothing_remains(network):
    before, keys = fingerprint(network), list(network.state_dict())
    adapter = LhucAdapter({name: torch.rand(5) for name in network.adaptation_sites})
    with adapter.attached(network):
        assert list(network.state_dict()) == keys
        assert len(list(network.parameters())) == 8
        network(torch.randn(1, 4, 4)).sum().backward()
    assert fingerprint(network) == before
    assert hooks_of(network) == 0


def test_an_exception_leaves_no_trace(network):
    adapter = LhucAdapter.identity(network, all_sites(network))
    with pytest.raises(KeyboardInterrupt), adapter.attached(network):
        raise KeyboardInterrupt
    assert hooks_of(network) == 0


def test_a_missing_layer_is_told_before_anything_is_touched(network):
    adapter = LhucAdapter({"layers.0.activation": torch.zeros(5), "layers.9.activation": torch.zeros(5)})
    with (
        pytest.raises(SiteError, match=r"wants layer 'layers.9.activation'.*it has: .*layers.2"),
        adapter.attached(network),
    ):
        pass
    assert hooks_of(network) == 0


def test_two_adapters_at_once_are_refused(network):
    adapter = LhucAdapter.identity(network, all_sites(network)[:1])
    other = LhucAdapter.identity(network, all_sites(network)[1:])
    with adapter.attached(network):
        with pytest.raises(SiteError, match=r"attached to 'layers.0.activation' already"), other.attached(network):
            pass
        assert hooks_of(network) == 1
    with other.attached(network):
        assert hooks_of(network) == 2


def test_other_peoples_hooks_stay(network):
    calls = []
    network.output.register_forward_hook(lambda *_: calls.append(1))
    with LhucAdapter.identity(network, all_sites(network)).attached(network):
        network(torch.randn(1, 3, 4))
    assert hooks_of(network) == 1 and calls


def test_gradient_reaches_every_r_and_nothing_else(network):
    network.requires_grad_(False)
    adapter = LhucAdapter.identity(network, all_sites(network))
    with adapter.attached(network):
        network(torch.randn(2, 3, 4)).square().sum().backward()
    assert all(r.grad is not None and r.grad.abs().sum() > 0 for r in adapter.parameters())
    assert all(p.grad is None for p in network.parameters())


def test_scales_and_counts(network):
    adapter = LhucAdapter.identity(network, all_sites(network), "sigmoid2")
    assert adapter.num_parameters == 15
    assert adapter.sites == all_sites(network)
    assert all(torch.equal(scale, torch.ones(5)) for scale in adapter.scales().values())


def test_parameters_are_copied():
    r = torch.zeros(3)
    adapter = LhucAdapter({"x": r})
    r += 1
    assert adapter.r["x"].sum() == 0


def test_wrong_width_is_told():
    net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())
    with (
        pytest.raises(SiteError, match=r"gives an output of shape \(2, 4\), but the adapter has 7 units"),
        LhucAdapter({"1": torch.zeros(7)}).attached(net),
    ):
        net(torch.zeros(2, 3))


def test_unknown_amplitude_is_a_value_error(network):
    with pytest.raises(ValueError, match="softplus"):
        LhucAdapter.identity(network, [Site("layers.0.activation", (5,))], "softplus")
