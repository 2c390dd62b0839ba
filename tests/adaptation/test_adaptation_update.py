"""The update: lower objective, untouched net, equal to plain gradient descent, the same for the same seed."""

import hashlib

import numpy as np
import pytest
import torch

from lhuc_asr.adaptation.update.config import AdaptConfig, StepSchedule
from lhuc_asr.adaptation.update.sweeps import adapt
from lhuc_asr.errors import ConfigError, SpeakerError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.models.dnn import Dnn, DnnConfig

RNG = np.random.default_rng(1)


@pytest.fixture
def network():
    shape = DnnConfig(num_layers=3, hidden_dim=5, context=1, batch_norm=True, dropout=0.5)
    return Dnn(shape, feat_dim=4, num_outputs=6).requires_grad_(False).eval()


@pytest.fixture
def frames():
    return SplicedFrames([RNG.normal(size=(length, 4)).astype(np.float32) for length in (30, 1, 20)], context=1)


TARGETS = torch.from_numpy(RNG.integers(6, size=51))


def fresh(network, *, layers=(), kind=Amplitude.exp):
    return LhucAdapter.identity(network, choose_sites(network, network.adaptation_sites, layers), kind)


def fingerprint(model):
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("kind", Amplitude)
@pytest.mark.parametrize("layers", [(), (1,), (2, 3)])
def test_objective_falls_and_not_one_bit_of_the_net_changes(network, frames, kind, layers):
    network.requires_grad_(True)  # even where a user forgot to freeze
    before, adapter = fingerprint(network), fresh(network, layers=layers, kind=kind)
    report = adapt(network, adapter, frames, TARGETS, AdaptConfig(lr=0.1, batch_size=16))
    assert report.objective_after < report.objective_before
    assert len(report.per_epoch) == 3 and report.seconds > 0
    assert fingerprint(network) == before
    assert all(p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules()) and not network.training
    assert all(not torch.equal(scale, torch.ones(5)) for scale in adapter.scales().values())
    assert len(adapter.scales()) == (len(layers) or 3)


def test_it_is_plain_gradient_descent_on_the_mean_cross_entropy(network, frames):
    adapter, other = fresh(network), fresh(network)
    adapt(network, adapter, frames, TARGETS, AdaptConfig(lr=0.8, num_epochs=2, batch_size=100))
    optimiser = torch.optim.SGD(other.parameters(), lr=0.8)
    everything = frames.windows(torch.arange(51))
    with other.attached(network):
        for _ in range(2):
            optimiser.zero_grad()
            torch.nn.functional.nll_loss(network.forward_windows(everything), TARGETS).backward()
            optimiser.step()
    for name, r in adapter.r.items():
        torch.testing.assert_close(r, other.r[name], atol=1e-6, rtol=1e-5)


def test_objective_before_is_that_of_the_net_alone(network, frames):
    report = adapt(network, fresh(network), frames, TARGETS, AdaptConfig())
    alone = torch.nn.functional.nll_loss(network.forward_windows(frames.windows(torch.arange(51))), TARGETS)
    assert report.objective_before == pytest.approx(alone.item(), abs=1e-6)


def test_same_seed_same_scales_other_seed_other_scales(network, frames):
    scales = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(scales))  # the global state has no influence
        adapter = fresh(network)
        adapt(network, adapter, frames, TARGETS, AdaptConfig(seed=seed, batch_size=8))
        scales.append(torch.cat([r.detach() for r in adapter.parameters()]))
    assert torch.equal(scales[0], scales[1]) and not torch.equal(scales[0], scales[2])


def test_an_exploding_step_is_told(network, frames):
    with pytest.raises(SpeakerError, match=r"lower adapt\.lr \(1e\+38\)"):
        adapt(network, fresh(network, kind=Amplitude.identity), frames, TARGETS, AdaptConfig(lr=1e38))


def test_features_that_are_not_finite_are_told(network):
    broken = SplicedFrames([np.full((51, 4), np.nan, dtype=np.float32)], context=1)
    with pytest.raises(SpeakerError, match="not finite before the first step"):
        adapt(network, fresh(network), broken, TARGETS, AdaptConfig())


def test_targets_must_fit_the_frames(network, frames):
    with pytest.raises(SpeakerError, match="51 frames with 50 targets"):
        adapt(network, fresh(network), frames, TARGETS[:50], AdaptConfig())


@pytest.mark.parametrize(
    "wrong", [{"lr": 0}, {"lr": -1}, {"lr": float("nan")}, {"num_epochs": 0}, {"batch_size": 0}, {"min_seconds": -1}]
)
def test_settings_that_cannot_work(wrong):
    with pytest.raises(ConfigError, match=f"adapt.{next(iter(wrong))} must"):
        AdaptConfig(**wrong)


def test_a_linear_schedule_falls_to_nothing():
    config = AdaptConfig(lr=2.0, num_epochs=4, schedule=StepSchedule.linear)
    assert [config.lr_after(sweeps) for sweeps in (0, 0.5, 1, 3.75)] == pytest.approx([2.0, 1.75, 1.5, 0.125])
    assert [AdaptConfig(lr=2.0).lr_after(sweeps) for sweeps in (0, 2.5)] == [2.0, 2.0]


def test_a_schedule_gives_every_step_its_length(network, frames):
    together = fresh(network)
    config = AdaptConfig(lr=0.8, num_epochs=2, batch_size=51, schedule=StepSchedule.linear)
    adapt(network, together, frames, TARGETS, config)
    one_by_one = fresh(network)
    for lr in (0.8, 0.4):  # one minibatch a sweep
        adapt(network, one_by_one, frames, TARGETS, AdaptConfig(lr=lr, num_epochs=1, batch_size=51))
    for r, other in zip(together.parameters(), one_by_one.parameters(), strict=True):
        torch.testing.assert_close(r, other)
