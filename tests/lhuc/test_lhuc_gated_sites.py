"""Promises of gated sites: factors act per utterance and per frame, gradients reach whatever made them, no trace."""

import threading

import pytest
import torch
from torch import nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.gate import Gate
from lhuc_asr.lhuc.gated_sites import GatedSites
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.dnn import Dnn, DnnConfig


@pytest.fixture
def network():
    config = DnnConfig(num_layers=2, hidden_dim=5, context=1)
    return Dnn(config, feat_dim=4, num_outputs=6).requires_grad_(False).eval()


@pytest.fixture
def sites(network):
    return find_sites(network, network.adaptation_sites, example=torch.randn(2, 7, 4))


def scales_of(sites, *leading):
    return {site.name: torch.rand(*leading, *site.units) + 0.5 for site in sites}


def alone(network, sites, scales, feats):
    """One utterance with fixed scales, by the plain adapter."""
    layouts = {site.name: site.layout for site in sites}
    with LhucAdapter(scales, Amplitude.identity, layouts).attached(network):
        return network(feats[None])[0]


def test_every_utterance_of_a_batch_gets_its_own_scales(network, sites):
    feats, scales = torch.randn(3, 7, 4), scales_of(sites, 3)
    gated = GatedSites(sites)
    with gated.attached(network), gated.scaled_by(scales):
        mixed = network(feats)
    for b in range(3):
        expected = alone(network, sites, {name: scale[b] for name, scale in scales.items()}, feats[b])
        torch.testing.assert_close(mixed[b], expected)


def test_every_frame_gets_its_own_scales(network, sites):
    feats, scales = torch.randn(3, 7, 4), scales_of(sites, 3, 7)
    gated = GatedSites(sites)
    with gated.attached(network), gated.scaled_by(scales):
        mixed = network(feats)
    for t in range(7):
        with gated.attached(network), gated.scaled_by({name: scale[:, t] for name, scale in scales.items()}):
            torch.testing.assert_close(network(feats)[:, t], mixed[:, t])


def test_one_factor_for_all_frames_is_the_same_as_one_for_the_utterance(network, sites):
    feats, scales = torch.randn(3, 7, 4), scales_of(sites, 3)
    gated = GatedSites(sites)
    with gated.attached(network):
        with gated.scaled_by(scales):
            utterances = network(feats)
        with gated.scaled_by({name: scale[:, None] for name, scale in scales.items()}):
            assert torch.equal(network(feats), utterances)


def test_rows_of_utterances_of_different_length(network, sites):
    windows, scales, gated = torch.randn(9, 3, 4), scales_of(sites, 2), GatedSites(sites)
    with gated.attached(network), gated.scaled_by(scales, num_rows=[2, 7]):
        mixed = network.forward_windows(windows)
    with gated.attached(network), gated.scaled_by({name: scale[1:] for name, scale in scales.items()}):
        torch.testing.assert_close(network.forward_windows(windows[2:]), mixed[2:])


@pytest.mark.parametrize("letters", ["BTH", "TBH", "BHT", "NH", "BTHH", "BHHT", "NHT"])
def test_frames_are_scaled_in_any_layout(letters):
    sizes = {"B": 2, "T": 3, "N": 6}
    units, shape = [4, 5][: letters.count("H")], []
    left = iter(units)
    for letter in letters:
        shape.append(next(left) if letter == "H" else sizes[letter])
    output, factors = torch.randn(shape), torch.rand(2, 3, *units)
    scaled = Layout(letters).scale_frames(output, factors)
    for b in range(2):
        for t in range(3):
            if "N" in letters:
                index = (3 * b + t,)
            else:
                index = tuple({"B": b, "T": t}.get(letter, slice(None)) for letter in letters)
            factor = factors[b, t]
            factor = factor[..., None] if letters == "NHT" else factor
            torch.testing.assert_close(scaled[index], output[index] * factor)


