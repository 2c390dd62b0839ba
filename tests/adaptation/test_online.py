"""Utterance by utterance: each is recognised with what was learnt before it, and learnt from as any speech is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.toy_session import Peaks, data, session
from lhuc_asr.adaptation.online import OnlineAdaptation
from lhuc_asr.adaptation.passes.protocol import Protocol, ProtocolConfig, SpeakerPlan, plan_speaker
from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
from lhuc_asr.adaptation.targets.config import Supervision
from lhuc_asr.adaptation.targets.making import TargetMaker
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.guard import GuardConfig
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.profiles.format import load_profile

QUICK = AdaptConfig(min_seconds=0.01, lr=0.8, num_epochs=1)


def online(system: Any, out: Path, **changes: Any) -> Any:
    protocol = ProtocolConfig(name=Protocol.online, **changes.pop("protocol", {}))
    return session(system, out, protocol=protocol, **{"adapt": QUICK, **changes})


def scales(result: Any) -> Any:
    assert isinstance(result, SpeakerResult)
    return load_profile(result.profile, fingerprint=None).r


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(r, other[name]) for name, r in one.items())


def first(manifest: Manifest, count: int) -> Manifest:
    return Manifest(tuple(manifest)[:count])


def paths(result: Any) -> Any:
    return {name: own.transition_ids for name, own in result.second_pass.items()}


def test_one_utterance_gives_what_the_plain_update_on_it_gives(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(["a"], per_speaker=1)
    (plain,) = session(system, tmp_path / "plain", adapt=QUICK).run(manifest, feats)
    (found,) = online(system, tmp_path / "online").run(manifest, feats)
    assert same(scales(plain), scales(found))
    assert isinstance(found, SpeakerResult) and isinstance(plain, SpeakerResult)
    assert found.update.objective_after == plain.update.objective_after
    assert np.array_equal(paths(found)["0/0"], plain.first_pass["0/0"].transition_ids)


def test_the_next_utterance_is_recognised_with_what_was_learnt_before_it(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(["a"])
    (whole,) = online(system, tmp_path / "whole").run(manifest, feats)
    for count in range(1, 4):
        (part,) = online(system, tmp_path / str(count)).run(first(manifest, count), feats)
        profile = load_profile(part.profile, fingerprint=None)
        with profile.adapter().attached(system.network):
            pdfs = system.log_likes(feats[f"0/{count}"]).argmax(axis=1)
        assert np.array_equal(system.hmm.pdfs(paths(whole)[f"0/{count}"]), pdfs)
        for name, path in paths(part).items():
            assert np.array_equal(path, paths(whole)[name])


def test_no_utterance_sees_itself_or_a_later_one(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(["a"])
    (one,) = online(system, tmp_path / "one").run(manifest, feats)
    other_feats = {**feats, "0/3": feats["0/3"][::-1].copy() * 3}
    (other,) = online(system, tmp_path / "other").run(manifest, other_feats)
    assert not same(scales(one), scales(other))
    assert all(np.array_equal(paths(one)[name], paths(other)[name]) for name in ("0/0", "0/1", "0/2"))


def adaptation(system: Any, feats: Any, **changes: Any) -> OnlineAdaptation:
    of = online(system, Path("unused"), **changes)
    make = TargetMaker(system, of.settings.adapt, feats)
    return OnlineAdaptation(system, of.ground.sites, of.settings, Peaks(system.hmm), make, feats)


def test_forgetting_draws_back_before_learning_and_all_of_it_is_a_new_beginning(system: Any) -> None:
    _, feats = data(["a"], per_speaker=2)
    plan = SpeakerPlan("a", ("0/1",), ("0/1",))
    adapt = adaptation(system, feats, protocol={"forgetting": 1.0})
    heard, fresh = adapt.state(), adapt.state()
    for r in heard.adapter.r.values():
        r.data.fill_(0.3)
    recognised, lattices = adapt.recognise("0/1", heard)
    adapt.learn(plan, heard, recognised, lattices)
    adapt.learn(plan, fresh, recognised, lattices)
    assert same(heard.adapter.r, fresh.adapter.r)
    kept = adaptation(system, feats)
    carried, mild = kept.state(), adaptation(system, feats, protocol={"forgetting": 0.5})
    half = mild.state()
    for state, value in ((carried, 0.15), (half, 0.3)):
        for r in state.adapter.r.values():
            r.data.fill_(value)
    kept.learn(plan, carried, recognised, lattices)
    mild.learn(plan, half, recognised, lattices)
    for name, r in half.adapter.r.items():
        torch.testing.assert_close(r, carried.adapter.r[name])


def test_after_a_reset_nothing_is_known(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(["a"])
    (found,) = online(system, tmp_path / "reset", protocol={"reset_every": 1}).run(manifest, feats)
    last = Manifest((tuple(manifest)[-1],))
    (alone,) = session(system, tmp_path / "alone", adapt=QUICK).run(last, feats)
    assert same(scales(found), scales(alone))
    for name, path in paths(found).items():
        assert np.array_equal(path, found.first_pass[name].transition_ids)
    steps = load_profile(found.profile, fingerprint=None).settings["online"]
    assert [step["reset"] for step in steps] == [False, True, True, True]


def test_speakers_are_finished_once_and_side_by_side(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(["a", "b"])
    alone = list(online(system, tmp_path / "1").run(manifest, feats))
    run = online(system, tmp_path / "2", num_jobs=2)
    together = list(run.run(manifest, feats))
    assert all(same(scales(one), scales(other)) for one, other in zip(alone, together, strict=True))
    assert {"update", "second_pass"} <= set(run.speed) and run.speed["update"].audio == pytest.approx(4.8)
    again = online(system, tmp_path / "2")
    assert all(result.resumed for result in again.run(manifest, feats)) and again.speed == {}
    other = online(system, tmp_path / "2", protocol={"forgetting": 0.25})
    assert not any(result.resumed for result in other.run(manifest, feats))
    status = json.loads((tmp_path / "1" / "status" / "a.json").read_text())
    assert status["state"] == "done" and len(status["objective_per_epoch"]) == 4


def test_what_cannot_be_learnt_from_is_told(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(["a"])
    feats["0/1"] = feats["0/1"][:5]
    adapt = replace(QUICK, min_seconds=0.1)
    (found,) = online(system, tmp_path / "some", adapt=adapt).run(manifest, feats)
    steps = load_profile(found.profile, fingerprint=None).settings["online"]
    assert "at least 0.1 s are needed" in steps[1]["skipped"]
    assert [step["num_frames"] > 0 for step in steps] == [True, False, True, True]
    assert found.kept["num_utterances"] == 3
    (failure,) = online(system, tmp_path / "none", adapt=replace(QUICK, min_seconds=9.0)).run(manifest, feats)
    assert isinstance(failure, SpeakerFailure) and "has nothing to learn from" in failure.reason
    wild = online(system, tmp_path / "wild", adapt=replace(QUICK, lr=1e30)).run(manifest, feats)
    assert all(isinstance(outcome, SpeakerFailure) for outcome in wild)


@pytest.mark.parametrize("trouble", [DataError("the CTC objective is not finite"), ArithmeticError("overflow")])
def test_trouble_with_one_utterance_is_told_and_the_rest_goes_on(
    system: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Exception,
) -> None:
    manifest, feats = data(["a", "b"])
    calls = iter(range(8))

    def failing(*arguments: Any, **settings: Any) -> Any:
        if next(calls) in (1, 4, 5, 6, 7):
            raise trouble
        return adapt_group(*arguments, **settings)

    monkeypatch.setattr("lhuc_asr.adaptation.online.adapt_group", failing)
    one, other = online(system, tmp_path).run(manifest, feats)
    steps = load_profile(one.profile, fingerprint=None).settings["online"]
    assert [step["num_frames"] > 0 for step in steps] == [True, False, True, True]
    assert str(trouble) in steps[1]["skipped"]
    assert isinstance(other, SpeakerFailure) and str(trouble) in other.reason and other.speaker == "b"


def test_references_are_a_research_arm_here_too(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(["a"])
    adapt = replace(QUICK, supervision=Supervision.oracle)
    (found,) = online(system, tmp_path, adapt=adapt).run(manifest, feats)
    assert isinstance(found, SpeakerResult) and found.update.objective_after < found.update.objective_before


def test_speech_is_taken_as_it_was_said() -> None:
    def said(name: str, recording: str, start: float, end: float | None) -> Utterance:
        return Utterance(name, Recording(recording, "x.wav"), "a", start, end)

    manifest = Manifest(
        (said("1", "r", 50.0, 52.0), said("2", "r", 0.0, 2.0), said("3", "r", 5.0, 9.0), said("4", "q", 0.0, None))
    )
    config = ProtocolConfig(name=Protocol.online, reset_gap=10.0)
    plan = plan_speaker("a", manifest, config)
    assert plan.adaptation == plan.evaluation == ("4", "2", "3", "1") and plan.resets == {"1"}
    assert plan_speaker("a", manifest, replace(config, reset_every=2, reset_gap=None)).resets == {"3"}
    assert plan_speaker("a", manifest, ProtocolConfig(name=Protocol.online)).resets == frozenset()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"forgetting": 0.5}, r"protocol.forgetting is for protocol=online, not two_pass"),
        ({"name": Protocol.online, "forgetting": 1.5}, r"must be from 0 to 1, got 1.5"),
        ({"name": Protocol.online, "reset_every": 0}, r"must be at least 1, got 0"),
        ({"name": Protocol.online, "reset_gap": -1.0}, r"must be positive, got -1"),
        ({"name": Protocol.online, "seconds": 9.0}, r"is not for protocol=online, which learns from everything"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        ProtocolConfig(**settings)


def test_what_judges_whole_speech_is_refused(system: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"guard judges a speaker's whole speech"):
        online(system, tmp_path, guard=GuardConfig(enabled=True))
    with pytest.raises(ConfigError, match=r"adapt.held_out_share judges a speaker's whole speech"):
        online(system, tmp_path, adapt=AdaptConfig(held_out_share=0.25))
    with pytest.raises(ConfigError, match=r"adapt.best_share=0.5 chooses among .* adapt.share_of=frames"):
        online(system, tmp_path, adapt=AdaptConfig(best_share=0.5))
