"""What filterbanks and cepstra share: frames, mel filters, and what is asked of torchaudio for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.ranges import require_at_least
from lhuc_asr.units import Hertz, Milliseconds, samples_to_seconds, seconds_to_samples

SIXTEEN_BIT = 32768.0


@dataclass(kw_only=True, slots=True)
class Framing:
    """How a waveform is cut into frames, and which filters look at each of them.

    Attributes:
        num_mel_bins: triangular filters, equally wide on the mel scale.
        frame_length_ms: length of the analysis window.
        frame_shift_ms: from one frame to the next.
        low_freq: lower edge of the lowest filter, in hertz.
        high_freq: upper edge of the highest filter, in hertz; 0 or less counts from half the sampling rate.
    """

    num_mel_bins: int
    frame_length_ms: Milliseconds = 25.0
    frame_shift_ms: Milliseconds = 10.0
    low_freq: float = 20.0
    high_freq: float = 0.0

    def highest_freq(self, sampling_rate: Hertz) -> float:
        """Upper edge of the highest filter in audio of this rate, in hertz."""
        return self.high_freq if self.high_freq > 0 else sampling_rate / 2 + self.high_freq

    def shortest(self, sampling_rate: Hertz) -> int:
        """Samples of one frame; a waveform with fewer has no features."""
        return seconds_to_samples(self.frame_length_ms / 1000, sampling_rate)


def kaldi_feats(
    kind: Literal["fbank", "mfcc"],
    samples: NDArray[np.float32],
    sampling_rate: Hertz,
    config: Framing,
    **more: Any,
) -> NDArray[np.float32]:
    """Features with Kaldi's numbers: no dither, frames centred (``snip_edges=false``), waveforms in 16-bit range.

    Args:
        kind: which of torchaudio's functions.
        samples: (N,) waveform in [-1, 1].
        sampling_rate: of the waveform.
        config: frames and filters.
        more: what this kind alone is asked.

    Returns:
        (T, F) contiguous; one frame per shift, N / shift rounded.

    Raises:
        DataError: the waveform is shorter than one frame or not finite.
    """
    compute = getattr(import_torchaudio("compliance.kaldi"), kind)
    feats = compute(
        _checked_wave(samples, sampling_rate, config),
        sample_frequency=float(sampling_rate),
        frame_length=config.frame_length_ms,
        frame_shift=config.frame_shift_ms,
        num_mel_bins=config.num_mel_bins,
        low_freq=config.low_freq,
        high_freq=config.high_freq,
        dither=0.0,
        snip_edges=False,
        **more,
    )
    return np.ascontiguousarray(feats.numpy(), dtype=np.float32)


def filter_centres(
    config: Framing, sampling_rate: Hertz, *, vtln_warp: float = 1.0, vtln_low: float = 100.0, vtln_high: float = -500.0
) -> NDArray[np.float64]:
    """(M,) where the mel filters of `kaldi_feats` are highest, in hertz; the warping as torchaudio names it."""
    _, centres_M1 = import_torchaudio("compliance.kaldi").get_mel_banks(
        num_bins=config.num_mel_bins,
        window_length_padded=2,  # of the spectrum that is filtered, which is not asked for
        sample_freq=float(sampling_rate),
        low_freq=config.low_freq,
        high_freq=config.high_freq,
        vtln_low=vtln_low,
        vtln_high=vtln_high,
        vtln_warp_factor=vtln_warp,
    )
    centres_M: NDArray[np.float64] = centres_M1.flatten().double().numpy()
    return centres_M


def check_framing(config: Framing, name: str) -> None:
    """Refuse filters, windows and frequencies that cannot work at any sampling rate."""
    require_at_least(4, config, name, "num_mel_bins")
    if not 0 < config.frame_shift_ms <= config.frame_length_ms:
        raise ConfigError(
            f"{name}: frame_shift_ms must be above 0 and at most frame_length_ms, "
            f"got {config.frame_shift_ms} and {config.frame_length_ms}"
        )
    if config.low_freq < 0 or 0 < config.high_freq <= config.low_freq:
        raise ConfigError(
            f"{name}: low_freq must be at least 0 and below high_freq, got {config.low_freq} and {config.high_freq}"
        )


def check_nyquist(config: Framing, sampling_rate: Hertz, name: str) -> None:
    """Refuse a highest frequency that this sampling rate cannot represent, or that lies below the lowest."""
    nyquist = sampling_rate / 2
    if not config.low_freq < config.highest_freq(sampling_rate) <= nyquist:
        raise ConfigError(
            f"{name}: low_freq={config.low_freq} and high_freq={config.high_freq} do not fit audio of "
            f"{sampling_rate} Hz, which ends at {nyquist:g} Hz"
        )


def _checked_wave(samples: NDArray[np.float32], sampling_rate: Hertz, config: Framing) -> torch.Tensor:
    """(1, N) the waveform in 16-bit range, after making sure that it can be analysed."""
    if samples.ndim != 1:
        raise DataError(f"a waveform has one dimension, found shape {samples.shape}")
    shortest = config.shortest(sampling_rate)
    if len(samples) < shortest:
        raise DataError(
            f"{len(samples)} samples ({samples_to_seconds(len(samples), sampling_rate):.3f} s) are too short: "
            f"one frame needs {shortest} ({config.frame_length_ms:g} ms)"
        )
    if not np.isfinite(samples).all():
        bad = np.flatnonzero(~np.isfinite(samples))
        raise DataError(f"{len(bad)} of {len(samples)} samples are not finite, the first is number {bad[0]}")
    return torch.from_numpy(samples.astype(np.float32) * np.float32(SIXTEEN_BIT))[None]
