"""The loop over speakers: a failing one stops nobody, what is done is not done again, ids are safe, the net stays."""

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.toy_session import Peaks, data, session
from lhuc_asr.adaptation.parameters.config import Parameters
from lhuc_asr.adaptation.passes.protocol import Protocol, ProtocolConfig
from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
from lhuc_asr.adaptation.targets.config import Supervision
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.errors import SiteError, SpeakerError, WorkerError
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.profiles.format import load_profile, profile_stem

ODD_IDS = ["../../x", "a b", "12_3", "José", "x" * 300]


def fingerprint(network):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())).hexdigest()


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_every_speaker_gets_a_profile_words_and_a_status(system, tmp_path, num_jobs):
    manifest, feats = data(ODD_IDS)
    before = fingerprint(system.network)
    run = session(system, tmp_path / "out", num_jobs=num_jobs)
    results = list(run.run(manifest, feats))
    assert [result.speaker for result in results] == sorted(ODD_IDS)
    for result in results:
        assert result.update.objective_after < result.update.objective_before
        assert result.seconds == pytest.approx(2.4) and result.real_time_factor > 0
        assert list(result.first_pass) == list(result.second_pass) == list(result.plan.evaluation)
        profile = load_profile(result.profile, fingerprint=system.fingerprint)
        assert profile.speaker == result.speaker and profile.seconds == result.seconds
        status = json.loads((tmp_path / "out" / "status" / f"{profile_stem(result.speaker)}.json").read_text())
        assert status["state"] == "done" and status["speaker"] == result.speaker
    assert fingerprint(system.network) == before
    assert not any(module._forward_hooks for module in system.network.modules())
    assert {path.name for path in tmp_path.iterdir()} == {"model", "out"}
    assert set(run.speed) == {"first_pass", "update", "second_pass"}
    assert all(speed.audio == pytest.approx(12.0) for speed in run.speed.values())


def test_the_second_pass_uses_the_profile(system, tmp_path):
    manifest, feats = data(["a"])
    (result,) = session(system, tmp_path, adapt=AdaptConfig(lr=5.0, num_epochs=9)).run(manifest, feats)
    profile = load_profile(result.profile, fingerprint=system.fingerprint)
    for utterance, hypothesis in result.second_pass.items():
        with profile.adapter().attached(system.network):
            pdfs = system.log_likes(feats[utterance]).argmax(axis=1)
        assert np.array_equal(system.hmm.pdfs(hypothesis.transition_ids), pdfs)
    assert any(
        not np.array_equal(result.first_pass[u].transition_ids, result.second_pass[u].transition_ids)
        for u in result.first_pass
    )


def test_jobs_and_company_do_not_change_a_speaker(system, tmp_path):
    manifest, feats = data(["a", "b", "c"])
    torch.set_num_threads(1)
    alone = list(session(system, tmp_path / "1").run(manifest.of_speaker("b"), feats))
    together = list(session(system, tmp_path / "2", num_jobs=2).run(manifest, feats))
    r, other = (load_profile(result.profile, fingerprint="f" * 64).r for result in (alone[0], together[1]))
    assert all(torch.equal(r[name], other[name]) for name in r)


def test_a_second_run_does_nothing_and_says_the_same(system, tmp_path):
    manifest, feats = data(["a", "b"])
    first = list(session(system, tmp_path).run(manifest, feats))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = session(system, tmp_path)
    second = list(again.run(manifest, feats))
    assert again.decoder.calls == [] and again.speed == {}
    assert all(result.resumed for result in second) and not any(result.resumed for result in first)
    assert [replace(result, resumed=False).as_json() for result in second] == [result.as_json() for result in first]
    assert [h.text for r in second for h in r.second_pass.values()] == ["A"] * 8
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_an_interrupted_run_goes_on_where_it_stopped(system, tmp_path, stop_after):
    manifest, feats = data(["a", "b", "c"])
    outcomes = session(system, tmp_path).run(manifest, feats)
    done = [next(outcomes) for _ in range(stop_after)]
    outcomes.close()
    rest = session(system, tmp_path)
    results = list(rest.run(manifest, feats))
    assert [result.resumed for result in results] == [True] * len(done) + [False] * (3 - len(done))
    num_decoded = {0: 24, 1: 8, 2: 4}[stop_after]  # first passes are kept: only what was not scored again is decoded
    assert len(rest.decoder.calls) == num_decoded
    assert ("update" in rest.speed) is (stop_after == 0)


