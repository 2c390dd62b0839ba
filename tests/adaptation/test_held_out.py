"""Stopping by held-out speech: the best sweep is kept, and where none helps the scales are the identity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.toy_priors import flat, prior_for
from helpers.toy_windows import NUM_STATES, adapters_of, network_of, speaker_of
from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.objectives.utterances import Piece, SpeakerUtterances
from lhuc_asr.adaptation.parameters.priors import Estimator, start_at_mean
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.held_out import HeldOutReport, Verdict, divide, judge
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.splicing import SplicedFrames

NETWORK = network_of()


def speech(lengths: list[int], *, seed: int = 0) -> SpeakerFrames:
    rng = np.random.default_rng(seed)
    frames = SplicedFrames([rng.normal(size=(length, 4)).astype(np.float32) for length in lengths], context=1)
    return SpeakerFrames(frames, torch.from_numpy(rng.integers(NUM_STATES, size=sum(lengths))))


def believed(speaker: SpeakerFrames, factor: float) -> SpeakerFrames:
    """The same frames with targets that scaling the lowest layer by a factor makes likeliest."""
    (adapter,) = adapters_of(NETWORK, 1, layers=(1,))
    next(iter(adapter.r.values())).data.fill_(float(np.log(factor)))
    with adapter.attached(NETWORK), torch.no_grad():
        log_probs = NETWORK.forward_windows(speaker.frames.windows(torch.arange(speaker.num_frames)))
    return SpeakerFrames(speaker.frames, log_probs.argmax(1))


@given(lengths=st.lists(st.integers(1, 30), min_size=2, max_size=9), share=st.floats(0.01, 0.5), seed=st.integers(0, 3))
@settings(max_examples=50)
def test_whole_utterances_are_held_out(lengths: list[int], share: float, seed: int) -> None:
    division = divide(speech(lengths), share, seed=seed)
    offsets = np.cumsum([0, *lengths])
    utterance_of = np.searchsorted(offsets, np.arange(sum(lengths)), side="right")
    held, kept = (set(utterance_of[part.numpy()]) for part in (division.held_out, division.learnt))
    assert held and kept and not held & kept
    assert sorted([*division.held_out.tolist(), *division.learnt.tolist()]) == list(range(sum(lengths)))
    assert (division.num_learnt, division.num_held_out) == (len(division.learnt), len(division.held_out))
    again = divide(speech(lengths), share, seed=seed)
    assert torch.equal(again.held_out, division.held_out)


def test_pieces_of_one_utterance_stay_together() -> None:
    """Also where the network sees no frames around a piece, so that none is skipped."""
    one, two, three = (Piece(torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64), utterance=name) for name in "abc")
    items = {"a": [0, 1], "b": [2], "c": [3, 4]}
    for seed in range(5):
        division = divide(SpeakerUtterances((one, one, two, three, three)), 0.3, seed=seed)
        (held_out,) = division.utterances_held_out
        assert division.held_out.tolist() == items[held_out]
        assert division.utterances_learnt == tuple(name for name in items if name != held_out)
    whole = divide(SpeakerUtterances((one, one)), 0.3, seed=0)
    assert (whole.num_learnt, whole.num_held_out, whole.utterances_learnt) == (10, 0, ("a",))


def test_one_utterance_of_frames_is_divided() -> None:
    division = divide(speech([10]), 0.2, seed=0)
    assert division.learnt.tolist() == list(range(8))
    assert division.held_out.tolist() == [8, 9]
    assert division.utterances_learnt == ("0",) and not division.utterances_held_out
    assert divide(speech([1]), 0.5, seed=0).num_held_out == 0


def test_nothing_is_held_out_where_nothing_is_asked_for() -> None:
    (report,) = adapt_group(NETWORK, adapters_of(NETWORK, 1), [speech([9, 9])], AdaptConfig())
    assert isinstance(report, UpdateReport)
    assert report.held_out is None
    assert divide(speech([9, 9]), 0.0, seed=0).learnt.tolist() == list(range(18))


def test_the_best_sweep_is_kept() -> None:
    speaker = believed(speech([60, 40, 50, 45]), 3.0)
    config = AdaptConfig(lr=0.5, num_epochs=6, batch_size=16, held_out_share=0.25, patience=6)
    (adapter,) = adapters_of(NETWORK, 1)
    (report,) = adapt_group(NETWORK, [adapter], [speaker], config)
    assert isinstance(report, UpdateReport)
    found = report.held_out
    assert found is not None
    assert found.verdict is Verdict.accepted
    assert len(found.objectives) == 7
    assert found.best_sweep == min(range(7), key=found.objectives.__getitem__) > 0
    assert found.speaker_independent == found.objectives[0]
    until, best = adapters_of(NETWORK, 2)
    adapt_group(NETWORK, [until], [speaker], replace(config, num_epochs=found.best_sweep))
    assert torch.equal(flat(adapter), flat(until))
    held_out = divide(speaker, 0.25, seed=0).held_out
    with adapter.attached(NETWORK), torch.no_grad():
        log_probs = NETWORK.forward_windows(speaker.frames.windows(held_out))
    loss = torch.nn.functional.nll_loss(log_probs, speaker.targets[held_out]).item()
    assert loss == pytest.approx(found.objectives[found.best_sweep], abs=1e-5)
    assert not flat(best).any()


def test_where_no_sweep_helps_the_scales_are_the_identity() -> None:
    """Random targets: what is learnt from some is wrong for the others."""
    speaker = speech([40, 40, 40])
    config = AdaptConfig(lr=5.0, num_epochs=9, batch_size=8, held_out_share=0.33, patience=2)
    for prior in (None, prior_for(adapters_of(NETWORK, 1)[0])):
        adapter = start_at_mean(adapters_of(NETWORK, 1)[0], prior)
        own = replace(config, held_out_gain=1.0, prior_from=None if prior is None else "given")
        (report,) = adapt_group(NETWORK, [adapter], [speaker], own, estimator=Estimator(own, prior, seed=0))
        assert isinstance(report, UpdateReport)
        assert report.held_out is not None
        assert report.held_out.verdict is Verdict.fell_back
        assert not flat(adapter).any()
        if prior is None:
            assert report.objective_after == pytest.approx(report.objective_before)
    assert len(report.per_epoch) == len(report.held_out.objectives) - 1


def test_learning_stops_when_patience_is_at_an_end() -> None:
    config = AdaptConfig(lr=2.0, num_epochs=30, batch_size=8, held_out_share=0.33, patience=2)
    (report,) = adapt_group(NETWORK, adapters_of(NETWORK, 1), [speech([40, 40, 40])], config)
    assert isinstance(report, UpdateReport)
    assert report.held_out is not None
    assert len(report.per_epoch) == report.held_out.best_sweep + 2 < 30


def test_who_runs_away_is_stopped() -> None:
    config = AdaptConfig(lr=1e30, num_epochs=30, batch_size=8, held_out_share=0.33, patience=9)
    (adapter,) = adapters_of(NETWORK, 1)
    (report,) = adapt_group(NETWORK, [adapter], [speech([40, 40, 40])], config)
    assert isinstance(report, UpdateReport)
    assert report.held_out is not None
    assert report.held_out.ran_away
    assert report.held_out.verdict is Verdict.fell_back
    assert len(report.per_epoch) == len(report.held_out.objectives) - 1 < 29
    assert not flat(adapter).any()


def test_company_changes_nothing() -> None:
    speakers = [believed(speech([60, 40, 50]), 3.0), speech([40, 40, 40], seed=1), speaker_of(2, 30), speech([1])]
    config = AdaptConfig(lr=2.0, num_epochs=5, batch_size=16, held_out_share=0.3, patience=1)
    together = adapters_of(NETWORK, 4)
    reports = adapt_group(NETWORK, together, speakers, config)
    for place, speaker in enumerate(speakers):
        (alone,) = adapters_of(NETWORK, 1)
        (report,) = adapt_group(NETWORK, [alone], [speaker], config)
        torch.testing.assert_close(flat(together[place]), flat(alone), rtol=1e-5, atol=1e-5)
        found = reports[place]
        assert isinstance(report, UpdateReport) and isinstance(found, UpdateReport)
        assert report.held_out is not None and found.held_out is not None
        assert found.held_out.verdict is report.held_out.verdict
        assert found.held_out.objectives == pytest.approx(report.held_out.objectives, abs=1e-5)
        assert HeldOutReport.from_plain(found.held_out.plain()) == found.held_out
    assert isinstance(reports[3], UpdateReport)
    assert reports[3].held_out is not None
    assert reports[3].held_out.verdict is Verdict.not_judged


def test_a_tie_falls_back_and_what_is_not_a_number_never_wins() -> None:
    assert judge([2.0, 2.0], 2.0, num_targets=3, least_gain=0.0).verdict is Verdict.fell_back
    assert judge([2.0, float("nan"), 1.0], 2.0, num_targets=3, least_gain=0.0).best_sweep == 2
    assert judge([2.0, float("nan")], 2.0, num_targets=3, least_gain=0.0).verdict is Verdict.fell_back
    assert HeldOutReport.from_plain(None) is None
    assert HeldOutReport.from_plain({"keep": True}) is None


@pytest.mark.parametrize(
    "wrong", [{"held_out_share": -0.1}, {"held_out_share": 0.6}, {"held_out_gain": -1.0}, {"patience": 0}]
)
def test_settings_that_cannot_work(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"adapt.{next(iter(wrong))} must"):
        AdaptConfig(**wrong)  # type: ignore[arg-type]
