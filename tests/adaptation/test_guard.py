"""The guard: scales that change too much are weakened or refused, and the verdict stands in the profile."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.toy_session import data, session
from lhuc_asr.adaptation.guarding import Guard
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.outcome import Updated
from lhuc_asr.adaptation.parameters.priors import Expectation
from lhuc_asr.adaptation.passes.protocol import ProtocolConfig
from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
from lhuc_asr.adaptation.results import SpeakerResult
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.guard import GuardConfig, GuardReport, Trial, tried
from lhuc_asr.adaptation.update.held_out import Verdict
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.decoding.speed import SpeedMeter
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word
from lhuc_asr.errors import ConfigError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.profiles.format import load_profile

FREE = GuardConfig(
    enabled=True,
    max_changed=float("inf"),
    max_length_change=float("inf"),
    max_entropy_change=float("inf"),
    max_cost_rise=float("inf"),
)


def said(text: str, cost: float = 1.0) -> Hypothesis:
    words = tuple(Word(word, 0.0, 0.1) for word in text.split())
    return Hypothesis("u", words, np.ones(10, np.int32), cost, 0.0)


texts = st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("XYZ"), max_size=4).map(" ".join), min_size=1)


@given(texts, texts)
def test_what_stays_the_same_is_accepted_and_changes_are_counted(one: dict[str, str], other: dict[str, str]) -> None:
    first, adapted = ({name: said(text) for name, text in own.items()} for own in (one, other))
    strict = GuardConfig(max_changed=0, max_length_change=0, max_entropy_change=0, max_cost_rise=0)
    assert not tried(first, first, strength=1.0, entropy_change=0.0, config=strict).failed
    trial = tried(first, adapted, strength=1.0, entropy_change=0.0, config=strict)
    assert ("words changed" in trial.failed) == any(one[name] != other.get(name, "") for name in one)
    assert trial.changed >= abs(trial.length_change)


def test_each_test_fails_by_itself() -> None:
    first, config = {"a": said("ONE TWO THREE FOUR")}, GuardConfig()

    def failed(text: str, cost: float = 1.0, entropy: float = 0.0) -> tuple[str, ...]:
        return tried(first, {"a": said(text, cost)}, strength=1.0, entropy_change=entropy, config=config).failed

    assert failed("ONE TWO THREE SIX") == () and failed("SIX SIX THREE FOUR") == ("words changed",)
    assert failed("ONE TWO THREE") == ("length",) and failed("ONE TWO THREE FOUR", 1.2) == ("cost",)
    assert failed("ONE TWO THREE FOUR", entropy=-0.6) == failed("ONE TWO THREE FOUR", entropy=np.nan) == ("entropy",)
    assert tried(first, {}, strength=1.0, entropy_change=0.0, config=config).failed == ("words changed", "length")


def test_a_guard_that_allows_everything_changes_nothing(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(["a", "b"])
    adapt = AdaptConfig(min_seconds=0.01, held_out_share=0.25)
    plain = list(session(system, tmp_path / "plain", adapt=adapt).run(manifest, feats))
    run = session(system, tmp_path / "guarded", adapt=adapt, guard=FREE)
    for one, other in zip(plain, run.run(manifest, feats), strict=True):
        assert isinstance(one, SpeakerResult) and isinstance(other, SpeakerResult)
        profile = load_profile(other.profile, fingerprint=None)
        assert all(torch.equal(r, profile.r[name]) for name, r in load_profile(one.profile, fingerprint=None).r.items())
        report = other.update.guard
        refused = one.update.held_out is not None and one.update.held_out.verdict is Verdict.fell_back
        assert report is not None and report.num_utterances == 1 and report.held_out
        assert report.strength == (0 if refused else 1) and len(report.trials) == (0 if refused else 1)
        assert other.update.held_out == one.update.held_out and one.update.guard is None
    assert "guard" in run.speed or all("fell back" in str(result.update.guard) for result in plain)


def test_runaway_scales_are_weakened_or_refused_and_the_profile_tells(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(["a"])
    wild = AdaptConfig(min_seconds=0.01, lr=3.0, num_epochs=6)
    (free,) = session(system, tmp_path / "free", adapt=wild, guard=FREE).run(manifest, feats)
    assert isinstance(free, SpeakerResult) and free.update.guard is not None
    (whole,) = free.update.guard.trials
    assert not free.update.guard.held_out and free.update.guard.num_utterances == 4
    limit = abs(whole.entropy_change) * 0.6
    for shrink, verdict in (([0.1], Verdict.shrunk), ([], Verdict.fell_back)):
        out = tmp_path / verdict.name
        guard = replace(FREE, max_entropy_change=limit, shrink=shrink)
        (found,) = session(system, out, adapt=wild, guard=guard).run(manifest, feats)
        assert isinstance(found, SpeakerResult) and found.update.guard is not None
        assert found.update.guard.verdict is verdict and found.update.guard.trials[0].failed == ("entropy",)
        strength = {Verdict.shrunk: 0.1, Verdict.fell_back: 0.0}[verdict]
        wanted = load_profile(free.profile, fingerprint=None).r
        profile = load_profile(found.profile, fingerprint=None)
        for name, r in profile.r.items():
            torch.testing.assert_close(r, strength * wanted[name])
        assert profile.guard is not None and profile.guard["verdict"] == verdict.value
        (status,) = (json.loads(path.read_text()) for path in (out / "status").glob("*.json"))
        assert status["guard"] == found.update.guard.plain()
        (again,) = session(system, out, adapt=wild, guard=guard).run(manifest, feats)
        assert isinstance(again, SpeakerResult) and again.resumed and again.update == found.update


class Hears:
    """Stands in for recognition: the first pass's words with the start alone, nonsense and doubt with other scales."""

    system = SimpleNamespace(log_prior=torch.zeros(3))

    def __init__(self, start: LhucAdapter | None) -> None:
        self.start = start

    def log_likes(self, utterance: str, adapter: Any = None) -> Any:
        surer = 0.0 if adapter is None else adapter.r["1"][0].item()
        return np.tile(np.array([surer, 0.0, 0.0], np.float32), (10, 1))

    def __call__(self, wanted: Any, adapters: Any, *, on_log_likes: Any, **_: Any) -> Any:
        for name, utterances in wanted.items():
            on_log_likes(name, self.log_likes(utterances[0], adapters[name]))
            known = torch.zeros(2) if self.start is None else self.start.r["1"]
            yield name, SpeakerPass({"u": said("A B" if torch.equal(adapters[name].r["1"], known) else "X Y")})


