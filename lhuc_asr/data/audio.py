"""Sound files: the only place that opens them. WAV, FLAC, OGG (Vorbis, Opus) and MP3 through soundfile."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from lhuc_asr.data.manifest import Recording, Utterance
from lhuc_asr.data.problems import ProblemKind
from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import AudioError
from lhuc_asr.files import atomic_path
from lhuc_asr.units import Hertz, Seconds, samples_to_seconds, seconds_to_samples

Samples = NDArray[np.float32]

MAX_OVERSHOOT: Seconds = 0.02
"""An utterance may end this much after its recording, for rounded times; it is then cut there."""

_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_DECLARED_SIZE = re.compile(r"^(?:data|SSND)\s*: (\d+) \(should be (\d+)", re.MULTILINE)
_STREAMED_SIZE = 0x7FFF0000
"""Sizes from here on stand in the header of a WAV stream whose writer did not know its length."""


class SoundFileError(AudioError):
    """A sound file cannot be used; ``kind`` says in which way."""

    def __init__(self, text: str, kind: ProblemKind) -> None:
        super().__init__(text, kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header of a sound file says.

    Attributes:
        sampling_rate: samples a second.
        num_samples: samples of each channel.
        num_channels: channels.
    """

    sampling_rate: Hertz
    num_samples: int
    num_channels: int

    @property
    def duration(self) -> Seconds:
        """Length of the recording."""
        return samples_to_seconds(self.num_samples, self.sampling_rate)


def audio_info(recording: Recording) -> AudioInfo:
    """Length, sampling rate and channels of a recording, from its header; a command is run for it.

    Raises:
        AudioError: the file is missing or unreadable, or the command fails.
    """
    with _opened(recording) as sound:
        return _info(sound)


def read_audio(utterance: Utterance, *, sampling_rate: Hertz | None = None) -> Samples:
    """Read what was said in one utterance, from the channel of its recording.

    Args:
        utterance: says which file, channel and stretch.
        sampling_rate: resample to this rate; None keeps the recording's.

    Returns:
        (N,) samples in [-1, 1].

    Raises:
        AudioError: the audio is missing, unreadable, empty or breaks off; the channel does not exist; the utterance
            lies outside its recording; a sample is not a finite number.
    """
    recording = utterance.recording
    with _opened(recording) as sound:
        info = _info(sound)
        first, last = stretch(utterance, info)
        if first:
            sound.seek(first)
        channels = _read(recording, sound, last - first)
    samples = np.ascontiguousarray(channels[:, recording.channel])
    if not np.isfinite(samples).all():
        raise SoundFileError(f"{_told(utterance)} holds samples that are not finite numbers", ProblemKind.non_finite)
    return (
        samples if sampling_rate in (None, info.sampling_rate) else resample(samples, info.sampling_rate, sampling_rate)
    )


def read_recording(recording: Recording) -> tuple[Samples, Hertz]:
    """Decode a whole recording.

    Returns:
        (N, C) samples of all channels in [-1, 1], perhaps not finite, and the sampling rate.

    Raises:
        AudioError: it is missing, unreadable, empty or breaks off.
    """
    with _opened(recording) as sound:
        info = _info(sound)
        _check_not_empty(recording, info)
        return _read(recording, sound, info.num_samples), info.sampling_rate


def stretch(utterance: Utterance, info: AudioInfo) -> tuple[int, int]:
    """First sample and the one after the last of an utterance in its recording.

    Raises:
        AudioError: the recording is empty, the channel does not exist, or the utterance lies outside its recording.
    """
    _check_not_empty(utterance.recording, info)
    if not 0 <= utterance.recording.channel < info.num_channels:
        raise SoundFileError(
            f"{_told(utterance)} asks for channel {utterance.recording.channel}; "
            f"the recording has {info.num_channels}, counted from 0",
            ProblemKind.channel,
        )
    first = seconds_to_samples(utterance.start, info.sampling_rate)
    last = info.num_samples if utterance.end is None else seconds_to_samples(utterance.end, info.sampling_rate)
    overshoot = seconds_to_samples(MAX_OVERSHOOT, info.sampling_rate)
    last = info.num_samples if info.num_samples < last <= info.num_samples + overshoot else last
    if not 0 <= first < last <= info.num_samples:
        end = "its end" if utterance.end is None else f"{utterance.end:g} s"
        raise SoundFileError(
            f"{_told(utterance)} asks for {utterance.start:g} s to {end}; the recording lasts {info.duration:.3f} s",
            ProblemKind.segment,
        )
    return first, last


