"""Log-mel filterbanks, by Kaldi's definition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.features.framing import check_framing, kaldi_feats
from lhuc_asr.units import Hertz


@dataclass(kw_only=True, slots=True)
class FbankConfig:
    """Settings of a filterbank.

    Attributes:
        num_mel_bins: triangular filters, equally wide on the mel scale.
        frame_length_ms: length of the analysis window.
        frame_shift_ms: from one frame to the next.
        low_freq: lower edge of the lowest filter, in hertz.
        high_freq: upper edge of the highest filter, in hertz; 0 or less counts from half the sampling rate.
    """

    num_mel_bins: int = 40
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    low_freq: float = 20.0
    high_freq: float = 0.0

    def __post_init__(self) -> None:
        check_framing(self, "features.fbank")


def fbank(samples: NDArray[np.float32], sampling_rate: Hertz, config: FbankConfig | None = None) -> NDArray[np.float32]:
    """Log-mel filterbank energies, with Kaldi's numbers (no dither, frames centred: ``snip_edges=false``).

    Args:
        samples: (N,) waveform in [-1, 1].
        sampling_rate: of the waveform.
        config: settings; None means the defaults.

    Returns:
        (T, num_mel_bins) natural logarithms; one frame per shift, N / shift rounded.

    Raises:
        DataError: the waveform is shorter than one frame or not finite.

    Source: Kaldi's ``compute-fbank-feats``, through torchaudio.

    Example:
        >>> tone = np.sin(np.arange(16000, dtype=np.float32) / 5)
        >>> fbank(tone, 16000).shape
        (100, 40)
    """
    return kaldi_feats("fbank", samples, sampling_rate, config or FbankConfig())
