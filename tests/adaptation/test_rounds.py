"""Self-training in rounds: each learns from what the round before recognises, and ends where it stops helping."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.toy_session import Peaks, data, session
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.passes.protocol import Protocol, ProtocolConfig
from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
from lhuc_asr.adaptation.results import SpeakerResult
from lhuc_asr.adaptation.session import AdaptationSession
from lhuc_asr.adaptation.targets.agreement import share_changed
from lhuc_asr.adaptation.targets.config import Supervision
from lhuc_asr.adaptation.targets.making import TargetMaker
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.report import Round
from lhuc_asr.adaptation.updating import update_speakers
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word
from lhuc_asr.errors import ConfigError
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.profiles.format import load_profile

LEARNING = AdaptConfig(min_seconds=0.01, lr=2.0, num_epochs=3)


class Words(Peaks):
    """A search whose words tell which states were visited, so that they change when paths do."""

    def decode_all(self, *arguments: Any, **options: Any) -> Any:
        for found in super().decode_all(*arguments, **options):
            text = "A" * (1 + int(found.transition_ids.sum()) % 7)
            yield replace(found, words=(Word(text, 0.0, 0.1),))


def rounds(system: Any, out: Path, count: int, **changes: Any) -> AdaptationSession:
    protocol = ProtocolConfig(num_rounds=count, **changes.pop("protocol", {}))
    return session(system, out, protocol=protocol, decoder=Words(system.hmm), **{"adapt": LEARNING, **changes})


def run(*arguments: Any, speakers: Any = ("a",), **changes: Any) -> Any:
    (found,) = rounds(*arguments, **changes).run(*data(list(speakers)))
    assert isinstance(found, SpeakerResult)
    return found


def scales(result: Any) -> Any:
    return load_profile(result.profile, fingerprint=None).r


def test_one_round_is_the_plain_adaptation(system: Any, tmp_path: Path) -> None:
    plain = next(session(system, tmp_path / "plain", adapt=LEARNING).run(*data(["a"])))
    found = run(system, tmp_path / "rounds", 1)
    assert all(torch.equal(r, scales(plain)[name]) for name, r in scales(found).items())
    assert found.update.rounds == () and not (tmp_path / "rounds" / "rounds").exists()


def test_the_second_round_learns_from_what_the_first_recognises(system: Any, tmp_path: Path) -> None:
    _, feats = data(["a"])
    once, twice = run(system, tmp_path / "1", 1), run(system, tmp_path / "2", 2)
    again = rounds(system, tmp_path / "by hand", 1)
    heard = once.second_pass
    targets = TargetMaker(system, LEARNING, feats)(once.plan, SpeakerPass(heard), {})
    ((_, by_hand),) = update_speakers(
        system.network, again.ground.sites, {"a": targets}, feats, settings=again.settings, num_jobs=1
    )
    assert not isinstance(by_hand, str)
    for name, r in scales(twice).items():
        np.testing.assert_array_equal(r.numpy(), by_hand.r[name])
    assert [own.number for own in twice.update.rounds] == [1, 2] and twice.update.rounds[1].kept
    assert twice.update.rounds[1].changed == share_changed(once.first_pass, heard) > 0
    status = json.loads((tmp_path / "2" / "status" / "a.json").read_text())
    assert [Round(**own) for own in status["rounds"]] == list(twice.update.rounds)
    resumed = run(system, tmp_path / "2", 2)
    assert resumed.resumed and resumed.update == twice.update
    assert not run(system, tmp_path / "2", 3).resumed


def test_rounds_end_when_the_words_stay(system: Any, tmp_path: Path) -> None:
    found = run(system, tmp_path, 5, adapt=replace(LEARNING, lr=1e-6))
    assert found.update.rounds == (Round(number=1),)
    assert sorted(path.name for path in (tmp_path / "rounds").iterdir()) == ["2"]


def test_rounds_end_where_held_out_speech_says_so(system: Any, tmp_path: Path) -> None:
    adapt = replace(LEARNING, held_out_share=0.25, held_out_gain=0.0)
    manifest, feats = data([str(number) for number in range(6)], num_frames=40)
    found = list(rounds(system, tmp_path / "held", 4, adapt=adapt).run(manifest, feats))
    ended = []
    for result in found:
        assert isinstance(result, SpeakerResult)
        told = result.update.rounds
        kept = [own for own in told if own.kept]
        assert all(later.objective < earlier.objective for earlier, later in pairwise(kept))
        assert [own.number for own in told] == list(range(1, len(told) + 1)) and all(own.kept for own in told[:-1])
        held_out = result.update.held_out
        assert held_out is not None and kept[-1].objective == min(held_out.objectives)
        ended.append(len(told))
    assert min(ended) < 4


def test_a_broken_run_goes_on(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(["a", "b"])
    whole = list(rounds(system, tmp_path / "whole", 3).run(manifest, feats))
    broken = rounds(system, tmp_path / "parts", 3)
    outcomes = broken.run(manifest, feats)
    next(outcomes)
    outcomes.close()
    rest = list(rounds(system, tmp_path / "parts", 3).run(manifest, feats))
    for one, other in zip(whole, rest, strict=True):
        assert all(torch.equal(r, scales(other)[name]) for name, r in scales(one).items())


def test_what_is_recognised_is_compared_word_by_word() -> None:
    def said(text: str) -> Hypothesis:
        return Hypothesis("u", tuple(Word(word, 0, 0) for word in text.split()), np.ones(3, np.int32), 0.0, 0.0)

    before = {"a": said("ONE TWO THREE"), "b": said("SIX")}
    assert share_changed(before, before) == 0 and share_changed(before, {}) == 1
    assert share_changed(before, {"a": said("ONE THREE"), "b": said("SIX SIX")}) == 0.5


@pytest.mark.parametrize(
    ("adapt", "protocol", "reason"),
    [
        ({}, {"num_rounds": 0}, r"protocol.num_rounds must be at least 1, got 0"),
        ({}, {"num_rounds": 2, "name": Protocol.online}, r"not for protocol=online"),
        ({"supervision": Supervision.oracle}, {"num_rounds": 2}, r"adapt.supervision=oracle from something else"),
        ({"supervision": Supervision.words, "words_from": "x"}, {"num_rounds": 2}, r"adapt.supervision=words from"),
    ],
)
def test_rounds_that_would_change_nothing_are_refused(adapt: Any, protocol: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        AdaptationSettings(lhuc=LhucConfig(), adapt=AdaptConfig(**adapt), protocol=ProtocolConfig(**protocol))
