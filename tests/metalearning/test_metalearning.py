"""A start and speeds learnt through the steps of adaptation: exact gradients, no harm, and worth on a toy world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.parameters.priors import Estimator, prior_of, start_at_mean
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.errors import ConfigError, DataError, ProfileError, SpeakerError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.metalearning.adapting import Adaptation, Start
from lhuc_asr.metalearning.episodes import Episode, Frames, SpeakerSpeech
from lhuc_asr.metalearning.learning import MetalearnReport, StartLearning
from lhuc_asr.metalearning.settings import MetalearnConfig, Order, Speeds
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.profiles.prior import ScalePrior, load_prior, save_prior

DIM, UNITS, STATES = 4, 6, 5


def network_of(*, num_layers: int = 2) -> Dnn:
    shape = DnnConfig(num_layers=num_layers, hidden_dim=UNITS, context=0)
    network = Dnn(shape, feat_dim=DIM, num_outputs=STATES, seed=3).requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.copy_(2 * torch.randn(parameter.shape, generator=generator))
    return network


def adaptation_of(network: Dnn, kind: Amplitude = Amplitude.exp, **more: object) -> Adaptation:
    sites = choose_sites(network, network.adaptation_sites, [])
    settings = {"lr": 0.8, "num_steps": 3, **more}
    return Adaptation(network=network, sites=sites, kind=kind, **settings)  # type: ignore[arg-type]


def frames_of(seed: int, num_frames: int = 20) -> Frames:
    generator = torch.Generator().manual_seed(seed)
    windows_NWF = torch.randn(num_frames, 1, DIM, generator=generator, dtype=torch.float64)
    return Frames(windows_NWF, torch.randint(STATES, (num_frames,), generator=generator))


def moved(start: Start, *, by: float = 0.1) -> Start:
    """Another start, at which nothing is zero."""
    generator = torch.Generator().manual_seed(1)
    for value in start.parameters():
        value.data.add_(by * torch.randn(value.shape, generator=generator, dtype=value.dtype))
    return start


@pytest.mark.parametrize("kind", [Amplitude.exp, Amplitude.sigmoid2])
@pytest.mark.parametrize("speeds", [Speeds.layer, Speeds.unit])
def test_the_gradient_goes_through_all_steps(kind: Amplitude, speeds: Speeds) -> None:
    """Second order, by central differences in double precision."""
    adaptation = adaptation_of(network_of().double(), kind)
    start = moved(Start.plain(adaptation.network, adaptation.sites, kind, speeds))
    episode = Episode(frames_of(1), frames_of(2))
    found = torch.autograd.grad(adaptation.loss_after(start, episode), start.parameters())
    step = 1e-5
    for value, gradient in zip(start.parameters(), found, strict=True):
        for place in range(value.numel()):
            losses = []
            for sign in (1, -1):
                value.data.view(-1)[place] += sign * step
                losses.append(adaptation.loss_after(start, episode).item())
                value.data.view(-1)[place] -= sign * step
            expected = (losses[0] - losses[1]) / (2 * step)
            assert gradient.reshape(-1)[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_the_first_order_is_the_slope_where_the_steps_have_led() -> None:
    """What it should be, told without it: dL/dr0 = dL/dr at the end, dL/dlog speed = -lr speed sum of slope * that."""
    exact = adaptation_of(network_of().double(), num_steps=1)
    start = moved(Start.plain(exact.network, exact.sites, exact.kind, Speeds.layer))
    episode, adaptation = Episode(frames_of(1), frames_of(2)), replace(exact, order=Order.first)
    found = torch.autograd.grad(adaptation.loss_after(start, episode), start.parameters())
    slopes = torch.autograd.grad(adaptation.loss(start.r, episode.adapt), list(start.r.values()))
    end = {name: r.detach().requires_grad_() for name, r in adaptation.adapted(start, episode.adapt).items()}
    at_end = torch.autograd.grad(adaptation.loss(end, episode.test), list(end.values()))
    speeds = [0.8 * speed.detach().exp() for speed in start.log_speeds.values()]
    by_speed = [-speed * (slope * own).sum() for speed, slope, own in zip(speeds, slopes, at_end, strict=True)]
    for one, other in zip(found, [*at_end, *by_speed], strict=True):
        torch.testing.assert_close(one, other)
    second = torch.autograd.grad(exact.loss_after(start, episode), start.parameters())
    assert exact.loss_after(start, episode).item() == adaptation.loss_after(start, episode).item()
    assert not torch.allclose(found[0], second[0], rtol=1e-2)


def test_nothing_of_the_network_changes_and_fixed_speeds_are_not_learnt() -> None:
    network = network_of()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    adaptation = adaptation_of(network)
    start = Start.plain(network, adaptation.sites, adaptation.kind, Speeds.fixed)
    assert len(start.parameters()) == len(adaptation.sites)
    speech = [toy_speaker(seed, mean=0.5) for seed in range(3)]
    learning = StartLearning(adaptation=adaptation, config=MetalearnConfig(num_epochs=1, speeds=Speeds.fixed))
    kept, _ = learning.run(speech[:2], speech[2:])
    assert all(not speed.any() for speed in kept.log_speeds.values())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


# Speakers of a toy world say what the network hears with scales of theirs, which are `mean` apart from the identity.


def toy_frames(seed: int, *, mean: float, num_utterances: int = 8) -> tuple[list[np.ndarray], list[np.ndarray]]:
    generator = torch.Generator().manual_seed(seed)
    adaptation = adaptation_of(network_of())
    signs = torch.randn(2, UNITS, generator=torch.Generator().manual_seed(9)).sign()
    r = {
        site.name: mean * signs[place] + 0.1 * torch.randn(UNITS, generator=generator)
        for place, site in enumerate(adaptation.sites)
    }
    adapter, feats, states = LhucAdapter(r), [], []
    for _ in range(num_utterances):
        x_NWF = torch.randn(30, 1, DIM, generator=generator)
        with adapter.attached(adaptation.network), torch.no_grad():
            probs_NV = adaptation.network.forward_windows(x_NWF).exp()
        feats.append(x_NWF[:, 0].numpy())
        states.append(torch.multinomial(probs_NV, 1, generator=generator)[:, 0].numpy().astype(np.int32))
    return feats, states


def toy_speaker(seed: int, *, mean: float) -> SpeakerSpeech:
    return SpeakerSpeech(*toy_frames(seed, mean=mean), context=0)


TOY = MetalearnConfig(adapt_seconds=0.6, test_seconds=1.2, num_epochs=12, outer_lr=0.05)


@pytest.fixture(scope="module")
def learnt() -> tuple[Start, MetalearnReport]:
    learning = StartLearning(adaptation=adaptation_of(network_of()), config=TOY)
    speakers = [toy_speaker(seed, mean=0.6) for seed in range(16)]
    return learning.run(speakers, [toy_speaker(seed, mean=0.6) for seed in range(100, 106)])


def prior_from(start: Start) -> ScalePrior:
    return ScalePrior(
        base_fingerprint="f",
        amplitude=Amplitude.exp,
        mean={name: r.detach() for name, r in start.r.items()},
        variance={name: torch.ones_like(r) for name, r in start.r.items()},
        speeds={name: speed.detach().exp() for name, speed in start.log_speeds.items()},
        layouts={site.name: site.layout.letters for site in adaptation_of(network_of()).sites},
    )


STEPS = AdaptConfig(lr=0.8, num_epochs=3, batch_size=10_000)
LEARNT = replace(STEPS, prior_from="given", lr_by_prior=True)


def by_the_update(config: AdaptConfig, prior: ScalePrior | None, speaker: SpeakerFrames) -> dict[str, Tensor]:
    """r as lhuc-adapt learns it."""
    network = network_of()
    adapter = start_at_mean(LhucAdapter.identity(network, adaptation_of(network).sites), prior)
    (report,) = adapt_group(network, [adapter], [speaker], config, estimator=Estimator(config, prior, 0))
    assert isinstance(report, UpdateReport)
    return {name: r.detach() for name, r in adapter.r.items()}


def speaker_frames(parts: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]) -> tuple[SpeakerFrames, Frames]:
    feats, states = parts
    targets = torch.from_numpy(np.concatenate(states).astype(np.int64))
    frames = SplicedFrames(feats, context=0)
    return SpeakerFrames(frames, targets), Frames(frames.windows(torch.arange(len(targets))), targets)


def test_the_update_takes_the_steps_that_were_learnt_for(learnt: tuple[Start, MetalearnReport]) -> None:
    start, _ = learnt
    speaker, frames = speaker_frames(toy_frames(200, mean=0.6))
    expected = adaptation_of(network_of()).adapted(start, frames)
    for name, r in by_the_update(LEARNT, prior_from(start), speaker).items():
        torch.testing.assert_close(r, expected[name].detach(), rtol=1e-4, atol=1e-5)


def test_new_speakers_come_farther_in_as_many_steps(learnt: tuple[Start, MetalearnReport]) -> None:
    start, report = learnt
    assert report.best > 0 and report.losses[report.best] < report.losses[0] < report.unadapted
    adaptation, losses = adaptation_of(network_of()), {"plain": 0.0, "learnt": 0.0}
    for seed in range(200, 206):
        feats, states = toy_frames(seed, mean=0.6)
        speaker, _ = speaker_frames((feats[:2], states[:2]))
        _, test = speaker_frames((feats[2:], states[2:]))
        for name, config, prior in (("plain", STEPS, None), ("learnt", LEARNT, prior_from(start))):
            losses[name] += adaptation.loss(by_the_update(config, prior, speaker), test).item() / 6
    assert losses["learnt"] < losses["plain"] - 0.05


def test_a_start_that_helps_nobody_is_not_kept(tmp_path: Path) -> None:
    """No epoch, or none that held-out speakers gain by: the update does bit for bit what it does without a file."""
    speakers = [toy_speaker(seed, mean=0.6) for seed in range(4)]
    strangers = [toy_speaker(seed, mean=-0.9) for seed in range(100, 104)]
    speaker, _ = speaker_frames(toy_frames(200, mean=0.6))
    plain = by_the_update(STEPS, None, speaker)
    for config in (replace(TOY, num_epochs=0), replace(TOY, num_epochs=2, outer_lr=3.0)):
        learning = StartLearning(adaptation=adaptation_of(network_of()), config=config)
        start, report = learning.run(speakers, strangers)
        assert report.best == 0
        found = by_the_update(LEARNT, prior_from(start), speaker)
        assert all(torch.equal(r, plain[name]) for name, r in found.items())


def test_the_same_seed_gives_the_same_start() -> None:
    speakers = [toy_speaker(seed, mean=0.6) for seed in range(5)]
    learning = StartLearning(adaptation=adaptation_of(network_of()), config=replace(TOY, num_epochs=2))
    (one, told), (other, again) = (learning.run(speakers[:4], speakers[4:]) for _ in range(2))
    assert told == again
    assert all(torch.equal(r, other.r[name]) for name, r in one.r.items())


def test_speeds_come_back_from_the_file_and_are_wanted_there(
    learnt: tuple[Start, MetalearnReport], tmp_path: Path
) -> None:
    prior, path = prior_from(learnt[0]), tmp_path / "start.safetensors"
    save_prior(prior, path)
    again = load_prior(path, fingerprint="f")
    assert again.sha256 == prior.sha256 != replace(prior, speeds={}).sha256
    assert all(torch.equal(speed, again.speeds[name]) for name, speed in prior.speeds.items())
    config = AdaptConfig(prior_from=str(path), lr_by_prior=True)
    sites = adaptation_of(network_of()).sites
    assert prior_of(config, sites, Amplitude.exp, fingerprint="f") is not None
    with pytest.raises(ProfileError, match="was learnt for model f"):
        prior_of(config, sites, Amplitude.exp, fingerprint="g")
    save_prior(replace(prior, speeds={}), path)
    with pytest.raises(ProfileError, match=r"has no speeds of .*; lhuc-metalearn learns them"):
        prior_of(config, sites, Amplitude.exp, fingerprint="f")
    with pytest.raises(ProfileError, match="speeds must be 0 or more"):
        replace(prior, speeds={name: -speed for name, speed in prior.speeds.items()})


def test_no_utterance_of_an_episode_is_adapted_and_judged_on() -> None:
    feats = [np.full((10, 1), number, dtype=np.float32) for number in range(5)]
    speech = SpeakerSpeech(feats, [np.zeros(10, dtype=np.int32)] * 5, context=0)
    for seed in range(20):
        episode = speech.episode(torch.Generator().manual_seed(seed), num_adapt=15, num_test=1000)
        adapt, test = (set(part.windows_NWF.flatten().tolist()) for part in (episode.adapt, episode.test))
        assert not adapt & test and len(adapt) == 2 and len(test) == 3
        assert (len(episode.adapt.states_N), len(episode.test.states_N)) == (15, 30)
    with pytest.raises(SpeakerError, match="at least two utterances of a speaker, got 1"):
        SpeakerSpeech(feats[:1], [np.zeros(10, dtype=np.int32)], context=0)


def test_what_cannot_be_meant() -> None:
    for wrong in ("lr", "adapt_seconds", "test_seconds", "outer_lr", "num_steps", "speakers_per_step"):
        with pytest.raises(ConfigError, match=rf"metalearn\.{wrong} must be"):
            MetalearnConfig(**{wrong: 0})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="0 speakers to learn from and 1 to judge"):
        StartLearning(adaptation=adaptation_of(network_of()), config=TOY).run([], [toy_speaker(0, mean=0.5)])
    for more, told in (
        ({}, "give adapt.prior_from"),
        ({"prior_from": "x", "lr_by_variance": True}, "without adapt.lr_by_variance"),
        ({"prior_from": "x", "tied": True}, "without adapt.tied"),
    ):
        with pytest.raises(ConfigError, match=told):
            AdaptConfig(lr_by_prior=True, **more)  # type: ignore[arg-type]
