"""Perturbed training speech lies on disk as it would be computed, and carries names, speakers and alignments along."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from omegaconf import OmegaConf

from lhuc_asr.config.compose import preset_directory
from lhuc_asr.data.audio import read_audio, write_audio
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.errors import AudioError, DataError
from lhuc_asr.features import extraction
from lhuc_asr.features.cmvn import CmvnMode, CmvnStats
from lhuc_asr.features.extraction import DESCRIPTION
from lhuc_asr.features.fbank import FbankConfig
from lhuc_asr.features.noise import NoiseConfig
from lhuc_asr.features.perturbation import PerturbationConfig, PerturbedCorpus
from lhuc_asr.features.pipeline import FeatureConfig, compute_feats
from lhuc_asr.features.speed import changed_speed
from lhuc_asr.hmm.alignment import AlignmentSet
from lhuc_asr.hmm.stretching import stretch_all, stretched
from lhuc_asr.system.corpus import corpus_feats
from lhuc_asr.system.training_speech import TrainingSpeech, training_feats

RATE = 8000
CONFIG = FeatureConfig(sampling_rate=RATE, fbank=FbankConfig(num_mel_bins=10))
SPEEDS = PerturbationConfig(speeds=[0.9, 1.0, 1.1])
VOICES = PerturbationConfig(
    speeds=[0.9, 1.0], num_copies=2, level_db=6, warp=0.1, noise=NoiseConfig(share=0.7, num_talkers=2)
)


@pytest.fixture
def spoken(tmp_path: Path) -> Manifest:
    """Two people, five sound files of a rate above that of the features."""
    random = np.random.default_rng(0)
    utterances = []
    for number, name in enumerate(["anna-1", "anna-2", "bo-1", "bo-2", "bo-3"]):
        samples = (0.1 * random.standard_normal(2 * 1600 + 700 * number)).astype(np.float32)
        write_audio(tmp_path / f"{name}.wav", samples, 2 * RATE)
        recording = Recording(name, str(tmp_path / f"{name}.wav"))
        utterances.append(Utterance(name, recording, name.partition("-")[0], transcript=name.upper()))
    return Manifest(tuple(utterances))


def make(manifest: Manifest, perturbation: PerturbationConfig, directory: Path, **more: Any) -> TrainingSpeech:
    return training_feats(manifest, more.pop("config", CONFIG), perturbation, directory, **more)


def samples_of(manifest: Manifest, utterance: str) -> NDArray[np.float32]:
    found = next(one for one in manifest if one.id == utterance)
    return read_audio(found, sampling_rate=RATE)


def test_settings_that_change_nothing_give_the_features_of_the_corpus(spoken: Manifest, tmp_path: Path) -> None:
    speech = make(spoken, PerturbationConfig(), tmp_path / "new")
    plain = corpus_feats(spoken, CONFIG, tmp_path / "old")
    assert speech.manifest == spoken and list(speech.feats) == list(plain)
    for name in plain:
        np.testing.assert_array_equal(speech.feats[name], plain[name])
        assert speech.num_frames[name] == len(plain[name])
        assert (speech.source[name], speech.speed[name]) == (name, 1.0)
    for name in ("feats.ark", DESCRIPTION):
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "old" / name).read_bytes()


def test_features_are_those_of_the_changed_waveforms(spoken: Manifest, tmp_path: Path) -> None:
    speech = make(spoken, SPEEDS, tmp_path / "feats", config=replace(CONFIG, cmvn=CmvnMode.none))
    assert len(speech.manifest) == 15
    for name, feats in speech.feats.items():
        waveform = changed_speed(samples_of(spoken, speech.source[name]), speech.speed[name])
        np.testing.assert_array_equal(feats, compute_feats(waveform, CONFIG))
        assert speech.num_frames[name] == len(feats)
    assert (speech.source["sp0.9-bo-2"], speech.speed["sp0.9-bo-2"]) == ("bo-2", 0.9)
    assert speech.manifest.transcripts["sp1.1-bo-2"] == "BO-2"


def test_copies_are_those_of_the_perturbed_corpus(spoken: Manifest, tmp_path: Path) -> None:
    speech = make(spoken, VOICES, tmp_path / "feats", config=replace(CONFIG, cmvn=CmvnMode.none), seed=3)
    corpus = PerturbedCorpus(spoken, lambda name: samples_of(spoken, name), VOICES, sampling_rate=RATE, seed=3)
    assert speech.manifest == corpus.manifest
    for name in ("anna-1", "aug1-sp0.9-bo-3", "aug2-anna-2"):
        np.testing.assert_array_equal(speech.feats[name], corpus.feats(name, CONFIG))


def test_every_perturbed_speaker_is_normalised_alone(spoken: Manifest, tmp_path: Path) -> None:
    speech = make(spoken, VOICES, tmp_path / "feats")
    for speaker in speech.manifest.speakers:
        frames = np.concatenate([speech.feats[one.id] for one in speech.manifest.of_speaker(speaker)])
        stats = CmvnStats.of([frames])
        np.testing.assert_allclose(stats.mean, 0, atol=1e-3)
        np.testing.assert_allclose(stats.deviation, 1, atol=1e-3)


@pytest.mark.parametrize("perturbation", [PerturbationConfig(), SPEEDS, VOICES])
def test_a_second_run_does_nothing(spoken: Manifest, tmp_path: Path, perturbation: PerturbationConfig) -> None:
    before = make(spoken, perturbation, tmp_path / "feats")
    with mock.patch.object(extraction, "write_store", side_effect=AssertionError):
        again = make(spoken, perturbation, tmp_path / "feats")
    assert again.key == before.key and list(again.feats) == list(before.feats)


def altered(what: str, manifest: Manifest) -> dict[str, Any]:
    first, *others = manifest
    swapped = [replace(first, recording=others[0].recording), replace(others[0], recording=first.recording)]
    changes: dict[str, dict[str, Any]] = {
        "seed": {"seed": 1},
        "perturbation": {"perturbation": replace(VOICES, warp=0.05)},
        "features": {"config": replace(CONFIG, fbank=FbankConfig(num_mel_bins=12))},
        "utterances": {"manifest": Manifest(tuple(others))},
        "recordings": {"manifest": Manifest((*swapped, *others[1:]))},
        "recordings in another order": {"manifest": Manifest((*reversed(swapped), *others[1:]))},
        "speakers": {"manifest": Manifest((replace(first, speaker="cy"), *others))},
    }
    return changes[what]


@pytest.mark.parametrize(
    "what",
    ["seed", "perturbation", "features", "utterances", "recordings", "recordings in another order", "speakers"],
)
def test_whatever_is_altered_is_computed_again(spoken: Manifest, tmp_path: Path, what: str) -> None:
    settings: dict[str, Any] = {"manifest": spoken, "perturbation": VOICES}
    before = make(**settings, directory=tmp_path / "feats")
    with mock.patch.object(extraction, "write_store", side_effect=extraction.write_store) as written:
        after = make(**{**settings, **altered(what, spoken)}, directory=tmp_path / "feats")
    assert written.call_count == 1 and after.key != before.key


def test_newer_audio_is_computed_again(spoken: Manifest, tmp_path: Path) -> None:
    before = make(spoken, SPEEDS, tmp_path / "feats")
    os.utime(tmp_path / "bo-1.wav", (1, 1))
    assert make(spoken, SPEEDS, tmp_path / "feats").key != before.key


def test_normalisation_alters_the_key_and_computes_nothing(spoken: Manifest, tmp_path: Path) -> None:
    before = make(spoken, SPEEDS, tmp_path / "feats")
    with mock.patch.object(extraction, "write_store", side_effect=AssertionError):
        after = make(spoken, SPEEDS, tmp_path / "feats", config=replace(CONFIG, cmvn=CmvnMode.none))
    assert after.key != before.key and not np.array_equal(after.feats["bo-1"], before.feats["bo-1"])


def test_two_processes_write_the_same_bytes(spoken: Manifest, tmp_path: Path) -> None:
    make(spoken, VOICES, tmp_path / "one")
    make(spoken, VOICES, tmp_path / "two", num_jobs=2)
    assert (tmp_path / "one" / "feats.ark").read_bytes() == (tmp_path / "two" / "feats.ark").read_bytes()


def test_waveforms_are_read_when_they_are_wanted_and_not_kept(spoken: Manifest, tmp_path: Path) -> None:
    """What is in memory at a time does not grow with the corpus."""
    alive: list[str] = []
    most = 0

    def write(directory: Path, items: Any) -> Any:
        def watched() -> Any:
            nonlocal most
            for item in items:
                most = max(most, len(alive))
                alive.clear()
                yield item

        return original(directory, watched())

    original = extraction.write_store
    read = mock.patch(
        "lhuc_asr.system.training_speech.read_samples",
        side_effect=lambda utterance, rate: alive.append(utterance.id) or read_audio(utterance, sampling_rate=rate),
    )
    with read, mock.patch.object(extraction, "write_store", side_effect=write):
        make(spoken, SPEEDS, tmp_path / "feats")
    assert most == 1


def test_an_interrupted_run_leaves_nothing_that_looks_finished(spoken: Manifest, tmp_path: Path) -> None:
    (tmp_path / "bo-3.wav").write_bytes(b"no sound")
    with pytest.raises(AudioError, match="bo-3"):
        make(spoken, SPEEDS, tmp_path / "feats")
    assert not (tmp_path / "feats" / DESCRIPTION).exists()


def test_what_is_too_short_at_a_speed_is_named(spoken: Manifest, tmp_path: Path) -> None:
    write_audio(tmp_path / "anna-1.wav", np.full(30, 0.1, dtype=np.float32), RATE)
    with pytest.raises(DataError, match="utterance 'anna-1'"):
        make(spoken, SPEEDS, tmp_path / "feats")


def test_the_parts_of_a_split_share_no_voice(spoken: Manifest, tmp_path: Path) -> None:
    speech = make(spoken, VOICES, tmp_path / "feats")
    kept, held_out = spoken.of_speaker("bo"), spoken.of_speaker("anna")
    training, validation = speech.made_from(kept), speech.as_recorded(held_out)
    assert len(training) == 3 * 2 * 3 and {speech.source[one.id] for one in training} == {"bo-1", "bo-2", "bo-3"}
    assert validation == held_out
    assert len(speech.made_from(held_out)) + len(training) == len(speech.manifest)


def test_a_corpus_without_its_recordings_cannot_be_validated_as_recorded(spoken: Manifest, tmp_path: Path) -> None:
    speech = make(spoken, PerturbationConfig(speeds=[0.9, 1.1]), tmp_path / "feats")
    with pytest.raises(DataError, match=r"5 of 5 utterances .* perturbation.speeds must hold 1.0"):
        speech.as_recorded(spoken)


def test_alignments_follow_the_speed(spoken: Manifest, tmp_path: Path) -> None:
    speech = make(spoken, VOICES, tmp_path / "feats")
    plain = {name: speech.num_frames[name] for name, source in speech.source.items() if name == source}
    states = [2, 4, 6, 8]
    rows = {
        name: np.repeat([state - 1 for state in states], -(-length // 4))[:length] for name, length in plain.items()
    }
    for row in rows.values():
        row[np.flatnonzero(np.diff(row, prepend=-1))] += 1
    alignments = AlignmentSet({name: row.astype(np.int32) for name, row in rows.items()}, {}, -7.0)
    carried = stretch_all(alignments, speech.source, speech.num_frames)
    assert not carried.failed
    for name, row in carried.alignments.items():
        assert len(row) == len(speech.feats[name])
        assert row[row % 2 == 0].tolist() == states
        border = int(np.flatnonzero(row == 4)[0]) * speech.speed[name]
        assert border == pytest.approx(int(np.flatnonzero(rows[speech.source[name]] == 4)[0]), abs=1)


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_stretched_borders_are_where_the_sound_changes(speed: float) -> None:
    """The frame in which noise becomes loud is found at both speeds, and carried from one to the other."""
    random, misses = np.random.default_rng(1), []
    for border in random.integers(2000, 14000, 60):
        samples = (0.001 * random.standard_normal(16000)).astype(np.float32)
        samples[border:] *= 300
        before, after = (loud(compute_feats(some, CONFIG)) for some in (samples, changed_speed(samples, speed)))
        alignment = np.where(before, 3, 1).astype(np.int32)
        alignment[[0, before.argmax()]] = 2, 4
        misses.append(int((stretched(alignment, len(after)) == 4).argmax()) - int(after.argmax()))
    assert max(map(abs, misses)) <= 1 and abs(np.mean(misses)) < 0.25


def loud(feats: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(T,) whether a frame is nearer to the loud part than to the soft one."""
    energy = feats.mean(axis=1)
    return np.asarray(energy > (energy[:5].mean() + energy[-5:].mean()) / 2)


@pytest.mark.parametrize(
    "path", sorted((preset_directory() / "perturbation").glob("*.yaml")), ids=lambda path: path.stem
)
def test_presets_can_be_used(path: Path, spoken: Manifest, tmp_path: Path) -> None:
    settings = OmegaConf.merge(OmegaConf.structured(PerturbationConfig), OmegaConf.load(path))
    perturbation = OmegaConf.to_object(settings)
    assert isinstance(perturbation, PerturbationConfig) and perturbation.is_active
    assert path.read_text().startswith("# ")
    speech = make(spoken, perturbation, tmp_path / "feats")
    assert speech.as_recorded(spoken) == spoken
