"""Parts of a manifest: speakers held out, and each speaker's enrolment and evaluation speech."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lhuc_asr.data.audio import audio_info
from lhuc_asr.data.manifest import Manifest, Utterance
from lhuc_asr.errors import ConfigError, SpeakerError
from lhuc_asr.units import Seconds


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Two parts without a speaker (or an utterance) in common.

    Attributes:
        kept: the larger part, for training.
        held_out: the part to validate on.
    """

    kept: Manifest
    held_out: Manifest


@dataclass(frozen=True, slots=True)
class EnrolmentSplit:
    """Every speaker's speech in two parts.

    Attributes:
        adaptation: the speaker's first utterances, to adapt on.
        evaluation: the rest, to score.
    """

    adaptation: Manifest
    evaluation: Manifest


def hold_out_speakers(manifest: Manifest, *, fraction: float, seed: int) -> HeldOut:
    """Hold out whole speakers, at least one, and keep at least one.

    Who is held out depends on the seed and the speakers' ids alone.

    Raises:
        ConfigError: the fraction does not lie between 0 and 1.
        SpeakerError: there are fewer than two speakers.
    """
    speakers = manifest.speakers
    if len(speakers) < 2:
        raise SpeakerError(f"cannot hold out speakers: the data has {len(speakers)}, two are needed")
    chosen = set(_shuffled(speakers, seed)[: _part(len(speakers), fraction)])
    return HeldOut(manifest.where(lambda u: u.speaker not in chosen), manifest.where(lambda u: u.speaker in chosen))


def hold_out_utterances(manifest: Manifest, *, fraction: float, seed: int) -> HeldOut:
    """Hold out a share of every speaker's utterances; one who has a single utterance keeps it.

    Raises:
        ConfigError: the fraction does not lie between 0 and 1.
    """
    chosen: set[str] = set()
    for utterances in _by_speaker(manifest).values():
        ids = [utterance.id for utterance in utterances]
        chosen.update(_shuffled(ids, seed)[: _part(len(ids), fraction)] if len(ids) > 1 else ())
    return HeldOut(manifest.where(lambda u: u.id not in chosen), manifest.where(lambda u: u.id in chosen))


def enrolment_split(
    manifest: Manifest,
    *,
    num_utterances: int | None = None,
    seconds: Seconds | None = None,
    fraction: float | None = None,
    shuffle: int | None = None,
) -> EnrolmentSplit:
    """Split every speaker's utterances, in the order of their ids, into the first ones and the rest.

    Args:
        manifest: any number of speakers.
        num_utterances: adapt on this many utterances.
        seconds: adapt on the first utterances that together last at least this long.
        fraction: adapt on this share of the utterances, at least one.
        shuffle: order them by chance instead, with this seed.

    Raises:
        ConfigError: not exactly one of the three is given, or its value cannot work.
        SpeakerError: a speaker has too little speech, so nothing would be left to evaluate.
    """
    count = _counter(num_utterances, seconds, fraction)
    chosen: set[str] = set()
    for speaker, utterances in _by_speaker(manifest, shuffle).items():
        num_chosen = count(utterances)
        if num_chosen >= len(utterances):
            raise SpeakerError(
                f"speaker {speaker!r} has {len(utterances)} utterances and adaptation takes {num_chosen} of them: "
                "none is left to evaluate; enrol on less"
            )
        chosen.update(utterance.id for utterance in utterances[:num_chosen])
    return EnrolmentSplit(
        manifest.where(lambda utterance: utterance.id in chosen), manifest.where(lambda u: u.id not in chosen)
    )


def first_utterances(
    manifest: Manifest,
    *,
    num_utterances: int | None = None,
    seconds: Seconds | None = None,
    shuffle: int | None = None,
) -> Manifest:
    """Every speaker's first utterances, in the order of their ids; all of them where there are not so many.

    Args:
        manifest: any number of speakers.
        num_utterances: take this many.
        seconds: take as many as together last at least this long; without any amount all are taken.
        shuffle: order them by chance instead, with this seed.

    Raises:
        ConfigError: both amounts are given, or one cannot work.
        AudioError: a recording whose length is needed cannot be read.
    """
    if num_utterances is None and seconds is None:
        return manifest
    count = _counter(num_utterances, seconds, None)
    chosen = {one.id for own in _by_speaker(manifest, shuffle).values() for one in own[: count(own)]}
    return manifest.where(lambda utterance: utterance.id in chosen)


def duration(utterance: Utterance) -> Seconds:
    """Length of an utterance; the header of its recording is read where the manifest does not say it.

    Raises:
        AudioError: the recording cannot be read.
    """
    end = audio_info(utterance.recording).duration if utterance.end is None else utterance.end
    return end - utterance.start


def _counter(
    num_utterances: int | None, seconds: Seconds | None, fraction: float | None
) -> Callable[[list[Utterance]], int]:
    if sum(choice is not None for choice in (num_utterances, seconds, fraction)) != 1:
        raise ConfigError(
            "enrolment needs exactly one of num_utterances, seconds and fraction; "
            f"got num_utterances={num_utterances}, seconds={seconds}, fraction={fraction}"
        )
    if num_utterances is not None:
        if num_utterances < 1:
            raise ConfigError(f"num_utterances must be at least 1, got {num_utterances}")
        return lambda utterances: num_utterances
    if seconds is not None:
        if seconds <= 0:
            raise ConfigError(f"seconds must be positive, got {seconds}")
        return lambda utterances: _num_lasting(utterances, seconds)
    assert fraction is not None
    _check_fraction(fraction)
    return lambda utterances: max(1, int(fraction * len(utterances) + 1e-9))


def _num_lasting(utterances: Iterable[Utterance], seconds: Seconds) -> int:
    """How many of the first utterances last that long together; all of them when they do not."""
    total, count = 0.0, 0
    for utterance in utterances:
        total, count = total + duration(utterance), count + 1
        if total >= seconds:
            return count
    return count


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ConfigError(f"fraction must lie between 0 and 1, got {fraction}")


def _part(count: int, fraction: float) -> int:
    _check_fraction(fraction)
    return min(max(1, round(fraction * count)), count - 1)


def _shuffled(ids: Iterable[str], seed: int) -> list[str]:
    return sorted(ids, key=lambda identifier: (hashlib.sha256(f"{seed} {identifier}".encode()).digest(), identifier))


def _by_speaker(manifest: Manifest, shuffle: int | None = None) -> dict[str, list[Utterance]]:
    utterance_of = {utterance.id: utterance for utterance in manifest}
    speakers: dict[str, list[Utterance]] = {speaker: [] for speaker in manifest.speakers}
    for name in sorted(utterance_of) if shuffle is None else _shuffled(utterance_of, shuffle):
        speakers[utterance_of[name].speaker].append(utterance_of[name])
    return speakers