def resample(samples: Samples, old: Hertz, new: Hertz) -> Samples:
    """Resample by torchaudio's windowed sinc interpolation.

    Args:
        samples: (N,).
        old: sampling rate of ``samples``.
        new: sampling rate wanted.

    Returns:
        (ceil(N * new / old),).

    Raises:
        DependencyError: torchaudio cannot be loaded beside the installed torch.
    """
    import torch

    sinc_resample = import_torchaudio("functional").resample
    resampled: Samples = sinc_resample(torch.from_numpy(samples), old, new).numpy()
    return resampled


def write_audio(path: Path, samples: Samples, sampling_rate: Hertz) -> None:
    """Write a mono sound file, whole or not at all; the suffix decides the format. Louder than 1 is clipped.

    Args:
        path: ends in .wav, .flac, .ogg, .opus or .mp3.
        samples: (N,) in [-1, 1].
        sampling_rate: samples a second.

    Raises:
        AudioError: the suffix is unknown, or the format cannot hold this sampling rate.
    """
    if path.suffix.lower() not in _FORMATS:
        raise AudioError(f"cannot write {str(path)!r}: the suffix must be one of {', '.join(_FORMATS)}")
    container, coding = _FORMATS[path.suffix.lower()]
    encoded = io.BytesIO()
    try:
        soundfile.write(encoded, samples, sampling_rate, format=container, subtype=coding)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"cannot write {str(path)!r} at {sampling_rate} Hz: {error.error_string}") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.getvalue())


@contextmanager
def _opened(recording: Recording) -> Iterator[soundfile.SoundFile]:
    if recording.is_command:
        source: str | io.BytesIO = io.BytesIO(_run(recording.source))
    elif not Path(recording.source).is_file():
        raise SoundFileError(
            f"the audio of {recording.id!r} does not exist: {recording.source!r}", ProblemKind.missing_audio
        )
    elif Path(recording.source).stat().st_size == 0:
        raise SoundFileError(f"the audio of {recording.id!r} is empty: {recording.source!r}", ProblemKind.empty_audio)
    else:
        source = recording.source
    try:
        sound = soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, OSError) as error:
        raise SoundFileError(
            f"the audio of {recording.id!r} cannot be read: {recording.source!r}: {_reason(error)}",
            ProblemKind.unreadable_audio,
        ) from error
    with sound:
        yield sound


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", "") or str(error)
    return str(text).strip().rstrip(".") or "unknown reason"


@lru_cache(maxsize=2)
def _run(command: str) -> bytes:
    """Output of a command; the last ones are kept, for the other utterances of the same recording."""
    done = subprocess.run(command, shell=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode or not done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        told = f"exit status {done.returncode}" if done.returncode else "no output"
        raise SoundFileError(
            f"the command {command!r} gave {told}{': ' + said[-1] if said else ''}", ProblemKind.unreadable_audio
        )
    return done.stdout


def _info(sound: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(sound.samplerate, sound.frames, sound.channels)


def _check_not_empty(recording: Recording, info: AudioInfo) -> None:
    if info.num_samples <= 0:
        raise SoundFileError(
            f"the audio of {recording.id!r} holds no samples: {recording.source!r}", ProblemKind.empty_audio
        )


def _read(recording: Recording, sound: soundfile.SoundFile, num_samples: int) -> Samples:
    try:
        samples: Samples = sound.read(num_samples, dtype="float32", always_2d=True)
        broken_off = len(samples) < num_samples or _breaks_off(sound.extra_info)
    except soundfile.LibsndfileError:
        broken_off = True
    if broken_off:
        raise SoundFileError(
            f"the audio of {recording.id!r} breaks off or is damaged: {recording.source!r}", ProblemKind.truncated_audio
        )
    return samples


def _breaks_off(log: str) -> bool:
    """Whether the library's log of a file says that its end is missing."""
    if "without an End-Of-Stream" in log:
        return True
    declared = _DECLARED_SIZE.search(log)
    return declared is not None and int(declared[2]) < int(declared[1]) < _STREAMED_SIZE


def _told(utterance: Utterance) -> str:
    return f"utterance {utterance.id!r} of {utterance.recording.source!r}"