def test_layouts_and_frames_that_do_not_fit_are_told():
    with pytest.raises(SiteError, match="does not tell which dimension is time"):
        Layout("BHTT").scale_frames(torch.ones(2, 5, 3, 4), torch.ones(2, 3, 5))
    with pytest.raises(SiteError, match=r"2 utterances of 3 frames.*'BTH' has shape \(2, 4, 5\)"):
        Layout("BTH").scale_frames(torch.ones(2, 4, 5), torch.ones(2, 3, 5))
    with pytest.raises(SiteError, match=r"2 utterances of 3 frames.*'NH' has shape \(5, 5\)"):
        Layout("NH").scale_frames(torch.ones(5, 5), torch.ones(2, 3, 5))


def test_a_fresh_gate_is_the_identity_bit_for_bit_and_its_gradient_reaches_the_gate_alone(network, sites):
    feats, gated, gate = torch.randn(3, 7, 4), GatedSites(sites), Gate.for_sites(sites, 6)
    plain = network(feats)
    with gated.attached(network), gated.scaled_by(gate(torch.randn(3, 6))):
        output = network(feats)
    assert torch.equal(output, plain)
    output.square().sum().backward()
    assert all(head.weight.grad.abs().sum() > 0 for head in gate.heads)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_gradients_are_those_of_a_product_written_by_hand():
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    gated, scale, x = (
        GatedSites([Site("1", (5,), Layout("BH"))]),
        torch.rand(4, 5, requires_grad=True),
        torch.randn(4, 3),
    )
    with gated.attached(net), gated.scaled_by({"1": scale}):
        (got,) = torch.autograd.grad(net(x).square().sum(), scale)
    (expected,) = torch.autograd.grad(net[2](net[1](net[0](x)) * scale).square().sum(), scale)
    torch.testing.assert_close(got, expected)


def test_nothing_remains(network, sites):
    gated, before = GatedSites(sites), {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), gated.attached(network), gated.scaled_by(scales_of(sites, 1)):
        network(torch.randn(1, 7, 4))
        raise KeyboardInterrupt
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_site_that_does_nothing_is_found():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(3, 5), nn.Linear(3, 5)

        def forward(self, x):
            self.idle(x)
            return self.used(x)

    gated = GatedSites([Site("idle", (5,), Layout("BH"))])
    with (
        pytest.raises(SiteError, match="scaling 'idle' changes nothing"),
        gated.attached(net := Idle()),
        gated.scaled_by({"idle": torch.ones(2, 5)}),
    ):
        net(torch.randn(2, 3))


def test_threads_never_mix(network, sites):
    gated, feats, wrong = GatedSites(sites), torch.randn(1, 7, 4), []

    def compute(value):
        scales = {site.name: torch.full((1, *site.units), value) for site in sites}
        for _ in range(20):
            with gated.scaled_by(scales):
                wrong.append(not torch.equal(network(feats), expected[value]))

    with gated.attached(network), torch.no_grad():
        expected = {}
        for value in (0.5, 1.5):
            with gated.scaled_by({site.name: torch.full((1, *site.units), value) for site in sites}):
                expected[value] = network(feats)
        threads = [threading.Thread(target=torch.no_grad()(compute), args=[value]) for value in expected]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(wrong) == 40 and not any(wrong)


def test_what_does_not_fit_is_told(network, sites):
    gated = GatedSites(sites)
    good = scales_of(sites, 2)
    first, second = (site.name for site in sites)
    cases = [
        ({first: good[first]}, r"given for \['layers.0.activation'\], the sites are"),
        ({**good, first: torch.ones(2, 4)}, r"takes scales \(B, 5\) or \(B, T, 5\), but was given \(2, 4\)"),
        ({**good, second: torch.ones(3, 5)}, r"different numbers of utterances: \[2, 3\]"),
    ]
    for scales, told in cases:
        with pytest.raises(SiteError, match=told), gated.scaled_by(scales):
            pass
    with pytest.raises(SiteError, match="given, but the rows of 3"), gated.scaled_by(good, num_rows=[1, 2, 3]):
        pass
    with gated.attached(network), pytest.raises(SiteError, match=r"given no scales: use `with gated.scaled_by"):
        network(torch.randn(2, 7, 4))
    with gated.attached(network), gated.scaled_by(good), pytest.raises(SiteError, match="2 speakers were named"):
        network(torch.randn(3, 7, 4))
    with pytest.raises(SiteError, match="at least one site"):
        GatedSites([])
