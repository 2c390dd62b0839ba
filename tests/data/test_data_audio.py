"""Sound files: every format, channel, stretch and rate, pipes, and files that are no good."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lhuc_asr.data.audio import audio_info, read_audio, resample, write_audio
from lhuc_asr.data.manifest import Recording, Utterance
from lhuc_asr.errors import AudioError

RATE = 16000


def tone(seconds: float, frequency: float = 440.0, rate: int = RATE) -> NDArray[np.float32]:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def utterance(path: Path | str, start: float = 0.0, end: float | None = None, channel: int = 0) -> Utterance:
    return Utterance("u", Recording("u", str(path), channel), "s", start, end)


def command(text: str) -> Utterance:
    return Utterance("u", Recording("u", text, is_command=True), "s")


@pytest.mark.parametrize(
    ("suffix", "error"), [(".wav", 4e-5), (".flac", 4e-5), (".ogg", 0.03), (".opus", 0.03), (".mp3", 0.03)]
)
def test_every_format_is_read_back(tmp_path: Path, suffix: str, error: float) -> None:
    samples = tone(0.5)
    path = tmp_path / f"a{suffix}"
    write_audio(path, samples, RATE)
    read = read_audio(utterance(path))
    assert read.dtype == np.float32
    assert read.shape == samples.shape
    assert np.abs(read - samples)[800:-800].max() < error
    info = audio_info(Recording("u", str(path)))
    assert (info.sampling_rate, info.num_samples, info.num_channels, info.duration) == (RATE, 8000, 1, 0.5)


def test_a_channel_is_chosen(tmp_path: Path) -> None:
    left, right = tone(0.1), tone(0.1, 880)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(utterance(tmp_path / "a.wav", channel=1)), right)
    with pytest.raises(AudioError, match="channel 2; the recording has 2"):
        read_audio(utterance(tmp_path / "a.wav", channel=2))


@settings(max_examples=40, deadline=None)
@given(first=st.integers(0, 1599), length=st.integers(1, 1600))
def test_an_utterance_is_its_stretch_of_the_recording(
    first: int, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    samples = np.linspace(-0.5, 0.5, 1600, dtype=np.float32)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    last = min(1600, first + length)
    np.testing.assert_array_equal(read_audio(utterance(path, first / RATE, last / RATE)), samples[first:last])


def test_an_end_is_forgiven_a_rounding_but_no_more(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", tone(1.0), RATE)
    assert len(read_audio(utterance(tmp_path / "a.wav", 0.5, 1.01))) == 8000
    for start, end in [(0.5, 1.1), (-0.1, 0.5), (0.5, 0.5), (0.7, 0.5), (1.5, None)]:
        with pytest.raises(AudioError, match=r"the recording lasts 1\.000 s"):
            read_audio(utterance(tmp_path / "a.wav", start, end))


@pytest.mark.parametrize(("old", "new"), [(8000, 16000), (16000, 8000), (44100, 16000), (16000, 16000)])
def test_resampling_keeps_the_tone_and_the_duration(tmp_path: Path, old: int, new: int) -> None:
    write_audio(tmp_path / "a.wav", tone(0.5, rate=old), old)
    read = read_audio(utterance(tmp_path / "a.wav"), sampling_rate=new)
    assert len(read) == -(-round(0.5 * old) * new // old)
    assert np.abs(read - tone(0.5, rate=new)[: len(read)])[200:-200].max() < 2e-3


@given(length=st.integers(1, 3000))
@settings(max_examples=20, deadline=None)
def test_resampled_length(length: int) -> None:
    assert len(resample(np.ones(length, np.float32), 16000, 22050)) == -(-length * 22050 // 16000)


def test_a_command_is_read_from_memory(tmp_path: Path) -> None:
    write_audio(tmp_path / "a b.flac", tone(0.2), RATE)
    read = read_audio(command(f"cat '{tmp_path}/a b.flac' | cat"))
    np.testing.assert_array_equal(read, read_audio(utterance(tmp_path / "a b.flac")))


def test_a_wav_stream_of_unknown_length_is_whole(tmp_path: Path) -> None:
    """What ffmpeg and sox write to a pipe: the header's sizes are those of an endless file."""
    soundfile.write(tmp_path / "a.wav", tone(0.2), RATE, subtype="PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    place = data.index(b"data") + 4
    for size in (0xFFFFFFFF, 0x7FFFFFFF - 36):
        data[4:8] = data[place : place + 4] = size.to_bytes(4, "little")
        (tmp_path / "b.wav").write_bytes(data)
        assert len(read_audio(command(f"cat {tmp_path}/b.wav"))) == 3200
        assert len(read_audio(utterance(tmp_path / "b.wav"))) == 3200


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo no such device >&2; exit 3", "exit status 3: no such device"),
        ("true", "no output"),
        ("echo hello", "cannot be read"),
        (f"{sys.executable} -c 'raise SystemExit(1)'", "exit status 1"),
    ],
)
def test_a_command_that_fails_is_told(text: str, told: str) -> None:
    with pytest.raises(AudioError, match=told):
        read_audio(command(text))


def test_unusable_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "zero.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("I am no sound", encoding="utf-8")
    soundfile.write(tmp_path / "header.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.1]), RATE, subtype="FLOAT")
    for name, told in [
        ("none", "does not exist"),
        ("zero", "is empty"),
        ("text", "cannot be read"),
        ("header", "holds no samples"),
        ("nan", "not finite"),
    ]:
        with pytest.raises(AudioError, match=told) as refused:
            read_audio(utterance(tmp_path / f"{name}.wav"))
        assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus", ".mp3", ".ogg"])
def test_a_file_that_breaks_off_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_audio(path, tone(2.0) + 0.01 * np.random.default_rng(0).standard_normal(32000).astype(np.float32), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(AudioError, match=r"breaks off|cannot be read|no samples"):
        read_audio(utterance(path))


def test_writing_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"one of \.wav"):
        write_audio(tmp_path / "a.doc", tone(0.1), RATE)
    with pytest.raises(AudioError, match="11025 Hz"):
        write_audio(tmp_path / "a.opus", tone(0.1), 11025)
    assert not list(tmp_path.iterdir())
