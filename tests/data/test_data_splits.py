"""Splits: nothing is lost, nothing is shared, and the rule is the one that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.data.audio import write_audio
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.data.splits import duration, enrolment_split, hold_out_speakers, hold_out_utterances
from lhuc_asr.errors import ConfigError, SpeakerError


def manifest_of(counts: list[int], seconds: float = 2.0) -> Manifest:
    return Manifest(
        tuple(
            Utterance(f"s{s:02d}-{u:03d}", Recording(f"s{s:02d}", "x.wav"), f"s{s:02d}", u * seconds, (u + 1) * seconds)
            for s, count in enumerate(counts)
            for u in range(count)
        )
    )


counts = st.lists(st.integers(2, 12), min_size=2, max_size=8)
fractions = st.floats(0.01, 0.99)


@given(counts, fractions, st.integers(0, 5))
def test_held_out_speakers_share_nobody_with_those_kept(counts: list[int], fraction: float, seed: int) -> None:
    manifest = manifest_of(counts)
    split = hold_out_speakers(manifest, fraction=fraction, seed=seed)
    assert set(split.kept.speakers) | set(split.held_out.speakers) == set(manifest.speakers)
    assert not set(split.kept.speakers) & set(split.held_out.speakers)
    assert split.kept.speakers and split.held_out.speakers
    assert sorted([*split.kept, *split.held_out], key=lambda u: u.id) == list(manifest)
    assert abs(len(split.held_out.speakers) - fraction * len(counts)) <= 1


def test_the_seed_decides_who_is_held_out() -> None:
    manifest = manifest_of([2] * 30)
    first, again, other = (hold_out_speakers(manifest, fraction=0.2, seed=seed).held_out for seed in (1, 1, 2))
    assert first == again
    assert first.speakers != other.speakers


def test_one_speaker_cannot_be_held_out() -> None:
    with pytest.raises(SpeakerError, match="two are needed"):
        hold_out_speakers(manifest_of([5]), fraction=0.5, seed=0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        hold_out_speakers(manifest_of([5, 5]), fraction=1.0, seed=0)


@given(counts, fractions)
def test_held_out_utterances_come_from_every_speaker(counts: list[int], fraction: float) -> None:
    split = hold_out_utterances(manifest_of(counts), fraction=fraction, seed=0)
    assert split.kept.speakers == split.held_out.speakers
    assert len(split.kept) + len(split.held_out) == sum(counts)


@given(counts, fractions)
def test_enrolment_takes_the_first_utterances_of_each(counts: list[int], fraction: float) -> None:
    manifest = manifest_of(counts)
    split = enrolment_split(manifest, fraction=fraction)
    for speaker, count in zip(manifest.speakers, counts, strict=True):
        ids = [u.id for u in manifest.of_speaker(speaker)]
        taken = max(1, int(fraction * count + 1e-9))
        assert [u.id for u in split.adaptation.of_speaker(speaker)] == ids[:taken]
        assert [u.id for u in split.evaluation.of_speaker(speaker)] == ids[taken:]


def test_enrolment_by_number_and_by_seconds() -> None:
    manifest = manifest_of([5, 6])
    assert len(enrolment_split(manifest, num_utterances=2).adaptation) == 4
    assert len(enrolment_split(manifest, seconds=4.0).adaptation) == 4
    assert len(enrolment_split(manifest, seconds=4.1).adaptation) == 6


def test_enrolment_that_leaves_nothing_to_evaluate_names_the_speaker() -> None:
    for choice in ({"num_utterances": 4}, {"seconds": 100.0}):
        with pytest.raises(SpeakerError, match="'s01' has 4 utterances"):
            enrolment_split(manifest_of([9, 4]) if "seconds" not in choice else manifest_of([60, 4]), **choice)


def test_enrolment_wants_exactly_one_measure() -> None:
    for choice in ({}, {"num_utterances": 1, "seconds": 3.0}):
        with pytest.raises(ConfigError, match="exactly one"):
            enrolment_split(manifest_of([3]), **choice)
    for choice in ({"num_utterances": 0}, {"seconds": 0.0}, {"fraction": 0.0}):
        with pytest.raises(ConfigError):
            enrolment_split(manifest_of([3]), **choice)


def test_duration_of_a_whole_recording_comes_from_its_header(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", np.zeros(12000, np.float32), 8000)
    whole = Utterance("u", Recording("u", str(tmp_path / "a.wav")), "s", start=0.5)
    assert duration(whole) == 1.0