@pytest.mark.parametrize("begins", [None, 0.5])
@pytest.mark.parametrize("learnt", [2.0, float("inf")])
def test_who_falls_back_has_the_scales_of_the_first_pass(begins: float | None, learnt: float) -> None:
    start = None if begins is None else LhucAdapter({"1": torch.full((2,), begins)})
    report = UpdateReport(objective_before=1.0, objective_after=0.5, per_epoch=(), seconds=1.0, learnt_from=("u",))
    own = Updated({"1": np.full(2, learnt, np.float32)}, Amplitude.exp, {"1": "*H"}, report, 10, 0.0)
    expected = Expectation(None, None if start is None else {"s": start})
    guard = Guard(Hears(start), GuardConfig(enabled=True), SpeedMeter(), expected)  # type: ignore[arg-type]
    ((_, found),) = guard({"s": own}, {"s": SpeakerPass({"u": said("A B")})})
    assert found.report.guard is not None and found.report.guard.verdict is Verdict.fell_back
    assert found.r["1"].tolist() == [begins or 0.0] * 2


def test_entropy_is_compared_with_that_of_the_first_pass() -> None:
    """Scales that stay where the first pass was do not change it."""
    start = LhucAdapter({"1": torch.full((2,), 0.5)})
    report = UpdateReport(objective_before=1.0, objective_after=0.5, per_epoch=(), seconds=1.0, learnt_from=("u",))
    own = Updated({"1": np.full(2, 0.5, np.float32)}, Amplitude.exp, {"1": "*H"}, report, 10, 0.0)
    guard = Guard(Hears(start), FREE, SpeedMeter(), Expectation(None, {"s": start}))  # type: ignore[arg-type]
    ((_, found),) = guard({"s": own}, {"s": SpeakerPass({"u": said("A B")})})
    assert found.report.guard is not None
    assert found.report.guard.trials[0].entropy_change == found.report.guard.trials[0].cost_change == 0.0


def test_a_verdict_survives_the_profile() -> None:
    trial = Trial(
        strength=1.0, changed=0.5, length_change=0.1, entropy_change=0.0, cost_change=0.0, failed=("words changed",)
    )
    trials = (trial, replace(trial, strength=0.5, failed=()))
    report = GuardReport(trials=trials, strength=0.5, num_utterances=3, held_out=True)
    assert GuardReport.from_plain(json.loads(json.dumps(report.plain()))) == report
    assert GuardReport.from_plain({"test": "another"}) is None and GuardReport.from_plain(None) is None
    assert str(report) == "guard: shrunk to 0.5 (words changed) on 3 utterances held out"


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"max_changed": -1.0}, r"guard.max_changed must be 0 or more, got -1"),
        ({"max_cost_rise": float("nan")}, r"guard.max_cost_rise must be 0 or more, got nan"),
        ({"shrink": [1.0]}, r"guard.shrink must lie between 0 and 1"),
        ({"shrink": [0.25, 0.5]}, r"guard.shrink must fall from one strength to the next"),
    ],
)
def test_limits_that_cannot_be_are_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        GuardConfig(**wrong)


def test_limits_of_no_guard_are_refused() -> None:
    parts = {"lhuc": LhucConfig(), "adapt": AdaptConfig(), "protocol": ProtocolConfig()}
    with pytest.raises(ConfigError, match=r"guard.max_changed=0.1 has no effect: it needs guard.enabled=true"):
        AdaptationSettings(**parts, guard=GuardConfig(max_changed=0.1))
    AdaptationSettings(**parts, guard=GuardConfig(enabled=True, max_changed=0.1))
