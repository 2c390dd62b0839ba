"""Networks that work on whole utterances or give fewer outputs than frames: learnt from utterances, alone and mixed."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import nll_loss

from helpers.toy_whole import (
    DIM,
    KINDS,
    assert_same,
    network_of,
    sites_of,
    speaker_of,
)
from lhuc_asr.adaptation.objectives.utterances import Piece, SpeakerUtterances, cut
from lhuc_asr.adaptation.update.config import AdaptConfig, StepSchedule
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.errors import SiteError, SpeakerError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.training.precision import Precision


def minibatches(order: Sequence[int], sizes: Sequence[int], batch_size: int) -> list[list[int]]:
    """The definition: go on filling while it fits."""
    batches: list[list[int]] = []
    for number in order:
        if batches and sum(sizes[other] for other in batches[-1]) + sizes[number] <= batch_size:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def descend_plainly(
    network: AcousticNetwork, adapter: LhucAdapter, speaker: SpeakerUtterances, config: AdaptConfig
) -> list[float]:
    """One speaker, one utterance after the other without padding, hooks and autograd: objective before and after."""

    def loss(numbers: Sequence[int]) -> Tensor:
        pieces = [speaker.pieces[number] for number in numbers]
        log_probs = [network(piece.feats[None])[0] for piece in pieces]
        return nll_loss(torch.cat(log_probs), torch.cat([piece.targets for piece in pieces]))

    everything = range(len(speaker.pieces))
    sizes = [len(piece.targets) for piece in speaker.pieces]
    generator = torch.Generator().manual_seed(config.seed)
    with adapter.attached(network, prove=False), torch.enable_grad():
        objective = [loss(everything).item()]
        for epoch in range(config.num_epochs):
            order = torch.randperm(len(sizes), generator=generator).tolist()
            batches = minibatches(order, sizes, config.batch_size)
            for step, batch in enumerate(batches):
                gradients = torch.autograd.grad(loss(batch), adapter.parameters())
                for r, gradient in zip(adapter.parameters(), gradients, strict=True):
                    r.data -= config.lr_after(epoch + step / len(batches)) * gradient
        return [*objective, loss(everything).item()]


@pytest.mark.parametrize("kind", KINDS)
@given(
    lengths=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4), min_size=1, max_size=4),
    batch_size=st.integers(1, 40),
    amplitude=st.sampled_from(Amplitude),
    layers=st.sampled_from([(), (1,), (2,)]),
    schedule=st.sampled_from(StepSchedule),
    seed=st.integers(0, 9),
)
@settings(max_examples=5)
def test_everybody_learns_in_company_what_is_learnt_alone(
    kind: str,
    lengths: list[list[int]],
    batch_size: int,
    amplitude: Amplitude,
    layers: tuple[int, ...],
    schedule: StepSchedule,
    seed: int,
) -> None:
    network = network_of(kind)
    config = AdaptConfig(lr=0.1, schedule=schedule, batch_size=batch_size, seed=seed, num_epochs=2)
    speakers = [speaker_of(network, own, place) for place, own in enumerate(lengths)]
    sites = sites_of(network, layers)
    together, alone, plain = ([LhucAdapter.identity(network, sites, amplitude) for _ in speakers] for _ in range(3))
    reports = adapt_group(network, together, speakers, config)
    for place, speaker in enumerate(speakers):
        (by_itself,) = adapt_group(network, [alone[place]], [speaker], config)
        before, after = descend_plainly(network, plain[place], speaker, config)
        assert_same(together[place], alone[place])
        assert_same(together[place], plain[place])
        for report in (reports[place], by_itself):
            assert isinstance(report, UpdateReport)
            assert report.objective_before == pytest.approx(before, abs=1e-5)
            assert report.objective_after == pytest.approx(after, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_objective_falls_and_not_one_bit_of_the_network_changes(kind: str) -> None:
    network = network_of(kind).requires_grad_(True)  # even where a user forgot to freeze
    before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    speakers = [speaker_of(network, (30, 12, 20)), speaker_of(network, (9,), seed=1)]
    adapters = [LhucAdapter.identity(network, sites_of(network)) for _ in speakers]
    config = AdaptConfig(lr=0.1, batch_size=16)
    for report in adapt_group(network, adapters, speakers, config):
        assert isinstance(report, UpdateReport)
        assert report.objective_after < report.objective_before
        assert len(report.per_epoch) == 3
        assert report.seconds > 0
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(bool(r.detach().any()) for adapter in adapters for r in adapter.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_learns_nearly_the_same(kind: str) -> None:
    network, learnt = network_of(kind), []
    for precision in (Precision.float32, Precision.bfloat16):
        adapter = LhucAdapter.identity(network, sites_of(network))
        speaker = speaker_of(network, (30, 40, 20))
        config = AdaptConfig(lr=0.5, batch_size=90, num_epochs=6, precision=precision)
        (report,) = adapt_group(network, [adapter], [speaker], config)
        assert isinstance(report, UpdateReport), report
        learnt.append(torch.cat([r.detach() for r in adapter.parameters()]))
    exact, halved = learnt
    assert not torch.equal(exact, halved)
    assert (exact - halved).norm() < 0.1 * exact.norm()


def test_one_who_fails_stops_nobody() -> None:
    network = network_of("blstm")
    broken = SpeakerUtterances((Piece(torch.full((9, DIM), torch.nan), torch.zeros(9, dtype=torch.int64)),))
    speakers = [speaker_of(network, (20, 9)), broken, SpeakerUtterances(())]
    adapters = [LhucAdapter.identity(network, sites_of(network)) for _ in speakers]
    fine, not_finite, nothing = adapt_group(network, adapters, speakers, AdaptConfig(lr=0.1))
    assert isinstance(fine, UpdateReport)
    assert isinstance(not_finite, SpeakerError)
    assert "not finite before the first step" in str(not_finite)
    assert str(nothing) == "cannot adapt on 0 frames with 0 targets"


@pytest.mark.parametrize("kind", ["tdnn", "blstm"])
def test_layouts_that_tell_no_utterances_apart_do_for_one_speaker_and_are_told_for_two(kind: str) -> None:
    network = network_of(kind)
    by_kind = choose_sites(network, network.adaptation_sites, [])
    speakers = [speaker_of(network, (20, 9), seed) for seed in range(2)]
    alone, usual = (LhucAdapter.identity(network, sites) for sites in (by_kind, sites_of(network)))
    for adapter in (alone, usual):
        adapt_group(network, [adapter], speakers[:1], AdaptConfig(lr=0.1))
    assert_same(alone, usual)
    adapters = [LhucAdapter.identity(network, by_kind) for _ in speakers]
    with pytest.raises(SiteError, match="does not tell the utterances of several speakers apart"):
        adapt_group(network, adapters, speakers, AdaptConfig(lr=0.1))


@given(
    subsampling=st.sampled_from([1, 3]),
    length=st.integers(1, 80),
    most_frames=st.integers(3, 40),
)
@settings(max_examples=40)
def test_pieces_give_the_outputs_of_the_whole_utterance(subsampling: int, length: int, most_frames: int) -> None:
    network = network_of("tdnn" if subsampling == 1 else "tdnnf_by_3")
    (whole,) = speaker_of(network, (length,)).pieces
    pieces = list(cut(whole, network.context, subsampling, most_frames=most_frames))
    assert torch.equal(torch.cat([piece.targets for piece in pieces]), whole.targets)
    assert all(len(piece.targets) * subsampling < most_frames + subsampling for piece in pieces)
    found = [network(piece.feats[None])[0, piece.skip :][: len(piece.targets)] for piece in pieces]
    torch.testing.assert_close(torch.cat(found), network(whole.feats[None])[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["tdnn", "tdnnf_by_3"])
def test_a_long_utterance_is_learnt_in_pieces_as_in_whole(kind: str) -> None:
    network = network_of(kind)
    (whole,) = speaker_of(network, (70,)).pieces
    pieces = cut(whole, network.context, network.subsampling, most_frames=20)
    adapters = [LhucAdapter.identity(network, sites_of(network)) for _ in range(2)]
    for adapter, own in zip(adapters, ((whole,), tuple(pieces)), strict=True):
        adapt_group(network, [adapter], [SpeakerUtterances(own)], AdaptConfig(lr=0.1, batch_size=70))
    assert_same(*adapters)
