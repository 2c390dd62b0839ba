"""Pictures of utterances."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lhuc_asr.errors import DataError
from lhuc_asr.features.spectrogram import draw_spectrogram, spectrogram_db

TONE = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000)).astype(np.float32)


@dataclass(frozen=True)
class Word:
    text: str
    start: float
    duration: float


def test_a_tone_is_loudest_at_its_frequency() -> None:
    decibels = spectrogram_db(TONE, 16000)
    hertz_per_bin = 8000 / (len(decibels) - 1)
    assert decibels[:, 10:-10].argmax(axis=0) * hertz_per_bin == pytest.approx(1000, abs=hertz_per_bin)
    assert decibels.max() == 0 and decibels.min() >= -80


def test_a_picture_is_written_with_words_and_speech(tmp_path: Path) -> None:
    import matplotlib.image

    words = [Word("HELLO", 0.1, 0.2), Word("$x_{", 0.3, 0.1)]
    draw_spectrogram(TONE, 16000, tmp_path / "plain.png")
    draw_spectrogram(TONE, 16000, tmp_path / "marked.png", marks=words, speech=[(0.1, 0.4)], title="a$b$_1")
    plain, marked = (matplotlib.image.imread(tmp_path / f"{name}.png") for name in ("plain", "marked"))
    assert plain.shape[0] == marked.shape[0] == 400 and plain.shape[1] == marked.shape[1] == 600
    assert not np.array_equal(plain, marked)


def test_no_samples_no_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no samples"):
        draw_spectrogram(TONE[:0], 16000, tmp_path / "none.png")
    assert not list(tmp_path.iterdir())
