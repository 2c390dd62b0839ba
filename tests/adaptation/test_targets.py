"""Soft targets and weights: what every way to compute the objective makes of them is what plain torch makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.toy_whole import network_of as whole_network_of
from helpers.toy_whole import sites_of
from helpers.toy_whole import speaker_of as talker_of
from helpers.toy_windows import NUM_STATES, NotPlain, Undivided, adapters_of, assert_same, network_of, speaker_of
from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.objectives.utterances import Piece, SpeakerUtterances
from lhuc_asr.adaptation.targets.doubt import Doubt
from lhuc_asr.adaptation.targets.frame_targets import (
    EntropyTargets,
    SoftTargets,
    Targets,
    cross_entropies,
    differentiated_by_logits,
    joined,
)
from lhuc_asr.adaptation.targets.supervision import SpeakerTargets
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.decoding.lattices.posteriors import FramePosteriors
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.models.dnn import Dnn


def soft(num_frames: int, seed: int = 0, *, weigh: bool = True) -> SoftTargets:
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(num_frames, 3, generator=generator)
    shares /= shares.sum(1, keepdim=True)
    if weigh:
        shares *= torch.rand(num_frames, 1, generator=generator)
    states = torch.stack([torch.randperm(NUM_STATES, generator=generator)[:3] for _ in range(num_frames)])
    return SoftTargets(states, shares)


def dense(targets: SoftTargets) -> Tensor:
    return torch.zeros(len(targets), NUM_STATES).scatter_add_(1, targets.states, targets.shares)


def test_cross_entropy_and_its_slope_are_those_of_plain_torch() -> None:
    logits, targets = torch.randn(9, NUM_STATES, requires_grad=True), soft(9)
    wanted = torch.nn.functional.cross_entropy(logits, dense(targets), reduction="none")
    (slope,) = torch.autograd.grad(wanted.sum(), logits)
    log_probs = torch.log_softmax(logits.detach(), 1)
    torch.testing.assert_close(cross_entropies(log_probs, targets), wanted.detach())
    losses, g = differentiated_by_logits(log_probs, targets)
    torch.testing.assert_close(losses, wanted.detach())
    torch.testing.assert_close(g, slope)


def test_entropy_and_its_slope_are_those_of_plain_torch() -> None:
    logits, weights, anchor = torch.randn(9, NUM_STATES, requires_grad=True), torch.rand(9), soft(9)
    targets = joined([EntropyTargets(weights, anchor)[:4], EntropyTargets(weights, anchor)[4:]])
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    wanted = weights * entropy + torch.nn.functional.cross_entropy(logits, dense(anchor), reduction="none")
    (slope,) = torch.autograd.grad(wanted.sum(), logits)
    losses, g = differentiated_by_logits(torch.log_softmax(logits.detach(), 1), targets)
    torch.testing.assert_close(losses, wanted.detach())
    torch.testing.assert_close(g, slope)


@pytest.mark.parametrize(("order", "confusion"), [(1.0, 0.7), (1.5, 0.0), (0.5, 0.3), (2.0, 1.0)])
def test_doubt_and_its_slope_are_those_of_the_definitions(order: float, confusion: float) -> None:
    logits, weights = torch.randn(9, NUM_STATES, dtype=torch.float64, requires_grad=True), torch.rand(9).double()
    p = logits.softmax(1)
    renyi = (p**order).sum(1).log() / (1 - order) if order != 1 else -(p * p.log()).sum(1)
    pairs = p[:, :, None] * p[:, None, :]  # two draws; the diagonal has those that agree
    differ = pairs.sum((1, 2)) - pairs.diagonal(dim1=1, dim2=2).sum(1)
    wanted = weights * ((1 - confusion) * renyi + confusion * differ)
    (slope,) = torch.autograd.grad(wanted.sum(), logits)
    nothing = SoftTargets(torch.zeros(9, 1, dtype=torch.int64), torch.zeros(9, 1, dtype=torch.float64))
    targets = joined([EntropyTargets(weights, nothing, Doubt(order, confusion))[at] for at in (slice(4), slice(4, 9))])
    log_probs = torch.log_softmax(logits.detach(), 1)
    torch.testing.assert_close(cross_entropies(log_probs, targets), wanted.detach())
    losses, g = differentiated_by_logits(log_probs, targets)
    torch.testing.assert_close(losses, wanted.detach())
    torch.testing.assert_close(g, slope)


def test_hard_targets_stay_states_and_mix_with_soft_ones() -> None:
    hard = torch.tensor([2, 0])
    assert isinstance(joined([hard, hard]), Tensor)
    both = joined([hard, soft(3), hard])
    assert isinstance(both, SoftTargets)
    log_probs = torch.log_softmax(torch.randn(7, NUM_STATES), 1)
    apart = zip(log_probs.split([2, 3, 2]), (hard, soft(3), hard), strict=True)
    assert torch.equal(cross_entropies(log_probs, both), torch.cat([cross_entropies(*one) for one in apart]))
    simple = SoftTargets.of(hard, 1).simplified()
    assert isinstance(simple, Tensor) and torch.equal(simple, hard)


def descend_softly(network: Dnn, adapter: LhucAdapter, speaker: SpeakerFrames, config: AdaptConfig) -> float:
    """The definition, with dense targets and autograd; gives the objective at the end."""
    assert isinstance(speaker.targets, SoftTargets)
    windows, wanted = speaker.windows(torch.arange(speaker.num_frames)), dense(speaker.targets)
    generator = torch.Generator().manual_seed(config.seed)

    def loss(which: Tensor) -> Tensor:
        return -(network.forward_windows(windows[which]) * wanted[which]).sum(1).mean()

    with adapter.attached(network), torch.enable_grad():
        for _ in range(config.num_epochs):
            for batch in torch.split(torch.randperm(len(windows), generator=generator), config.batch_size):
                gradients = torch.autograd.grad(loss(batch), adapter.parameters())
                for r, gradient in zip(adapter.parameters(), gradients, strict=True):
                    r.data -= config.lr * gradient
        return loss(torch.arange(len(windows))).item()


@pytest.mark.parametrize("kind", [Dnn, NotPlain, Undivided])
def test_soft_frames_are_learnt_by_the_definition_in_company_and_alone(kind: type[Dnn]) -> None:
    network, config = network_of(kind), AdaptConfig(batch_size=16)
    speakers = [SpeakerFrames(speaker_of(place, size).frames, soft(size, place)) for place, size in enumerate((40, 9))]
    speakers.append(SpeakerFrames(speaker_of(7, 30).frames, soft(12, 7), torch.arange(5, 17)))
    together, alone, plain = (adapters_of(network, 3) for _ in range(3))
    reports = adapt_group(network, together, speakers, config)
    for place, speaker in enumerate(speakers):
        adapt_group(network, [alone[place]], [speaker], config)
        after = descend_softly(network, plain[place], speaker, config)
        assert_same(together[place], alone[place], rtol=1e-5)
        assert_same(together[place], plain[place], rtol=1e-5)
        report = reports[place]
        assert isinstance(report, UpdateReport) and report.objective_after == pytest.approx(after, abs=1e-5)


@pytest.mark.parametrize("kind", ["tdnn_by_3", "blstm"])
def test_utterances_with_soft_targets_are_learnt_in_company_and_alone(kind: str) -> None:
    network, config = whole_network_of(kind), AdaptConfig(lr=0.1, batch_size=16, num_epochs=2)

    def softly(speaker: SpeakerUtterances, seed: int) -> SpeakerUtterances:
        return SpeakerUtterances(tuple(Piece(one.feats, soft(len(one.targets), seed)) for one in speaker.pieces))

    speakers = [softly(talker_of(network, lengths, place), place) for place, lengths in enumerate([(20, 9), (14,)])]
    sites = sites_of(network)
    together, alone = ([LhucAdapter.identity(network, sites) for _ in speakers] for _ in range(2))
    reports = adapt_group(network, together, speakers, config)
    for place, speaker in enumerate(speakers):
        (report,) = adapt_group(network, [alone[place]], [speaker], config)
        assert_same(together[place], alone[place], rtol=1e-5)
        assert isinstance(report, UpdateReport) and isinstance(reports[place], UpdateReport)
        outputs = [network(piece.feats[None], torch.tensor([len(piece.feats)]))[0] for piece in speaker.pieces]
        wanted = torch.cat([dense(piece.targets) for piece in speaker.pieces if isinstance(piece.targets, SoftTargets)])
        assert report.objective_before == pytest.approx(-(torch.cat(outputs) * wanted).sum(1).mean().item(), abs=1e-5)


def speech(weights: dict[str, list[float]], **more: object) -> SpeakerTargets:
    pdfs = {"u1": np.array([3, 1, 1], np.int32), "u2": np.array([0, 2], np.int32)}
    own = {name: np.array(values, np.float32) for name, values in weights.items()}
    return SpeakerTargets(pdfs, 5, 5, weights=own, **more)  # type: ignore[arg-type]


def test_weights_of_one_are_no_weights_bit_for_bit() -> None:
    plain = speech({}).tensors(whole=True)
    weighted = speech({"u1": [1, 1, 1], "u2": [1, 1]}).tensors(whole=True)
    for name, targets in plain.items():
        other = weighted[name]
        assert isinstance(targets, Tensor) and isinstance(other, Tensor)
        assert torch.equal(targets, other) and targets.dtype == torch.int64


@pytest.mark.parametrize("whole", [True, False])
def test_the_mean_over_rows_is_the_mean_by_weights(whole: bool) -> None:
    targets = speech({"u1": [0.5, 0, 1.0], "u2": [0, 0]}).tensors(whole=whole)
    assert list(targets) == ["u1"]
    assert len(targets["u1"]) == (3 if whole else 2)
    log_probs = torch.log_softmax(torch.arange(12.0).view(3, 4).sin(), 1)
    rows = log_probs if whole else log_probs[[0, 2]]
    wanted = -(0.5 * log_probs[0, 3] + log_probs[2, 1]) / 1.5
    torch.testing.assert_close(cross_entropies(rows, targets["u1"]).mean(), wanted)


def test_frames_below_a_threshold_are_as_if_they_had_not_been_said() -> None:
    kept: Targets = speech({"u1": [1, 0, 1]}).tensors(whole=False)["u1"]
    assert isinstance(kept, Tensor) and kept.tolist() == [3, 1]


def test_how_much_counts_is_told() -> None:
    assert speech({"u1": [0.5, 0, 1.0], "u2": [0, 0]}).kept() == {
        "num_frames": 5, "num_kept_frames": 2, "mean_weight": pytest.approx(0.3),
        "num_utterances": 2, "num_kept_utterances": 1,
    }  # fmt: skip
    assert speech({}).kept()["num_kept_frames"] == 5


def test_a_lattice_of_one_path_is_the_path() -> None:
    offsets, pdf = np.arange(4, dtype=np.int64), np.array([3, 1, 1], np.int32)
    path = FramePosteriors(6, offsets, pdf, np.ones(3, np.float32))
    targets = speech({}, posteriors={"u1": path}).tensors(whole=True)
    assert isinstance(targets["u1"], Tensor) and targets["u1"].tolist() == [3, 1, 1]
