"""The demo corpus: made once, the same from the same seed, with no voice or sentence shared between the sets."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from lhuc_asr.data.corpora.demo import SAMPLING_RATE, DemoConfig, DemoSize, demo_config, prepare
from lhuc_asr.data.corpora.demo_accents import FOREIGN_LANGUAGES, ForeignAccent, draw_habits, pronunciations
from lhuc_asr.data.corpora.demo_acoustics import coloured_noise, move_formants, record, room_response
from lhuc_asr.data.corpora.demo_grammar import new_sentences, rules, sentence, vocabulary
from lhuc_asr.data.corpora.demo_speakers import DemoSpeaker, SpeakerConfig, draw_speakers
from lhuc_asr.data.synthesis import Synthesiser, Voice
from lhuc_asr.errors import ConfigError, DependencyError

needs_espeak = pytest.mark.skipif(
    "not __import__('importlib').util.find_spec('espeakng_loader')", reason="no espeak-ng"
)


def tiny_config(seed: int = 0) -> DemoConfig:
    return DemoConfig(
        num_train_speakers=2,
        num_dev_speakers=1,
        num_test_speakers=2,
        train_utterances_per_speaker=3,
        utterances_per_speaker=2,
        num_text_sentences=20,
        seed=seed,
    )


def speaker(**traits: object) -> DemoSpeaker:
    settings: dict[str, object] = {
        "id": "anna",
        "voice": Voice(),
        "habits": None,
        "formant_factor": 1.0,
        "tilt_db": 0.0,
        "echo": 0.1,
        "snr_db": 20.0,
        "noise_slope": 1.0,
        "seed": 3,
    }
    return DemoSpeaker(**{**settings, **traits})  # type: ignore[arg-type]


def digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.suffix in {".wav", ".txt"} or path.name == "text")
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@needs_espeak
def test_corpus_is_the_same_from_the_same_seed_with_any_number_of_jobs(tmp_path: Path) -> None:
    prepare(tmp_path / "one", tiny_config(), num_jobs=1)
    prepare(tmp_path / "two", tiny_config(), num_jobs=2)
    prepare(tmp_path / "other", tiny_config(seed=1), num_jobs=1)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert digests(tmp_path / "one") != digests(tmp_path / "other")


@needs_espeak
def test_second_run_does_nothing_and_other_settings_make_it_anew(tmp_path: Path) -> None:
    made = prepare(tmp_path, tiny_config())
    sound = Path(made["test"].utterances[0].recording.source)
    before = sound.stat().st_mtime_ns
    assert prepare(tmp_path, tiny_config()) == made
    assert sound.stat().st_mtime_ns == before
    (tmp_path / "demo.json").write_text("{", encoding="utf-8")  # as if the first run had been broken off
    assert prepare(tmp_path, tiny_config()) == made
    assert sound.stat().st_mtime_ns > before
    prepare(tmp_path, tiny_config(seed=1))
    assert json.loads((tmp_path / "demo.json").read_text())["config"]["seed"] == 1


@needs_espeak
def test_sets_share_neither_voices_nor_sentences_and_the_lexicon_covers_all(tmp_path: Path) -> None:
    made = prepare(tmp_path, tiny_config())
    assert {name: (len(manifest.speakers), len(manifest)) for name, manifest in made.items()} == {
        "train": (2, 6),
        "dev": (1, 2),
        "test": (2, 4),
    }
    speakers = json.loads((tmp_path / "demo.json").read_text())["speakers"]
    variants = [person["voice"]["variant"] for people in speakers.values() for person in people]
    assert len(set(variants)) == len(variants)
    said = [text for manifest in made.values() for text in manifest.transcripts.values()]
    assert len(set(said)) == len(said)
    text = (tmp_path / "lm_text.txt").read_text().splitlines()
    assert set(made["train"].transcripts.values()) <= set(text)
    assert not set(text) & {*made["dev"].transcripts.values(), *made["test"].transcripts.values()}
    words = {line.split()[0] for line in (tmp_path / "lexicon.txt").read_text().splitlines()}
    assert words == set(vocabulary())


@needs_espeak
def test_audio_is_mono_16_khz_and_not_clipped(tmp_path: Path) -> None:
    import soundfile

    for utterance in prepare(tmp_path, tiny_config())["test"]:
        samples, sampling_rate = soundfile.read(utterance.recording.source)
        assert Path(utterance.recording.source).is_absolute()
        assert sampling_rate == SAMPLING_RATE == 16000
        assert samples.ndim == 1
        assert 0.05 < np.abs(samples).max() < 0.8
        assert 0.5 < len(samples) / sampling_rate < 8


def test_absent_wheel_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    from lhuc_asr.data.synthesis import voice_variants

    voice_variants.cache_clear()
    with pytest.raises(DependencyError, match="espeakng-loader"):
        prepare(tmp_path / "out", tiny_config())
    assert not (tmp_path / "out").exists()


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"num_test_speakers": 0}, {"utterances_per_speaker": 1000}, {"num_text_sentences": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            DemoConfig(**wrong)
    for bad in ({"foreign_share": 1.5}, {"tract_spread": 0.5}, {"snr_db": [30.0, 10.0]}, {"rate": [10, 100]}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            SpeakerConfig(**bad)


@needs_espeak
def test_more_speakers_than_voices_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"500 demo speakers.*voice variants"):
        draw_speakers({"train": 500}, SpeakerConfig(), seed=0)


def test_smallest_size_is_small() -> None:
    small, full = demo_config(DemoSize.smallest, seed=4), demo_config()
    assert small.num_train_speakers * small.train_utterances_per_speaker <= 72
    assert full.num_test_speakers >= 20
    assert (small.seed, full.seed) == (4, 0)


@needs_espeak
def test_knobs_move_the_speakers() -> None:
    easy = SpeakerConfig(test_tract_spread=0.0, test_foreign_share=0.0, new_accent_share=0.0, test_snr_db=[30.0, 30.0])
    hard = SpeakerConfig(test_tract_spread=0.2, test_foreign_share=1.0, new_accent_share=1.0, accent_strength=1.0)
    for person in draw_speakers({"test": 10}, easy, seed=0)["test"]:
        assert (person.formant_factor, person.habits, person.snr_db) == (1.0, None, 30.0)
    people = draw_speakers({"train": 10, "test": 10}, hard, seed=0)
    heard_in_training = {person.voice.language for person in people["train"]}
    assert all(person.voice.language not in heard_in_training and person.habits for person in people["test"])


def test_every_rule_of_the_grammar_is_used_and_exists() -> None:
    used = {part[1:-1] for choices in rules().values() for choice in choices for part in choice if part[0] == "<"}
    assert used | {"request"} == set(rules())


def test_new_sentences_are_new_and_of_known_words() -> None:
    known = new_sentences(50, random.Random(0))
    more = new_sentences(50, random.Random(0), known=set(known))
    assert not set(known) & set(more)
    assert len(set(more)) == 50
    assert {word for text in more for word in text.split()} <= set(vocabulary())
    assert sentence(random.Random(5)) == sentence(random.Random(5))


@needs_espeak
def test_pronunciations_are_arpabet() -> None:
    synthesiser = Synthesiser()
    assert pronunciations("KITCHEN", synthesiser) == (("K", "IH", "CH", "AH", "N"),)
    assert ("DH", "IY") in pronunciations("THE", synthesiser)
    phones = {phone for word in vocabulary() for spelling in pronunciations(word, synthesiser) for phone in spelling}
    assert 36 <= len(phones) <= 39
    assert all(phone.isalpha() and phone.isupper() for phone in phones)


@needs_espeak
@pytest.mark.parametrize("language", FOREIGN_LANGUAGES)
def test_every_foreign_speaker_can_say_every_word(language: str) -> None:
    synthesiser = Synthesiser()
    accent = ForeignAccent(language, draw_habits(language, 1.0, random.Random(0)), synthesiser)
    for word in ("THREE", "CHICKEN", "WARMER", "CHOIR", "ONIONS", "FEBRUARY"):
        said = synthesiser.say(accent.text([word], synthesiser), Voice(language=language)).phones
        assert sum(phone.mnemonic != "" for phone in said) >= 3, (word, said)


def test_formants_move_by_the_factor() -> None:
    time = np.arange(22050) / 22050
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    for factor in (0.8, 1.0, 1.2):
        moved = move_formants(tone, 22050, factor, to=16000)
        peak = np.fft.rfftfreq(len(moved), 1 / 16000)[np.abs(np.fft.rfft(moved)).argmax()]
        assert peak == pytest.approx(1000 * factor, rel=0.01)
        assert len(moved) == pytest.approx(16000 / factor, rel=0.01)


def test_noise_lies_where_it_should() -> None:
    samples = np.sin(np.arange(22050) / 7).astype(np.float32)
    quiet, loud = (
        record(samples, 22050, speaker(snr_db=snr), to=16000, random_source=np.random.default_rng(0)) for snr in (60, 0)
    )
    assert np.abs(quiet[:1500]).max() < 0.01 * np.abs(quiet).max()
    assert np.abs(loud[:1500]).max() > 0.1 * np.abs(loud).max()
    noise = coloured_noise(16000, 2.0, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    assert np.mean(noise**2) == pytest.approx(1.0, rel=1e-3)
    assert spectrum[10:100].mean() > 100 * spectrum[1000:8000].mean()


def test_a_room_sounds_the_same_every_time() -> None:
    here, there = speaker(echo=0.2), speaker(echo=0.2, seed=4)
    np.testing.assert_array_equal(room_response(here, 16000), room_response(here, 16000))
    assert np.abs(room_response(here, 16000) - room_response(there, 16000)).max() > 0
    assert np.linalg.norm(room_response(here, 16000)) == pytest.approx(1.0, abs=1e-3)