def test_ctrl_c_in_the_first_pass_keeps_what_is_done(system, tmp_path, monkeypatch):
    manifest, feats = data(["a", "b", "c"])
    decode_all = Peaks.decode_all

    def interrupted(self, *arguments, **options):
        for count, hypothesis in enumerate(decode_all(self, *arguments, **options)):
            if count == 6:
                raise KeyboardInterrupt
            yield hypothesis

    monkeypatch.setattr(Peaks, "decode_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(session(system, tmp_path).run(manifest, feats))
    monkeypatch.undo()
    rest = session(system, tmp_path)
    assert len(list(rest.run(manifest, feats))) == 3
    assert len(rest.decoder.calls) == 8 + 12


def test_without_a_second_pass_and_later_with_it(system, tmp_path):
    manifest, feats = data(["a"])
    only = session(system, tmp_path)
    (result,) = only.run(manifest, feats, second_pass=False)
    assert result.second_pass is None and len(only.decoder.calls) == 4
    later = session(system, tmp_path)
    (result,) = later.run(manifest, feats)
    assert len(result.second_pass) == 4 and len(later.decoder.calls) == 4 and "update" not in later.speed


@pytest.mark.parametrize(
    ("changes", "decoded"),
    [
        ({"adapt": AdaptConfig(lr=0.5, min_seconds=0.01)}, 4),
        ({"lhuc": LhucConfig(layers=[1])}, 4),
        ({"protocol": ProtocolConfig(name=Protocol.enrolment)}, 2),
    ],
)
def test_other_settings_are_another_result_but_the_same_first_pass(system, tmp_path, changes, decoded):
    manifest, feats = data(["a"])
    list(session(system, tmp_path).run(manifest, feats))
    other = session(system, tmp_path, **changes)
    (result,) = other.run(manifest, feats)
    assert not result.resumed and len(other.decoder.calls) == decoded


def test_other_speech_or_another_model_is_another_first_pass(system, tmp_path):
    manifest, feats = data(["a"])
    list(session(system, tmp_path).run(manifest, feats))
    changed = session(system, tmp_path)
    feats["0/0"] = feats["0/0"] + np.float32(0.01)
    assert not next(changed.run(manifest, feats)).resumed
    system.fingerprint = "e" * 64
    assert not next(session(system, tmp_path).run(manifest, feats)).resumed


def test_a_damaged_profile_is_learnt_again(system, tmp_path, caplog):
    manifest, feats = data(["a"])
    (result,) = session(system, tmp_path).run(manifest, feats)
    whole = result.profile.with_suffix(".safetensors").read_bytes()
    result.profile.with_suffix(".safetensors").write_bytes(whole[:-4])
    (again,) = session(system, tmp_path).run(manifest, feats)
    assert not again.resumed and caplog.text.count("it is learnt again") == 1
    assert again.profile.with_suffix(".safetensors").read_bytes() == whole


def test_enrolment_learns_from_one_part_and_scores_the_other(system, tmp_path):
    manifest, feats = data(["a"])
    (result,) = session(system, tmp_path, protocol=ProtocolConfig(name=Protocol.enrolment)).run(manifest, feats)
    assert list(result.second_pass) == list(result.first_pass) == ["0/2", "0/3"]
    assert result.seconds == pytest.approx(1.2)


def test_oracle_learns_from_aligned_references(system, tmp_path):
    manifest, feats = data(["a", "b"])
    mute = Manifest(tuple(u.with_transcript(None) if u.speaker == "b" else u for u in manifest))
    adapt = AdaptConfig(supervision=Supervision.oracle, min_seconds=0.01)
    outcomes = {outcome.speaker: outcome for outcome in session(system, tmp_path, adapt=adapt).run(mute, feats)}
    page = json.loads(outcomes["a"].profile.read_text())
    assert page["settings"]["adapt"]["supervision"] == "oracle"
    assert outcomes["b"].reason == (
        "speaker 'b' has nothing to learn from: none of 4 utterances got a state path, such as '1/0': no transcript"
    )


def test_words_of_references_that_the_lexicon_lacks_are_told(system, tmp_path, caplog):
    manifest, feats = data(["a"])
    strange = Manifest(tuple(u.with_transcript("XYZZY") for u in manifest))
    adapt = AdaptConfig(supervision=Supervision.oracle, min_seconds=0.01)
    list(session(system, tmp_path, adapt=adapt).run(strange, feats))
    assert "4 of 4 words out of vocabulary (100.00 %): 'XYZZY'; these are taken for the unknown word" in caplog.text


def silent(system, feats):
    """Make the net hear silence in utterances of speaker a."""
    system.log_prior = torch.tensor([-50.0] * 3 + [0.0] * (system.hmm.num_pdfs - 3))
    return feats


def test_failing_speakers_are_told_and_stop_nobody(system, tmp_path):
    manifest, feats = data(["fine", "short", "gone"])
    feats.update({f"1/{number}": feats[f"1/{number}"][:10] for number in range(4)})
    del feats["2/1"]
    run = session(system, tmp_path, adapt=AdaptConfig(min_seconds=0.45))
    outcomes = {outcome.speaker: outcome for outcome in run.run(manifest, feats)}
    assert isinstance(outcomes["fine"], SpeakerResult)
    assert outcomes["gone"].reason == "speaker 'gone': utterance '2/1' has no features"
    assert "s of speech in 0.4 s of audio; at least 0.45 s are needed" in outcomes["short"].reason
    assert list(outcomes["short"].first_pass) == [f"1/{number}" for number in range(4)]
    for speaker in ("short", "gone"):
        status = json.loads((tmp_path / "status" / f"{speaker}.json").read_text())
        assert status == {"speaker": speaker, "state": "failed", "reason": outcomes[speaker].reason}


@pytest.mark.parametrize("parameters", [Parameters.lhuc, Parameters.bias])
def test_who_fails_under_other_settings_keeps_what_was_learnt_before(system, tmp_path, parameters):
    manifest, feats = data(["a"])
    adapt = AdaptConfig(min_seconds=0.01, parameters=parameters)
    (result,) = session(system, tmp_path, adapt=adapt).run(manifest, feats)
    before = {path: path.read_bytes() for path in result.profile.parent.iterdir()}
    asks_more = session(system, tmp_path, adapt=replace(adapt, min_seconds=100.0))
    (failure,) = asks_more.run(manifest, feats)
    assert isinstance(failure, SpeakerFailure) and asks_more.store.holds("a")
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((tmp_path / "status" / "a.json").read_text())["state"] == "failed"
    (again,) = asks_more.run(manifest, feats)
    assert isinstance(again, SpeakerFailure)  # what was learnt under other settings is no result of these
    (back,) = session(system, tmp_path, adapt=adapt).run(manifest, feats)
    assert back.resumed and back.update == result.update


def test_a_speaker_with_only_silence(system, tmp_path):
    manifest, feats = data(["a"])
    (outcome,) = session(system, tmp_path).run(manifest, silent(system, feats))
    assert outcome.reason == "speaker 'a' said nothing: 2.4 s of audio were taken for silence"


def test_one_utterance_of_a_tenth_of_a_second(system, tmp_path):
    manifest, feats = data(["a"], per_speaker=1, num_frames=10)
    (outcome,) = session(system, tmp_path / "1", adapt=AdaptConfig()).run(manifest, feats)
    assert "at least 1 s are needed" in outcome.reason
    (outcome,) = session(system, tmp_path / "2").run(manifest, feats)
    assert isinstance(outcome, SpeakerResult) and outcome.seconds == pytest.approx(0.1)


def test_an_utterance_without_a_path_is_left_out_and_named(system, tmp_path):
    manifest, feats = data(["a", "b"])
    outcomes = list(session(system, tmp_path, decoder=Peaks(system.hmm, refuse="0/3")).run(manifest, feats))
    assert outcomes[0].failed == {"0/3": "no path in '0/3'"}
    assert list(outcomes[0].first_pass) == ["0/0", "0/1", "0/2"] and len(outcomes[1].second_pass) == 4
    assert outcomes[0].seconds == pytest.approx(1.8)


def test_a_killed_worker_is_told_and_nothing_that_is_done_is_lost(system, tmp_path):
    manifest, feats = data(["a", "b"], per_speaker=20)
    with pytest.raises(WorkerError, match="run the same command again"):
        list(session(system, tmp_path, num_jobs=2, decoder=Peaks(system.hmm, kill="1/9")).run(manifest, feats))
    rest = session(system, tmp_path, num_jobs=2)
    assert len(list(rest.run(manifest, feats))) == 2
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_stops_the_run_and_leaves_no_half_file(system, tmp_path, monkeypatch):
    manifest, feats = data(["a"])
    whole = Path.replace

    def full(self, target):
        if Path(target).parent.name == "profiles":
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return whole(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        list(session(system, tmp_path).run(manifest, feats))
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.part")) and not list((tmp_path / "profiles").iterdir())
    assert isinstance(next(session(system, tmp_path).run(manifest, feats)), SpeakerResult)


def test_an_empty_set_and_wrong_layers_are_told_at_once(system, tmp_path):
    manifest, feats = data(["a"])
    with pytest.raises(SpeakerError, match="the data has no utterances"):
        list(session(system, tmp_path).run(Manifest(()), feats))
    with pytest.raises(SiteError, match="no hidden layer 7; the model has 1 to 2"):
        list(session(system, tmp_path, lhuc=LhucConfig(layers=[7])).run(manifest, feats))
    assert not (tmp_path / "profiles").exists() and not (tmp_path / "first_pass").exists()
