"""Cross-adaptation: another system's words are aligned by the adapted model, and count where they shall."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.tiny_recogniser import data
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.passes.protocol import ProtocolConfig, SpeakerPlan
from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
from lhuc_asr.adaptation.results import SpeakerResult
from lhuc_asr.adaptation.session import AdaptationSession
from lhuc_asr.adaptation.targets.agreement import agreed_frames, agreed_words
from lhuc_asr.adaptation.targets.config import Supervision, TargetConfig, Weighting
from lhuc_asr.adaptation.targets.making import TargetMaker
from lhuc_asr.adaptation.targets.other_words import OtherWords, align_other_words, read_words, words_from
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word, write_hypotheses
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.system.model_directory import AcousticSystem, load_system
from lhuc_asr.system.recognise import all_log_likes, decoder_of, recognise_all

PLAN = SpeakerPlan("strange", *[tuple(f"strange-0{number}" for number in range(4))] * 2)


@pytest.fixture(scope="module")
def system(directory: Path) -> AcousticSystem:
    return load_system(directory)


@pytest.fixture(scope="module")
def speech(system: AcousticSystem) -> Any:
    """Transcripts, features and first pass of a few utterances."""
    manifest, feats = data(system.hmm)
    own = {name: feats[name] for name in PLAN.adaptation}
    decoded = recognise_all(decoder_of(system), all_log_likes(system, own), num_utterances=len(own))
    return manifest, feats, SpeakerPass(decoded.hypotheses)


def taught(system: AcousticSystem, speech: Any, words: dict[str, OtherWords]) -> Any:
    _, feats, first = speech
    return align_other_words(system, words, [PLAN], {"strange": first}, feats, num_jobs=1)


def targets(system: AcousticSystem, speech: Any, words: dict[str, OtherWords], **config: Any) -> Any:
    _, feats, first = speech
    asked = TargetConfig(supervision=Supervision.words, words_from="x", **config)
    return TargetMaker(system, asked, feats, taught=taught(system, speech, words))(PLAN, first, {})


def own_words(speech: Any) -> dict[str, OtherWords]:
    return {name: OtherWords(tuple(found.text.split())) for name, found in speech[2].hypotheses.items()}


def test_words_of_the_first_pass_give_its_own_targets_bit_for_bit(system: AcousticSystem, speech: Any) -> None:
    _, feats, first = speech
    plain = TargetMaker(system, TargetConfig(), feats)(PLAN, first, {})
    for config in ({}, {"only_agreed": True}):
        same = targets(system, speech, own_words(speech), **config)
        for name, pdfs in plain.pdfs.items():
            np.testing.assert_array_equal(same.pdfs[name], pdfs)
        assert same.num_kept_frames == plain.num_kept_frames == plain.num_frames


def test_other_words_are_the_targets_and_their_paths_say_them(system: AcousticSystem, speech: Any) -> None:
    said = {"strange-00": OtherWords(("TWO", "TWO")), "strange-01": OtherWords(()), "strange-02": OtherWords(("X",))}
    found = taught(system, speech, said)
    assert {name: own.text for name, own in found.hypotheses.items()} == {
        name: own.text for name, own in said.items() if name in found.hypotheses
    }
    phones = system.hmm.phones_of(found.hypotheses["strange-00"].transition_ids)
    heard = [system.hmm.phones[phone - 1] for phone in dict.fromkeys(phones.tolist())]
    assert set(heard) <= {"SIL", "T", "UW"} and {"T", "UW"} <= set(heard)
    assert not (system.hmm.phones_of(found.hypotheses["strange-01"].transition_ids) != 1).any()
    assert found.failed["strange-03"] == "the other system has no words of it"
    assert targets(system, speech, said).failed == found.failed


def test_confidences_are_the_other_systems(system: AcousticSystem, speech: Any) -> None:
    words = own_words(speech)
    sure = {name: OtherWords(own.words, tuple(np.linspace(0.2, 0.9, len(own.words)))) for name, own in words.items()}
    made = targets(system, speech, sure, weights=Weighting.word)
    for name, own in sure.items():
        found = {round(value, 4) for value in made.weights[name].tolist()}
        assert {round(value, 4) for value in own.confidences or ()} <= found
    nothing = targets(system, speech, {**sure, "strange-00": OtherWords((), ())}, weights=Weighting.word)
    assert not nothing.weights["strange-00"].any() and nothing.weights["strange-01"].any()
    kept = targets(system, speech, sure, min_confidence=0.5)
    assert 0 < kept.num_kept_frames < kept.num_frames


def test_frames_count_only_where_both_systems_agree(system: AcousticSystem, speech: Any) -> None:
    own = speech[2].hypotheses["strange-00"]
    other = ("TWO" if own.words[0].text != "TWO" else "NOT", *own.text.split()[1:])
    made = targets(system, speech, {**own_words(speech), "strange-00": OtherWords(other)}, only_agreed=True)
    path = taught(system, speech, {"strange-00": OtherWords(other)}).hypotheses["strange-00"]
    first = path.words[0]
    begin, end = round(first.start * 100), round((first.start + first.duration) * 100)
    assert not made.weights["strange-00"][begin:end].any()
    assert made.weights["strange-01"].all() and made.num_kept_frames < made.num_frames


words = st.lists(st.sampled_from("ABC"), max_size=6)


@given(words, words)
def test_agreement_is_mutual_and_whole_with_oneself(one: list[str], other: list[str]) -> None:
    assert agreed_words(one, one) == [True] * len(one)
    assert sum(agreed_words(one, other)) == sum(agreed_words(other, one)) <= min(len(one), len(other))
    assert len(agreed_words(one, other)) == len(one)


def test_silence_counts_where_both_are_silent() -> None:
    path = np.ones(6, np.int32)
    one = Hypothesis("u", (Word("A", 0.0, 0.02), Word("B", 0.02, 0.02)), path, 0.0, 0.0)
    other = replace(one, words=(Word("A", 0.0, 0.03), Word("C", 0.04, 0.01)))
    np.testing.assert_array_equal(agreed_frames(one, other), [1, 1, 0, 0, 0, 1])


def test_words_are_read_from_decodings_and_kaldi_texts(speech: Any, tmp_path: Path) -> None:
    write_hypotheses(tmp_path / "dec", speech[2].hypotheses.values())
    assert read_words(tmp_path / "dec") == read_words(tmp_path / "dec" / "text") == own_words(speech)
    (tmp_path / "kaldi").mkdir()
    (tmp_path / "kaldi" / "text").write_text("a ONE TWO\nb\n")
    assert read_words(tmp_path / "kaldi") == {"a": OtherWords(("ONE", "TWO")), "b": OtherWords(())}
    (tmp_path / "kaldi" / "text").write_text("a ONE\na TWO\n")
    with pytest.raises(DataError, match="2 lines of 1 utterances"):
        read_words(tmp_path / "kaldi")
    with pytest.raises(DataError, match="there are no words in"):
        read_words(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"4 of 4 utterances .* have no confidences"):
        words_from(str(tmp_path / "dec"), with_confidences=True)
    with pytest.raises(ConfigError, match=r"give adapt.words_from"):
        words_from(None)
    with pytest.raises(ConfigError, match=r"are for adapt.supervision=words, not one_best"):
        TargetConfig(words_from="x")


def session(system: AcousticSystem, out: Path, shared: Path, **adapt: Any) -> AdaptationSession:
    chosen = AdaptationSettings(lhuc=LhucConfig(), adapt=AdaptConfig(**adapt), protocol=ProtocolConfig())
    return AdaptationSession(system, chosen, out, first_pass_directory=shared)


def test_a_session_learns_from_words_and_notices_others(system: AcousticSystem, speech: Any, tmp_path: Path) -> None:
    manifest, feats, _ = speech
    few = manifest.where(lambda utterance: utterance.id in PLAN.adaptation)
    shared, text = tmp_path / "first", tmp_path / "text"
    (plain,) = session(system, tmp_path / "plain", shared).run(few, feats)
    assert isinstance(plain, SpeakerResult)
    asked = {"supervision": Supervision.words, "words_from": str(text)}
    text.write_text("".join(f"{name} {own.text}\n" for name, own in plain.first_pass.items()))
    (same,) = session(system, tmp_path / "cross", shared, **asked).run(few, feats)
    text.write_text("".join(f"{name} ONE TWO NOT WOO\n" for name in plain.first_pass))
    (other,) = session(system, tmp_path / "cross", shared, **asked).run(few, feats)
    (again,) = session(system, tmp_path / "cross", shared, **asked).run(few, feats)
    assert isinstance(same, SpeakerResult) and isinstance(other, SpeakerResult) and isinstance(again, SpeakerResult)
    assert again.resumed and not other.resumed
    assert same.update.objective_after == plain.update.objective_after != other.update.objective_after
    assert load_profile(other.profile, fingerprint=None).supervision == "words"
    text.write_text("strange-00 ONE\nelse-1 TWO\n")
    (short,) = session(system, tmp_path / "short", shared, **asked, min_seconds=0.01).run(few, feats)
    assert isinstance(short, SpeakerResult) and short.kept["num_utterances"] == 1
    text.write_text("else-1 TWO\n")
    with pytest.raises(DataError, match="are other ones than the 4 of these speakers"):
        list(session(system, tmp_path / "none", shared, **asked).run(few, feats))
