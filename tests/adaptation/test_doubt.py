"""Doubt without targets: against derivations in numpy, finite differences, and the formulas of the papers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.toy_whole import network_of as whole_network_of
from helpers.toy_whole import sites_of
from helpers.toy_whole import speaker_of as talker_of
from helpers.toy_windows import NotPlain, adapters_of, assert_same, network_of, speaker_of
from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.objectives.utterances import Piece, SpeakerUtterances
from lhuc_asr.adaptation.targets.config import Supervision
from lhuc_asr.adaptation.targets.doubt import ConfusionOver, Doubt
from lhuc_asr.adaptation.targets.frame_targets import EntropyTargets, SoftTargets
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.models.dnn import Dnn

Array = NDArray[np.float64]
SUTA = Doubt(confusion=0.7, over_classes=True, temperature=2.5)
SGEM = Doubt(order=1.5, negatives=0.4, temperature=2.5)


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class Independent:
    """The objective in numpy; what no derivative goes through is taken from the logits that it is made with."""

    def __init__(self, doubt: Doubt, logits: Array, weights: Array) -> None:
        self.doubt, self.weights = doubt, weights
        p = softmax(logits / doubt.temperature)
        sure = weights * (1 + np.exp((p * np.log(p)).sum(axis=1)))
        self.sure = np.diag(len(sure) * sure / sure.sum())
        self.occur = (self.sure @ p).sum(axis=0) >= 1
        self.negative = softmax(logits) < doubt.negatives / logits.shape[1]

    def confusion(self, p: Array) -> float:
        """Jin et al. 2020: a matrix of states by states, each row of which is made to sum up to 1."""
        matrix = p.T @ self.sure @ p
        rows = matrix / matrix.sum(axis=1, keepdims=True)
        off = rows.sum(axis=1) - np.diag(rows)
        return float(off[self.occur].mean()) if self.occur.any() else 1.0

    def __call__(self, logits: Array) -> float:
        """Mean over the frames."""
        doubt, p = self.doubt, softmax(logits / self.doubt.temperature)
        order = doubt.order
        entropy = -(p * np.log(p)).sum(axis=1) if order == 1 else np.log((p**order).sum(axis=1)) / (1 - order)
        negatives = -np.log(1 - (p * self.negative).sum(axis=1))
        frames = (self.weights * ((1 - doubt.confusion) * entropy + negatives)).mean()
        return float(frames + doubt.confusion * self.weights.mean() * self.confusion(p))


def some(num_frames: int, num_states: int, *, seed: int = 0, scale: float = 2.0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return scale * rng.standard_normal((num_frames, num_states)), rng.uniform(0.2, 1, num_frames)


def torched(logits: Array, weights: Array) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(logits).log_softmax(1), torch.from_numpy(weights)


@pytest.mark.parametrize("doubt", [SUTA, SGEM, Doubt(confusion=1.0, over_classes=True), Doubt(negatives=0.9)])
def test_value_and_slope_are_those_of_an_independent_derivation(doubt: Doubt) -> None:
    logits, weights = some(12, 7)
    wanted, log_probs_and_weights = Independent(doubt, logits, weights), torched(logits, weights)
    assert doubt(*log_probs_and_weights).mean().item() == pytest.approx(wanted(logits), abs=1e-12)
    slope, step = doubt.by_logits(*log_probs_and_weights) / len(logits), 1e-6
    for place in np.ndindex(logits.shape):
        moved = [logits.copy(), logits.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        assert slope[place].item() == pytest.approx((wanted(moved[0]) - wanted(moved[1])) / (2 * step), abs=1e-8)


@given(st.integers(0, 99), st.sampled_from([SUTA, SGEM, Doubt(confusion=0.5), Doubt(order=2.0)]))
@settings(max_examples=25, deadline=None)
def test_the_slope_is_that_of_autograd(seed: int, doubt: Doubt) -> None:
    logits, weights = (torch.from_numpy(own) for own in some(9, 5, seed=seed))
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(doubt(logits.log_softmax(1), weights, (4, 5)).sum(), logits)
    torch.testing.assert_close(doubt.by_logits(logits.detach().log_softmax(1), weights, (4, 5)), slope)


def test_where_all_classes_occur_confusion_is_that_of_the_paper() -> None:
    logits, _ = some(200, 6)
    p = softmax(logits)
    sure = 1 + np.exp((p * np.log(p)).sum(axis=1))
    matrix = p.T @ np.diag(len(p) * sure / sure.sum()) @ p
    rows = matrix / matrix.sum(axis=1, keepdims=True)
    found = Doubt(confusion=1.0, over_classes=True)(*torched(logits, np.ones(200))).mean().item()
    assert found == pytest.approx((rows.sum() - np.trace(rows)) / 6)


def test_a_rare_state_counts_as_much_as_a_frequent_one() -> None:
    """90 sure frames of one state, 10 of another that is taken for a third in half of the cases."""
    p = np.array([[1.0, 0, 0]] * 90 + [[0, 0.5, 0.5]] * 10) + 1e-12
    log_probs, weights = torch.from_numpy(np.log(p)), torch.ones(100, dtype=torch.float64)
    by_frames = Doubt(confusion=1.0)(log_probs, weights).mean().item()
    by_classes = Doubt(confusion=1.0, over_classes=True)(log_probs, weights).mean().item()
    assert by_frames == pytest.approx(0.1 * 0.5) and by_classes == pytest.approx((0 + 0.5 + 0.5) / 3)


def test_frames_are_judged_with_those_of_their_part_alone() -> None:
    log_probs, weights = torched(*some(9, 5))
    apart = [SUTA(log_probs[own], weights[own]) for own in (slice(4), slice(4, 9))]
    torch.testing.assert_close(SUTA(log_probs, weights, (4, 5)), torch.cat(apart))
    assert not torch.allclose(SUTA(log_probs, weights), torch.cat(apart))


def test_negatives_are_pushed_down_and_no_more_than_the_unlikely_ones() -> None:
    p = torch.tensor([[0.9, 0.06, 0.03, 0.01]])
    slope = Doubt(negatives=0.2).by_logits(p.log(), torch.ones(1)) - Doubt().by_logits(p.log(), torch.ones(1))
    assert (slope[0] > 0).tolist() == [False, False, True, True]
    evenly = torch.full((1, 4), 0.25).log()
    assert torch.equal(Doubt(negatives=1.0)(evenly, torch.ones(1)), Doubt()(evenly, torch.ones(1)))


def unsure(num_frames: int, seed: int) -> EntropyTargets:
    generator = torch.Generator().manual_seed(seed)
    nothing = SoftTargets(torch.zeros(num_frames, 1, dtype=torch.int64), torch.zeros(num_frames, 1))
    return EntropyTargets(torch.rand(num_frames, generator=generator) + 0.5, nothing, SUTA)


@pytest.mark.parametrize("kind", [Dnn, NotPlain])
def test_speakers_learn_in_company_what_they_learn_alone(kind: type[Dnn]) -> None:
    network, config = network_of(kind), AdaptConfig(batch_size=16)
    speakers = [
        SpeakerFrames(speaker_of(place, size).frames, unsure(size, place)) for place, size in enumerate((40, 9))
    ]
    together, alone = (adapters_of(network, 2) for _ in range(2))
    adapt_group(network, together, speakers, config)
    for place, speaker in enumerate(speakers):
        adapt_group(network, [alone[place]], [speaker], config)
        assert_same(together[place], alone[place], rtol=1e-5)


def test_utterances_are_judged_one_by_one_in_company_and_alone() -> None:
    network, config = whole_network_of("blstm"), AdaptConfig(lr=0.1, batch_size=64, num_epochs=2)

    def own(lengths: tuple[int, ...], place: int) -> SpeakerUtterances:
        pieces = talker_of(network, list(lengths), place).pieces
        return SpeakerUtterances(tuple(Piece(one.feats, unsure(len(one.targets), place)) for one in pieces))

    speakers = [own((20, 9), 0), own((14,), 1)]
    together, alone = ([LhucAdapter.identity(network, sites_of(network)) for _ in speakers] for _ in range(2))
    adapt_group(network, together, speakers, config)
    for place, speaker in enumerate(speakers):
        (report,) = adapt_group(network, [alone[place]], [speaker], config)
        assert_same(together[place], alone[place], rtol=1e-5)
        assert isinstance(report, UpdateReport)
        losses = [piece_losses(network, piece) for piece in speaker.pieces]
        assert report.objective_before == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)


def piece_losses(network: Any, piece: Piece) -> torch.Tensor:
    assert isinstance(piece.targets, EntropyTargets)
    with torch.no_grad():
        return SUTA(network(piece.feats[None], torch.tensor([len(piece.feats)]))[0], piece.targets.weights)


def test_settings_become_the_measure() -> None:
    config = AdaptConfig(
        supervision=Supervision.entropy,
        confusion=0.7,
        confusion_over=ConfusionOver.classes,
        temperature=2.5,
    )
    assert config.doubt() == SUTA
    assert config.described() == "entropy, confusion 0.7, temperature 2.5, confusion over classes"
