"""Log-mel filterbanks, by Kaldi's definition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.features.framing import Framing, check_framing, kaldi_feats
from lhuc_asr.units import Hertz


@dataclass(kw_only=True, slots=True)
class FbankConfig(Framing):
    """Settings of a filterbank."""

    num_mel_bins: int = 40

    def __post_init__(self) -> None:
        check_framing(self, "features.fbank")


def fbank(
    samples: NDArray[np.float32], sampling_rate: Hertz, config: FbankConfig | None = None, **warping: float
) -> NDArray[np.float32]:
    """Log-mel filterbank energies, with Kaldi's numbers (no dither, frames centred: ``snip_edges=false``).

    Args:
        samples: (N,) waveform in [-1, 1].
        sampling_rate: of the waveform.
        config: settings; None means the defaults.
        warping: of the mel filters, as torchaudio names it.

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
    return kaldi_feats("fbank", samples, sampling_rate, config or FbankConfig(), **warping)
