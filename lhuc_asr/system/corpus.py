"""The features of a corpus as a model sees them: computed once, stored, normalised when they are read."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.data.audio import audio_info, read_audio
from lhuc_asr.data.audio_check import LEAST_SPEECH
from lhuc_asr.data.manifest import Manifest, Utterance
from lhuc_asr.data.problems import ProblemKind
from lhuc_asr.data.speech_activity import seconds_of_speech
from lhuc_asr.data.validation import CheckConfig, check
from lhuc_asr.errors import AudioError, DataError
from lhuc_asr.features.cmvn import NormalisedFeatures
from lhuc_asr.features.extraction import extract
from lhuc_asr.features.pipeline import FeatureConfig, compute_feats
from lhuc_asr.files import read_json, write_json
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.progress import track
from lhuc_asr.training.processes.distributed import first_alone
from lhuc_asr.units import Hertz, Seconds, seconds_to_samples

logger = logging.getLogger(__name__)

_UNUSABLE = "unusable.json"

_HARMLESS = {ProblemKind.sampling_rate, ProblemKind.silent}
"""What `check` finds that features can be taken from all the same."""


def corpus_feats(
    manifest: Manifest, config: FeatureConfig, directory: Path, *, num_jobs: int = 1
) -> NormalisedFeatures:
    """Utterance id -> (T, F) normalised features, extracted where that was not done before.

    Args:
        manifest: which speech.
        config: which features; the mode of normalisation is part of it.
        directory: where they are stored.
        num_jobs: processes.

    Raises:
        AudioError: a recording cannot be read, or its sampling rate is below that of the features.
        DataError: an utterance is too short for one frame.
    """
    utterance_of = {utterance.id: utterance for utterance in manifest}
    with first_alone():
        store = extract(
            list(utterance_of),
            lambda utterance: read_samples(utterance_of[utterance], config.sampling_rate),
            config,
            directory,
            source_key=source_key(manifest),
            num_jobs=num_jobs,
        )
    return NormalisedFeatures(store, manifest.speaker_of, config.cmvn)


def read_samples(utterance: Utterance, sampling_rate: Hertz) -> NDArray[np.float32]:
    """(N,) the waveform of an utterance at the rate that features need.

    Raises:
        AudioError: the audio cannot be read, or its own rate is lower.
    """
    _require_rate(utterance, sampling_rate)
    return read_audio(utterance, sampling_rate=sampling_rate)


@dataclass(frozen=True)
class UsableSpeech:
    """The part of a corpus that features could be taken from.

    Attributes:
        manifest: the utterances that can be used.
        feats: their normalised features.
        unusable: utterance id -> why it cannot be used.
    """

    manifest: Manifest
    feats: NormalisedFeatures
    unusable: dict[str, str]


def usable_feats(manifest: Manifest, config: FeatureConfig, directory: Path, *, num_jobs: int = 1) -> UsableSpeech:
    """Features of all utterances whose audio is sound; the others are told, not skipped in silence.

    Args:
        manifest: which speech.
        config: which features.
        directory: where they are stored, and remembered which audio is bad.
        num_jobs: processes.

    Raises:
        AudioError, DataError: no utterance is usable.
    """
    unusable = _recall(directory, manifest, config)
    while True:
        good = manifest.where(lambda utterance: utterance.id not in unusable)
        try:
            feats = corpus_feats(good, config, directory, num_jobs=num_jobs)
            break
        except (AudioError, DataError):
            found = _unusable(good, config, num_jobs) or _failing(good, config, num_jobs)
            unusable.update(found)
            if not found or len(unusable) == len(manifest):
                raise
            write_json(directory / _UNUSABLE, {"sources": _digest(manifest, config), "unusable": unusable})
    if unusable:
        logger.warning("%d of %d utterances cannot be used", len(unusable), len(manifest))
    return UsableSpeech(good, feats, unusable)


def source_key(manifest: Manifest) -> str:
    """A text that changes when the audio of an utterance does."""
    return "\n".join(map(_source, manifest))


def quiet_speakers(manifest: Manifest, *, at_least: Seconds) -> dict[str, Seconds]:
    """Speaker -> seconds of sound, of those who make less of it than is asked for.

    What a search takes for words is no proof that somebody spoke: features are normalised, so silence looks as large
    as speech. Each speaker is listened to only until it is enough.

    Args:
        manifest: utterances that can be read.
        at_least: seconds of speech, pauses not counted; 0 asks for any sound at all.
    """
    heard = dict.fromkeys(manifest.speakers, 0.0)
    enough = max(at_least, LEAST_SPEECH)
    for utterance in manifest:
        if heard[utterance.speaker] < enough:
            sampling_rate = audio_info(utterance.recording).sampling_rate
            heard[utterance.speaker] += seconds_of_speech(read_audio(utterance), sampling_rate)
    return {speaker: seconds for speaker, seconds in heard.items() if seconds < enough}


def _recall(directory: Path, manifest: Manifest, config: FeatureConfig) -> dict[str, str]:
    """What an earlier run found unusable in the same audio."""
    try:
        page = read_json(directory / _UNUSABLE)
        return dict(page["unusable"]) if page["sources"] == _digest(manifest, config) else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _digest(manifest: Manifest, config: FeatureConfig) -> str:
    ids = "\n".join(utterance.id for utterance in manifest)
    return hashlib.sha256(f"{config}\n{ids}\n{source_key(manifest)}".encode()).hexdigest()


def _unusable(manifest: Manifest, config: FeatureConfig, num_jobs: int) -> dict[str, str]:
    """Utterance id -> what is wrong with its audio."""
    checked = check(manifest, CheckConfig(allow_commands=True, num_jobs=num_jobs))
    wrong = (problem for problem in checked.problems if problem.kind not in _HARMLESS)
    found = {identifier: problem.text for problem in wrong for identifier in problem.utterances}
    rate, framing = config.sampling_rate, config.framing
    for utterance in manifest:
        seconds = checked.seconds.get(utterance.id, 0.0)
        if utterance.id in found:
            continue
        if seconds_to_samples(seconds, rate) < framing.shortest(rate):
            least = f"less than one frame ({framing.frame_length_ms:g} ms)"
            found[utterance.id] = f"utterance {utterance.id!r} lasts {seconds:.4f} s, {least}"
            continue
        try:
            _require_rate(utterance, rate)
        except AudioError as error:
            found[utterance.id] = str(error)
    return found


def _failing(manifest: Manifest, config: FeatureConfig, num_jobs: int) -> dict[str, str]:
    """Utterance id -> why its features cannot be computed, for reasons that nobody looks for beforehand."""

    def tried(utterance: Utterance) -> tuple[str, str]:
        try:
            compute_feats(read_samples(utterance, config.sampling_rate), config)
        except AudioError as error:
            return utterance.id, str(error)
        except DataError as error:
            return utterance.id, f"utterance {utterance.id!r}: {error}"
        return utterance.id, ""

    results = map_in_processes(tried, manifest, num_jobs=num_jobs)
    return {name: reason for name, reason in track(results, "trying utterances", total=len(manifest)) if reason}


def _require_rate(utterance: Utterance, sampling_rate: Hertz) -> None:
    """Refuse audio whose upper band is empty for the model; audio of a higher rate is converted."""
    found = audio_info(utterance.recording).sampling_rate
    if found < sampling_rate:
        raise AudioError(
            f"the audio of {utterance.id!r} has {found} Hz, the features need {sampling_rate} Hz or more: "
            f"use a model of {found} Hz (features.sampling_rate), or convert the audio yourself"
        )


def _source(utterance: Utterance) -> str:
    """What changes when the audio of an utterance does: its file, and when that was written."""
    recording = utterance.recording
    path = Path(recording.source)
    changed = "" if recording.is_command or not path.is_file() else path.stat().st_mtime_ns
    return f"{recording.source} {changed} {recording.channel} {utterance.start} {utterance.end}"
