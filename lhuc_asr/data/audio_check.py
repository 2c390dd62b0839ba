"""Listening to every recording once: can it be decoded, are its utterances inside it, and does anybody speak?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.data.audio import AudioInfo, SoundFileError, read_recording, stretch
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.data.problems import Problem, ProblemKind
from lhuc_asr.data.speech_activity import seconds_of_speech, warm_up
from lhuc_asr.files import read_json, write_json
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.progress import track
from lhuc_asr.units import Hertz, Seconds

LEAST_SPEECH: Seconds = 0.02
"""An utterance with less speech than this is silent."""

_VERSION = 1  # of what is looked for; another number listens to everything again


@dataclass(frozen=True, slots=True)
class Heard:
    """What decoding one recording showed.

    Attributes:
        recording: the recording.
        utterances: ids of the utterances in it.
        sampling_rate: its rate; None where it cannot be decoded.
        problems: what is wrong with it or them.
        seconds: utterance id -> how long it lasts, for those that lie inside it.
    """

    recording: Recording
    utterances: tuple[str, ...]
    sampling_rate: Hertz | None
    problems: list[Problem] = field(default_factory=list)
    seconds: dict[str, Seconds] = field(default_factory=dict)


def listen_to_all(manifest: Manifest, *, num_jobs: int = 1, memory: Path | None = None) -> list[Heard]:
    """Decode every recording of a manifest.

    Args:
        manifest: what to listen to.
        num_jobs: worker processes.
        memory: file that remembers which recordings were found good; those that have not changed since are not decoded
            again, so a run that was stopped continues where it was.

    Returns:
        One result for each recording, in the order of the manifest.
    """
    recordings: dict[tuple[str, bool], list[Utterance]] = {}
    for utterance in manifest:
        recordings.setdefault((utterance.recording.source, utterance.recording.is_command), []).append(utterance)
    known = _Memory.load(memory)
    heard = {key: found for key, utterances in recordings.items() if (found := known.recall(utterances))}
    new = [utterances for key, utterances in recordings.items() if key not in heard]
    if new:
        warm_up()
    results = track(
        map_in_processes(_listen, new, num_jobs=num_jobs, ahead=16), "checking audio", total=len(new), unit="recording"
    )
    try:
        for utterances, result in zip(new, results, strict=True):
            heard[(result.recording.source, result.recording.is_command)] = result
            known.add(utterances, result)
    finally:
        known.save()
    return [heard[key] for key in recordings]


def _listen(utterances: Sequence[Utterance]) -> Heard:
    """Decode the recording in which these utterances lie and look at each of them."""
    recording, ids = utterances[0].recording, tuple(utterance.id for utterance in utterances)
    try:
        channels, rate = read_recording(recording)
    except SoundFileError as error:
        return Heard(recording, ids, None, [Problem(error.kind, recording.id, str(error), ids)])
    heard = Heard(recording, ids, rate)
    for utterance in utterances:
        try:
            first, last = stretch(utterance, AudioInfo(rate, *channels.shape))
        except SoundFileError as error:
            heard.problems.append(Problem(error.kind, utterance.id, str(error), (utterance.id,)))
            continue
        heard.seconds[utterance.id] = (last - first) / rate
        heard.problems.extend(_hear(utterance, channels[first:last, utterance.recording.channel], rate))
    return heard


def _hear(utterance: Utterance, samples: NDArray[np.float32], rate: Hertz) -> Iterator[Problem]:
    identifier = utterance.id
    if bad := int(np.count_nonzero(~np.isfinite(samples))):
        text = f"{bad} of the {len(samples)} samples of utterance {identifier!r} are not finite numbers"
        yield Problem(ProblemKind.non_finite, identifier, text, (identifier,))
    elif seconds_of_speech(np.ascontiguousarray(samples), rate) < LEAST_SPEECH:
        text = f"utterance {identifier!r} is silent: {len(samples) / rate:.2f} s, none of it speech"
        yield Problem(ProblemKind.silent, identifier, text, (identifier,))


class _Memory:
    """Which files were found good, by their path, size, time of change and the stretches that were looked at."""

    def __init__(self, path: Path | None, found: dict[str, Any]) -> None:
        self._path, self._found, self._changed = path, found, False

    @classmethod
    def load(cls, path: Path | None) -> _Memory:
        try:
            stored = read_json(path) if path else {}
        except (OSError, ValueError):
            stored = {}
        valid = isinstance(stored, dict) and stored.get("version") == _VERSION
        return cls(path, dict(stored["good"]) if valid else {})

    def recall(self, utterances: Sequence[Utterance]) -> Heard | None:
        key = self._key(utterances)
        entry = self._found.get(key) if key else None
        if entry is None:
            return None
        ids = tuple(utterance.id for utterance in utterances)
        return Heard(utterances[0].recording, ids, entry[0], seconds=dict(zip(ids, entry[1], strict=True)))

    def add(self, utterances: Sequence[Utterance], heard: Heard) -> None:
        key = None if heard.problems else self._key(utterances)
        if key:
            self._found[key] = [heard.sampling_rate, list(heard.seconds.values())]
            self._changed = True

    def save(self) -> None:
        if self._path and self._changed:
            write_json(self._path, {"version": _VERSION, "good": self._found})

    def _key(self, utterances: Sequence[Utterance]) -> str | None:
        recording = utterances[0].recording
        if self._path is None or recording.is_command:
            return None
        try:
            status = Path(recording.source).stat()
        except OSError:
            return None
        stretches = [(u.start, u.end, u.recording.channel) for u in utterances]
        told = json.dumps([recording.source, status.st_size, status.st_mtime_ns, stretches])
        return hashlib.sha256(told.encode()).hexdigest()[:32]
