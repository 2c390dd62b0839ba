"""Estimates that hold: nothing without strength, the prior's mean with all of it, and in between what the text says."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import nll_loss

from helpers.toy_priors import flat, prior_for
from helpers.toy_windows import adapters_of, network_of, speaker_of
from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.parameters.estimate_config import EstimateConfig, Estimation, PriorShape
from lhuc_asr.adaptation.parameters.estimates import Pull, divergence
from lhuc_asr.adaptation.parameters.priors import Estimator, content_of, prior_of, start_at_mean
from lhuc_asr.adaptation.parameters.spaces import Subspace
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.errors import ConfigError, ProfileError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude, identity_r
from lhuc_asr.models.dnn import Dnn
from lhuc_asr.profiles.prior import ScalePrior, save_prior

BATCH = 16
FEW = AdaptConfig(batch_size=BATCH, num_epochs=2)


def learnt(
    network: Dnn, speakers: list[SpeakerFrames], config: AdaptConfig, prior: ScalePrior | None = None
) -> list[LhucAdapter]:
    adapters = [start_at_mean(adapter, prior) for adapter in adapters_of(network, len(speakers))]
    reports = adapt_group(network, adapters, speakers, config, estimator=Estimator(config, prior, config.seed))
    assert all(isinstance(report, UpdateReport) for report in reports), reports
    return adapters


def test_without_strength_not_one_bit_differs() -> None:
    network, speakers = network_of(), [speaker_of(0, 40), speaker_of(1, 17)]
    plain, none = learnt(network, speakers, FEW), learnt(network, speakers, replace(FEW, prior=5.0, prior_layers=[0.0]))
    assert all(torch.equal(flat(one), flat(other)) for one, other in zip(plain, none, strict=True))
    adapter = adapters_of(network, 1)[0]
    at_zero = replace(prior_for(adapter), mean={name: torch.zeros_like(r) for name, r in adapter.r.items()})
    from_file = learnt(network, speakers, replace(FEW, prior_from="given"), at_zero)
    assert all(torch.equal(flat(one), flat(other)) for one, other in zip(plain, from_file, strict=True))


@pytest.mark.parametrize("estimation", Estimation)
@pytest.mark.parametrize("kind", ["identity", "prior_from", "subspace"])
def test_the_strongest_prior_gives_its_mean(kind: str, estimation: Estimation) -> None:
    network, speakers = network_of(), [speaker_of(0, 40), speaker_of(1, 17)]
    prior = None if kind == "identity" else prior_for(adapters_of(network, 1)[0])
    config = replace(FEW, prior=1e30, estimation=estimation, **({} if prior is None else {kind: "given"}))
    adapters = learnt(network, speakers, config, prior)
    for adapter in adapters:
        for name, r in adapter.r.items():
            wanted = torch.full_like(r, identity_r(adapter.kind)) if prior is None else prior.mean[name]
            torch.testing.assert_close(r.detach(), wanted, rtol=0, atol=1e-7)


def test_it_is_the_step_that_minimises_the_penalised_objective() -> None:
    """Proximal steps by plain torch: after the gradient, (r - g)^2 / 2 + lr strength / N (r - m)^2 / (2 v) is least."""
    network, speaker = network_of(), speaker_of(0, 40)
    adapter = adapters_of(network, 1)[0]
    prior = prior_for(adapter)
    config = AdaptConfig(lr=0.5, num_epochs=3, batch_size=64, prior=7.0, prior_layers=[0.1, 2.0], prior_from="given")
    (found,) = learnt(network, [speaker], config, prior)
    windows = speaker.frames.windows(torch.arange(40))
    plain = start_at_mean(adapter, prior)
    with plain.attached(network):
        for _ in range(3):
            loss = nll_loss(network.forward_windows(windows), speaker.targets)
            gradients = torch.autograd.grad(loss, plain.parameters())
            for layer, (name, r) in enumerate(plain.r.items()):
                strength = 0.5 * 7.0 * [0.1, 2.0, 2.0][layer] / 40 / prior.variance[name]
                moved = r.data - 0.5 * gradients[layer]
                r.data = (moved + strength * prior.mean[name]) / (1 + strength)
    torch.testing.assert_close(flat(found), flat(plain), rtol=0, atol=1e-5)


def test_it_ends_where_the_gradients_of_objective_and_prior_cancel() -> None:
    network, speaker = network_of(), speaker_of(0, 40)
    prior = prior_for(adapters_of(network, 1)[0])
    config = AdaptConfig(lr=0.8, num_epochs=1500, batch_size=64, prior=4.0, prior_from="given")
    (found,) = learnt(network, [speaker], config, prior)
    with found.attached(network):
        loss = nll_loss(network.forward_windows(speaker.frames.windows(torch.arange(40))), speaker.targets)
        squares = [((r - prior.mean[name]).square() / prior.variance[name]).sum() for name, r in found.r.items()]
        total = loss + 4.0 / 40 * sum(squares) / 2
        gradients = torch.autograd.grad(total, found.parameters())
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-4


def test_more_speech_counts_more() -> None:
    network, short = network_of(), speaker_of(0, 32)
    config = AdaptConfig(lr=0.2, num_epochs=1, batch_size=32, prior=50.0)
    longer = AdaptConfig(lr=0.2, num_epochs=1, batch_size=32, prior=100.0)
    (one,) = learnt(network, [short], config)
    assert flat(one).abs().max() > 0
    (weaker,) = learnt(network, [speaker_of(0, 32)], longer)
    assert flat(weaker).norm() < flat(one).norm()
    pull = Pull({}, {}, {"a": 100.0}, [32, 64])
    sizes = pull.step_sizes("a", [0, 1], [0.2, 0.2], torch.zeros(2, 3)).flatten().tolist()
    assert sizes == pytest.approx([0.2 * 100 / 32, 0.2 * 100 / 64])


@pytest.mark.parametrize("estimation", Estimation)
@pytest.mark.parametrize("kind", ["identity", "prior_from", "subspace"])
def test_everybody_learns_in_company_what_is_learnt_alone(kind: str, estimation: Estimation) -> None:
    network, speakers = network_of(), [speaker_of(place, size) for place, size in enumerate((50, 9, 33))]
    prior = None if kind == "identity" else prior_for(adapters_of(network, 1)[0])
    config = replace(FEW, prior=3.0, estimation=estimation, **({} if prior is None else {kind: "given"}))
    together = learnt(network, speakers, config, prior)
    again = learnt(network, speakers, config, prior)
    for place, speaker in enumerate(speakers):
        (alone,) = learnt(network, [speaker], config, prior)
        torch.testing.assert_close(flat(together[place]), flat(alone), rtol=1e-5, atol=1e-5)
        assert torch.equal(flat(together[place]), flat(again[place]))
        assert not torch.equal(flat(alone), flat(start_at_mean(adapters_of(network, 1)[0], prior)))


def test_coefficients_take_the_projected_step_and_give_r() -> None:
    network, speaker = network_of(), speaker_of(0, 40)
    adapter = adapters_of(network, 1)[0]
    prior = prior_for(adapter)
    config = AdaptConfig(lr=0.5, num_epochs=1, batch_size=64, subspace="given", num_directions=2)
    start_at_mean(adapter, prior)
    with adapter.attached(network):
        loss = nll_loss(network.forward_windows(speaker.frames.windows(torch.arange(40))), speaker.targets)
        gradient_D = torch.cat([g.flatten() for g in torch.autograd.grad(loss, adapter.parameters())])
    basis_KD = torch.cat([own[:2].flatten(1) for own in prior.directions.values()], dim=1)
    found = start_at_mean(adapters_of(network, 1)[0], prior)
    (report,) = adapt_group(network, [found], [speaker], config, estimator=Estimator(config, prior, config.seed))
    assert isinstance(report, UpdateReport)
    torch.testing.assert_close(torch.tensor(report.coefficients), -0.5 * basis_KD @ gradient_D, rtol=0, atol=1e-6)
    wanted = flat(adapter) + torch.tensor(report.coefficients) @ basis_KD
    torch.testing.assert_close(flat(found), wanted, rtol=0, atol=1e-6)
    numbers = Subspace(prior, list(found.r), 2, torch.zeros(0)).numbers({n: r[None] for n, r in found.r.items()})
    torch.testing.assert_close(numbers["coefficients"][0], torch.tensor(report.coefficients), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["identity", "prior_from"])
def test_tied_units_take_the_mean_of_the_steps_that_they_would_take_alone(kind: str) -> None:
    network, speakers = network_of(), [speaker_of(0, 40), speaker_of(1, 17)]
    prior = None if kind == "identity" else prior_for(adapters_of(network, 1)[0])
    free = AdaptConfig(lr=0.5, num_epochs=1, batch_size=64, **({} if prior is None else {kind: "given"}))
    tied = replace(free, tied=True)
    begun = start_at_mean(adapters_of(network, 1)[0], prior)
    alone, together = (learnt(network, speakers, config, prior) for config in (free, tied))
    for one, other in zip(alone, together, strict=True):
        for name, start in begun.r.items():
            steps, tied_steps = (one.r[name] - start).detach(), (other.r[name] - start).detach()
            assert float(steps.abs().max()) > 0
            torch.testing.assert_close(tied_steps, steps.mean().expand_as(steps), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["prior_from", "subspace", "tied"])
def test_steps_are_as_long_as_layers_and_variances_say(kind: str) -> None:
    """One step of plain descent; how far each number goes is compared with the same without speeds."""
    network, speaker = network_of(), speaker_of(0, 40)
    prior = prior_for(adapters_of(network, 1)[0])
    file = "subspace" if kind == "subspace" else "prior_from"
    plain = AdaptConfig(lr=0.5, num_epochs=1, batch_size=64, tied=kind == "tied", **{file: "given"})
    ((one,), (other,)) = (
        learnt(network, [speaker], config, prior) for config in (plain, replace(plain, lr_by_variance=True))
    )
    start, variance = (
        flat(start_at_mean(adapters_of(network, 1)[0], prior)),
        [v.flatten() for v in prior.variance.values()],
    )
    steps, by_variance = flat(one) - start, flat(other) - start
    if kind == "prior_from":
        wanted = steps * torch.cat(variance) / torch.cat(variance).mean()
    elif kind == "tied":
        means = torch.stack([own.mean() for own in variance])
        wanted = steps * torch.cat([(own.mean() / means.mean()).expand_as(own) for own in variance])
    else:
        basis_KD = torch.cat([own.flatten(1) for own in prior.directions.values()], dim=1)
        speeds_K = prior.direction_variance / prior.direction_variance.mean()
        wanted = (basis_KD @ steps * speeds_K) @ basis_KD
    torch.testing.assert_close(by_variance, wanted, rtol=1e-3, atol=1e-6)
    if kind != "subspace":
        (third,) = learnt(network, [speaker], replace(plain, lr_layers=[0.0, 2.0]), prior)
        times = torch.cat([torch.full_like(own, 2.0 * (layer > 0)) for layer, own in enumerate(variance)])
        torch.testing.assert_close(flat(third) - start, steps * times, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("estimation", Estimation)
def test_where_a_prior_holds_longer_steps_end_at_the_same_place(estimation: Estimation) -> None:
    network, speaker = network_of(), speaker_of(0, 40)
    prior = prior_for(adapters_of(network, 1)[0])
    held = replace(FEW, prior=1e30, prior_from="given", lr_by_variance=True, lr_layers=[0.5], estimation=estimation)
    (found,) = learnt(network, [speaker], held, prior)
    for name, r in found.r.items():
        torch.testing.assert_close(r.detach(), prior.mean[name], rtol=0, atol=1e-7)


def test_tied_numbers_are_reported_layer_by_layer_and_held_by_priors() -> None:
    network, speaker = network_of(), speaker_of(0, 40)
    (adapter,) = adapters_of(network, 1)
    config = replace(FEW, tied=True, prior=2.0)
    (report,) = adapt_group(network, [adapter], [speaker], config, estimator=Estimator(config, None, 0))
    assert isinstance(report, UpdateReport) and len(report.coefficients) == len(adapter.r)
    for number, r in zip(report.coefficients, adapter.parameters(), strict=True):
        assert float(r.detach()[0]) == pytest.approx(number / math.sqrt(r.numel()), rel=1e-5)
    (held,) = learnt(network, [speaker], replace(config, prior=1e30))
    assert float(flat(held).abs().max()) < 1e-7


@pytest.mark.parametrize("size", [0.0, 0.05, 0.3, 1e12])
def test_steps_on_a_laplace_prior_are_exact(size: float) -> None:
    """The least of (v - x)^2 / 2 + size |v - m| / b, b^2 = variance / 2, looked for on a fine grid."""
    mean, variance, x = torch.tensor([0.1, 0.1, -0.2]), torch.tensor([0.5, 2.0, 0.5]), torch.tensor([[0.4, 0.11, -0.9]])
    pull = Pull({"a": mean}, {"a": variance}, {"a": 1.0}, [1], PriorShape.laplace)
    found = pull.drawn_to_mean("a", x, torch.full((1, 1), size))
    grid = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[:, None]
    penalised = (grid - x).square() / 2 + size * (grid - mean).abs() / (variance / 2).sqrt()
    torch.testing.assert_close(found[0], grid[penalised.argmin(0), 0].float(), rtol=0, atol=2e-5)
    assert size != 0.3 or found[0, 1] == mean[1], "exactly, not nearly"


def test_a_laplace_prior_leaves_units_exactly_where_they_were_and_the_more_the_stronger_it_is() -> None:
    network, speaker = network_of(), speaker_of(0, 40)
    config = AdaptConfig(lr=0.5, num_epochs=20, batch_size=64, prior_shape=PriorShape.laplace, prior=0.1)
    moved = [
        int((flat(learnt(network, [speaker], replace(config, prior=strength))[0]) != 0).sum())
        for strength in (1e-6, 0.3, 1.0, 1e6)
    ]
    num_units = len(flat(adapters_of(network, 1)[0]))
    assert moved[0] == num_units > moved[1] > moved[2] > 0 == moved[3]


def test_the_divergence_is_the_integral() -> None:
    x = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    for mean, std, prior_mean, prior_std in ((0.3, 0.7, -0.2, 1.5), (1.0, 2.0, 1.0, 0.9)):
        q, p = torch.distributions.Normal(mean, std), torch.distributions.Normal(prior_mean, prior_std)
        integral = torch.trapezoid(q.log_prob(x).exp() * (q.log_prob(x) - p.log_prob(x)), x)
        found = divergence(*(torch.tensor(v, dtype=torch.float64) for v in (mean, std, prior_mean, prior_std**2)))
        torch.testing.assert_close(found, integral, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("size", [0.0, 0.3, 20.0])
def test_steps_on_the_divergence_are_exact(size: float) -> None:
    """Where a step ends, its distance and the derivative of KL cancel."""
    mean, std, variance = torch.tensor([0.4]), torch.tensor([0.8]), torch.tensor([0.25])
    pull = Pull({"a": torch.tensor([0.1])}, {"a": variance}, {"a": 1.0}, [1])
    sizes = torch.tensor([size])
    new_mean = pull.drawn_to_mean("a", mean, sizes).requires_grad_()
    new_std = pull.drawn_to_std("a", std, sizes).requires_grad_()
    divergence(new_mean, new_std, torch.tensor([0.1]), variance).sum().backward()
    assert new_mean.grad is not None
    assert new_std.grad is not None
    torch.testing.assert_close(new_mean - mean + size * new_mean.grad, torch.zeros(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(new_std - std + size * new_std.grad, torch.zeros(1), rtol=0, atol=1e-5)


def test_doubt_grows_to_that_of_the_prior_where_nothing_is_heard() -> None:
    pull = Pull({"a": torch.zeros(1)}, {"a": torch.tensor([0.25])}, {"a": 1.0}, [1])
    std = torch.tensor([0.01])
    for _ in range(200):
        std = pull.drawn_to_std("a", std, torch.tensor([0.1]))
    assert float(std) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"prior": -1.0}, "adapt.prior must"),
        ({"prior": math.inf}, "adapt.prior must"),
        ({"prior_layers": [1.0, -1.0]}, "adapt.prior_layers must"),
        ({"num_directions": -1}, "adapt.num_directions must"),
        ({"num_directions": 2}, "adapt.subspace, which is not given"),
        ({"posterior_std": 0.0}, "adapt.posterior_std must"),
        ({"subspace": "a", "prior_from": "b"}, "without adapt.prior_from"),
        ({"subspace": "a", "prior_layers": [1.0]}, "without adapt.prior_layers"),
        ({"estimation": Estimation.bayesian}, "needs a prior"),
        (
            {"estimation": Estimation.bayesian, "prior": 1.0, "prior_shape": PriorShape.laplace},
            "needs a Gaussian prior, not laplace",
        ),
        ({"subspace": "a", "tied": True}, "two spaces in which r is learnt"),
        ({"lr_layers": [-1.0]}, "adapt.lr_layers must"),
        ({"subspace": "a", "lr_layers": [1.0]}, "without adapt.lr_layers"),
        ({"lr_by_variance": True}, "give adapt.prior_from or adapt.subspace"),
    ],
)
def test_settings_that_cannot_work(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        EstimateConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=told):
        AdaptConfig(**wrong)  # type: ignore[arg-type]


def test_files_are_checked_and_known_by_their_content(tmp_path: Path) -> None:
    (adapter,) = adapters_of(network_of(), 1)
    path = tmp_path / "prior.safetensors"
    save_prior(prior_for(adapter), path)
    config = AdaptConfig(prior_from=str(path))
    found = prior_of(config, adapter.sites, Amplitude.exp, fingerprint="f")
    assert found is not None
    assert found.sha256 == prior_for(adapter).sha256
    assert prior_of(AdaptConfig(), adapter.sites, Amplitude.exp, fingerprint="f") is None
    before = content_of(config)
    save_prior(prior_for(adapter, num_directions=2), path)
    assert content_of(config).keys() == before.keys() == {"prior_from"}
    assert content_of(config) != before
    with pytest.raises(ConfigError, match=r"asks for 3 directions, the file of adapt.subspace has 2"):
        prior_of(AdaptConfig(subspace=str(path), num_directions=3), adapter.sites, Amplitude.exp, fingerprint="f")
    with pytest.raises(ProfileError, match=r"lhuc\.amplitude is relu"):
        prior_of(config, adapter.sites, Amplitude.relu, fingerprint="f")
    with pytest.raises(ProfileError, match="was learnt for model f"):
        prior_of(config, adapter.sites, Amplitude.exp, fingerprint="g")
    with pytest.raises(ProfileError, match="cannot read the prior"):
        content_of(AdaptConfig(prior_from=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match=r"adapt\.prior_from names a file"):
        learnt(network_of(), [speaker_of(0, 20)], config)


@pytest.mark.parametrize("estimation", Estimation)
def test_own_means_hold_everybody_where_they_began(estimation: Estimation) -> None:
    network, speakers = network_of(), [speaker_of(0, 40), speaker_of(1, 17)]
    config = replace(FEW, prior=1e15, estimation=estimation)

    def begun() -> list[LhucAdapter]:
        adapters = adapters_of(network, 2)
        for seed, adapter in enumerate(adapters):
            for r in adapter.parameters():
                r.data.add_(0.1 * torch.randn(r.shape, generator=torch.Generator().manual_seed(seed)))
        return adapters

    held = begun()
    adapt_group(network, held, speakers, config, estimator=Estimator(config, None, 0, own_means=True))
    for adapter, start in zip(held, begun(), strict=True):
        torch.testing.assert_close(flat(adapter), flat(start), atol=1e-4, rtol=0)
    together, alone = begun(), begun()
    config = replace(config, prior=10.0)
    weaker = Estimator(config, None, 0, own_means=True)
    adapt_group(network, together, speakers, config, estimator=weaker)
    for place, adapter in enumerate(alone):
        adapt_group(network, [adapter], [speakers[place]], config, estimator=weaker)
        torch.testing.assert_close(flat(adapter), flat(together[place]), atol=1e-5, rtol=1e-4)
        assert not torch.allclose(flat(adapter), flat(begun()[place]), atol=1e-3)
