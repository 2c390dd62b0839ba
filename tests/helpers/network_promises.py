"""What every acoustic network promises to decoding and adaptation, as one function each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt, adapt_group
from lhuc_asr.errors import ModelError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.bank import SpeakerBank
from lhuc_asr.lhuc.finding import choose_sites, find_sites
from lhuc_asr.lhuc.probe import prove_gradient, prove_sites_act
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.network import AcousticNetwork

DIM = 8
"""F of all networks in these tests."""


def speech(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, DIM, generator=generator) for length in lengths]


def padded(utterances: Sequence[torch.Tensor], value: float) -> tuple[torch.Tensor, torch.Tensor]:
    lens = torch.tensor([len(feats) for feats in utterances])
    batch = torch.full((len(utterances), int(lens.max()), DIM), value)
    for row, feats in enumerate(utterances):
        batch[row, : len(feats)] = feats
    return batch, lens


def assert_padding_does_not_matter(network: AcousticNetwork, lengths: Sequence[int]) -> None:
    """Each utterance in a batch gets what it gets alone, and one output for every so-manieth frame."""
    utterances = speech(*lengths)
    for value in (1e6, float("nan")):
        batch, lens = padded(utterances, value)
        together = network(batch, lens)
        assert together.shape == (len(lens), int(network.output_lens(lens).max()), network.num_outputs)
        for row, (feats, length) in enumerate(zip(utterances, network.output_lens(lens).tolist(), strict=True)):
            alone = network(feats[None])[0]
            assert len(alone) == length
            torch.testing.assert_close(together[row, :length], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.exp().sum(-1), torch.ones(length))


def assert_padding_does_not_matter_in_training(network: AcousticNetwork) -> None:
    """The same for outputs, gradients and running statistics of a network in training mode, however much there is."""
    outcomes = []
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for value, num_more in ((0.0, 0), (1e6, 0), (1e6, 7)):
        network.load_state_dict(start)
        network.train().zero_grad()
        batch, lens = padded(speech(9, 4, 1), value)
        batch = torch.cat([batch, torch.full((3, num_more, DIM), value)], dim=1)
        log_probs = network(batch, lens)
        real = [log_probs[row, :length] for row, length in enumerate(network.output_lens(lens).tolist())]
        torch.cat(real)[:, 0].mean().backward()
        gradients = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
        outcomes.append([*real, *gradients, *(buffer.clone() for buffer in network.buffers())])
    for other in outcomes[1:]:
        for first, second in zip(outcomes[0], other, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def assert_no_frames_give_no_frames(network: AcousticNetwork) -> None:
    assert network(torch.zeros(2, 0, DIM)).shape == (2, 0, network.num_outputs)


def assert_windows_equal_whole_utterances(network: AcousticNetwork, lengths: Sequence[int]) -> None:
    utterances = speech(*lengths, seed=1)
    frames = SplicedFrames([feats.numpy().astype(np.float32) for feats in utterances], network.context)
    windows = network.forward_windows(frames.windows(torch.arange(frames.num_frames)))
    of_utterances = torch.split(windows, list(lengths))
    for feats, own in zip(utterances, of_utterances, strict=True):
        torch.testing.assert_close(own[:: network.subsampling], network(feats[None])[0], rtol=1e-4, atol=1e-5)


def assert_can_be_divided_at(network: AcousticNetwork, names: Sequence[str]) -> None:
    windows = torch.randn(5, 2 * network.context + 1, DIM)
    assert network.split_points == tuple(names)
    for name in names:
        again = network.log_probs_from(name, network.output_of(name, windows))
        torch.testing.assert_close(again, network.forward_windows(windows), rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="'output'"):
        network.output_of("output", windows)


def assert_sites_act(network: AcousticNetwork, units: Sequence[int]) -> None:
    """The natural sites have so many units, act in every mode, take gradients, and fresh scales change nothing."""
    network.eval().requires_grad_(False)
    example = padded(speech(40, 33, 17), 0.0)
    sites = choose_sites(network, network.adaptation_sites, [])
    assert [site.num_units for site in sites] == list(units)
    seen = find_sites(network, list(network.adaptation_sites), example=example)
    assert [(site.name, site.units) for site in seen] == [(site.name, site.units) for site in sites]
    assert all(site.layout.tells_utterances_apart for site in seen)
    for chosen in (sites, seen):
        prove_sites_act(network, chosen, example)
        prove_gradient(network, chosen, example)
    prove_sites_act(network, sites, torch.randn(1, 16, DIM, generator=torch.Generator().manual_seed(1)))
    plain = network(*example)
    with LhucAdapter.identity(network, sites).attached(network):
        assert torch.equal(network(*example), plain)
    _assert_mixed_batch_equals_one_speaker_at_a_time(network, seen)


def _assert_mixed_batch_equals_one_speaker_at_a_time(network: AcousticNetwork, sites: Sequence[Site]) -> None:
    feats = torch.stack(speech(20, 20, seed=3))
    generator = torch.Generator().manual_seed(5)
    layouts = {site.name: site.layout for site in sites}
    adapters = [
        LhucAdapter({site.name: torch.randn(site.units, generator=generator) for site in sites}, layouts=layouts)
        for _ in feats
    ]
    bank = SpeakerBank(sites)
    for name, adapter in zip(("anna", "ben"), adapters, strict=True):
        bank.put(name, adapter)
    with bank.attached(network), bank.speakers(["anna", "ben"]):
        mixed = network(feats)
    assert not torch.allclose(mixed, network(feats), atol=1e-3)
    for row, adapter in enumerate(adapters):
        with adapter.attached(network):
            torch.testing.assert_close(mixed[row], network(feats[row : row + 1])[0], rtol=1e-4, atol=1e-5)


def assert_speakers_learn(network: AcousticNetwork) -> None:
    """From windows, side by side what each learns alone, whatever is the lowest site; the objective falls."""
    network.eval().requires_grad_(False)
    speakers = [_speaker_with_targets(seed, network) for seed in range(2)]
    config = AdaptConfig(batch_size=8)
    for layers in ([], [1], [2]):
        sites = choose_sites(network, network.adaptation_sites, layers)
        together, alone = ([LhucAdapter.identity(network, sites) for _ in speakers] for _ in range(2))
        reports = adapt_group(network, together, speakers, config)
        for report, adapter, own, speaker in zip(reports, together, alone, speakers, strict=True):
            assert isinstance(report, UpdateReport) and report.objective_after < report.objective_before
            adapt(network, own, speaker.frames, speaker.targets, config)
            for name, r in adapter.r.items():
                torch.testing.assert_close(r, own.r[name], rtol=0, atol=1e-5)


def _speaker_with_targets(seed: int, network: AcousticNetwork) -> SpeakerFrames:
    feats = [matrix.numpy() for matrix in speech(20, 7 + 5 * seed, seed=seed)]
    frames = SplicedFrames(feats, network.context)
    generator = torch.Generator().manual_seed(seed)
    return SpeakerFrames(frames, torch.randint(network.num_outputs, (frames.num_frames,), generator=generator))


def assert_seed_decides(make: Callable[[int], AcousticNetwork]) -> None:
    before = torch.get_rng_state()
    first, second, other = (make(seed).state_dict() for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), before), "drawing weights leaves other random numbers as they were"
    assert all(torch.equal(first[name], second[name]) for name in first)
    drawn = [name for name in first if name.endswith("weight") and "norm" not in name]
    assert drawn and not any(torch.equal(first[name], other[name]) for name in drawn)


def assert_chunks_equal_the_whole(network: AcousticNetwork, chunks: Sequence[int]) -> None:
    """Two utterances side by side, in chunks of so many frames."""
    feats = torch.stack(speech(sum(chunks), sum(chunks), seed=2))
    assert network.can_stream
    stream = network.stream()
    parts = [stream.accept(chunk) for chunk in feats.split(list(chunks), dim=1)]
    torch.testing.assert_close(torch.cat([*parts, stream.finish()], dim=1), network(feats), rtol=1e-4, atol=1e-5)


def assert_signals_and_gradients_pass(network: AcousticNetwork, weights: Sequence[str]) -> None:
    """Frames are told apart at the output, and no layer starves."""
    network.train()
    log_probs = network(torch.randn(8, 64, DIM, generator=torch.Generator().manual_seed(0)))
    assert log_probs.flatten(0, 1).std(dim=0).mean() > 0.02
    log_probs[..., 0].mean().backward()
    norms = [float(network.get_parameter(name).grad.norm()) for name in weights]  # type: ignore[union-attr]
    assert min(norms) > 0.02 * max(norms), norms
