"""Mel-frequency cepstral coefficients, by Kaldi's definition: what the GMM sees that makes the first alignments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError
from lhuc_asr.features.framing import Framing, check_framing, kaldi_feats
from lhuc_asr.units import Hertz


@dataclass(kw_only=True, slots=True)
class MfccConfig(Framing):
    """Settings of MFCCs.

    Attributes:
        num_ceps: coefficients, the zeroth (or the energy) among them.
        num_mel_bins: filters below the cosine transform.
        use_energy: put the log energy of the frame in the place of the zeroth coefficient.
    """

    num_ceps: int = 13
    num_mel_bins: int = 23
    use_energy: bool = False

    def __post_init__(self) -> None:
        check_framing(self, "features.mfcc")
        if not 1 <= self.num_ceps <= self.num_mel_bins:
            raise ConfigError(
                f"features.mfcc.num_ceps must be from 1 to num_mel_bins={self.num_mel_bins}, got {self.num_ceps}"
            )


def mfcc(
    samples: NDArray[np.float32], sampling_rate: Hertz, config: MfccConfig | None = None, **warping: float
) -> NDArray[np.float32]:
    """Cepstral coefficients, with Kaldi's numbers (no dither, frames centred, lifter 22).

    Args:
        samples: (N,) waveform in [-1, 1].
        sampling_rate: of the waveform.
        config: settings; None means the defaults.
        warping: of the mel filters, as torchaudio names it.

    Returns:
        (T, num_ceps) coefficients; one frame per shift, N / shift rounded.

    Raises:
        DataError: the waveform is shorter than one frame or not finite.

    Source: Kaldi's ``compute-mfcc-feats``, through torchaudio.

    Example:
        >>> tone = np.sin(np.arange(16000, dtype=np.float32) / 5)
        >>> mfcc(tone, 16000).shape
        (100, 13)
    """
    config = config or MfccConfig()
    own = {"num_ceps": config.num_ceps, "use_energy": config.use_energy, "energy_floor": 0.0}
    return kaldi_feats("mfcc", samples, sampling_rate, config, **own, **warping)
