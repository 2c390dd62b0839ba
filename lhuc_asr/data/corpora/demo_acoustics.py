"""What happens between a demo speaker's mouth and the sound file: vocal tract, room, microphone, noise, level."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.signal import fftconvolve, resample_poly

from lhuc_asr.data.corpora.demo_speakers import DemoSpeaker
from lhuc_asr.units import Hertz, seconds_to_samples

Samples = NDArray[np.float32]
Generator = np.random.Generator

_UP = 160  # the resampling ratio is rounded to a fraction of this numerator: the filter stays short
_DELAY = 64  # samples, so that the microphone's response may begin before its peak
_PAUSE_S = (0.1, 0.3)
_PEAK_DB = (-20.0, -3.0)


def record(
    samples: Samples, sampling_rate: Hertz, speaker: DemoSpeaker, *, to: Hertz, random_source: Generator
) -> Samples:
    """What the microphone hears of one rendered utterance.

    Args:
        samples: (N,) in [-1, 1], the synthesiser's voice.
        to: sampling rate of the result.

    Returns:
        (M,) float32 in [-1, 1] with pauses at both ends.
    """
    speech = move_formants(samples, sampling_rate, speaker.formant_factor, to=to)
    before, after = (seconds_to_samples(pause, to) for pause in random_source.uniform(*_PAUSE_S, size=2))
    speech = np.pad(speech, (before, after))
    heard = fftconvolve(speech, room_response(speaker, to), mode="full")[: len(speech)]
    heard = heard + coloured_noise(len(heard), speaker.noise_slope, random_source) * _noise_gain(heard, speaker.snr_db)
    peak = 10 ** (random_source.uniform(*_PEAK_DB) / 20)
    return np.asarray(heard * (peak / max(float(np.abs(heard).max()), 1e-9)), dtype=np.float32)


def move_formants(samples: Samples, sampling_rate: Hertz, factor: float, *, to: Hertz) -> Samples:
    """Resample as if the speech had been taken at another rate: formants, pitch and pace rise by ``factor``."""
    down = round(_UP * sampling_rate * factor / to)
    common = int(np.gcd(_UP, down))
    moved = resample_poly(samples, _UP // common, down // common)
    return np.asarray(moved, dtype=np.float32)


@lru_cache(maxsize=4)
def room_response(speaker: DemoSpeaker, sampling_rate: Hertz) -> Samples:
    """(K,) impulse response of the speaker's room and microphone, of unit energy; the same for every utterance."""
    random_source = np.random.default_rng(speaker.seed)
    time = np.arange(max(seconds_to_samples(speaker.echo, sampling_rate), 64)) / sampling_rate
    echo = random_source.standard_normal(len(time)) * 10 ** (-3 * time / max(speaker.echo, 1e-3))
    echo *= 0.5 / np.linalg.norm(echo)
    echo[0] = 1.0
    length = next_fast_len(len(echo) + 2 * _DELAY, real=True)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(length, 1 / sampling_rate), 62.5) / 1000.0)
    response = np.roll(np.fft.irfft(np.fft.rfft(echo, length) * 10 ** (speaker.tilt_db * octaves / 20), length), _DELAY)
    return np.asarray(response / np.linalg.norm(response), dtype=np.float32)


def coloured_noise(num_samples: int, slope: float, random_source: Generator) -> Samples:
    """(N,) noise of unit power whose spectrum falls as one over frequency to the power of ``slope``."""
    length = next_fast_len(num_samples, real=True)
    spectrum = np.fft.rfft(random_source.standard_normal(length))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-slope / 2)
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, length)[:num_samples]
    return np.asarray(noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12), dtype=np.float32)


def _noise_gain(speech: Samples, snr_db: float) -> float:
    return float(np.sqrt(np.mean(speech**2)) * 10 ** (-snr_db / 20))
