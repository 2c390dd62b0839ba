"""Perceptual linear prediction, by Kaldi's definition: the paper's features of TED talks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError
from lhuc_asr.features.framing import Framing, check_framing, filter_centres, kaldi_feats
from lhuc_asr.ranges import require_at_least
from lhuc_asr.units import Hertz

# Letters of the shapes: T frames, M mel filters, P order of the prediction, C coefficients.

_LOUDNESS = 1 / 3
_LIFTER = 22
_FLOOR = float(np.finfo(np.float32).eps)


@dataclass(kw_only=True, slots=True)
class PlpConfig(Framing):
    """Settings of PLPs.

    Attributes:
        num_ceps: coefficients, the zeroth (or the energy) among them.
        num_mel_bins: filters of the spectrum whose envelope is predicted.
        lpc_order: poles of the envelope.
        use_energy: put the log energy of the frame in the place of the zeroth coefficient, which is the logarithm of
            what the prediction leaves.
    """

    num_ceps: int = 13
    num_mel_bins: int = 23
    lpc_order: int = 12
    use_energy: bool = False

    def __post_init__(self) -> None:
        check_framing(self, "features.plp")
        require_at_least(1, self, "features.plp", "num_ceps")
        if not self.num_ceps - 1 <= self.lpc_order <= self.num_mel_bins:
            raise ConfigError(
                f"features.plp.lpc_order must be from num_ceps - 1 = {self.num_ceps - 1} to "
                f"num_mel_bins = {self.num_mel_bins}, got {self.lpc_order}"
            )


def plp(
    samples: NDArray[np.float32], sampling_rate: Hertz, config: PlpConfig | None = None, **warping: float
) -> NDArray[np.float32]:
    """Cepstra of an all-pole envelope of the loudness spectrum, by Kaldi's definition (frames centred, lifter 22).

    Args:
        samples: (N,) waveform in [-1, 1].
        sampling_rate: of the waveform.
        config: settings; None means the defaults.
        warping: of the mel filters, as torchaudio names it.

    Returns:
        (T, num_ceps) coefficients; one frame per shift, N / shift rounded.

    Raises:
        DataError: the waveform is shorter than one frame or not finite.

    Source: Hermansky 1990, "Perceptual linear predictive (PLP) analysis of speech"; Kaldi's ``compute-plp-feats``.

    Example:
        >>> tone = np.sin(np.arange(16000, dtype=np.float32) / 5)
        >>> plp(tone, 16000).shape
        (100, 13)
    """
    config = config or PlpConfig()
    asked = {"use_log_fbank": False, "use_energy": True, "energy_floor": 0.0, **warping}
    feats_TM = kaldi_feats("fbank", samples, sampling_rate, config, **asked).astype(np.float64)
    energy_T, power_TM = feats_TM[:, 0], np.maximum(feats_TM[:, 1:], _FLOOR)
    loudness_TM = (power_TM * _equal_loudness(filter_centres(config, sampling_rate, **warping))) ** _LOUDNESS
    residual_T, lpc_TP = _predicted(loudness_TM, config.lpc_order)
    first_T = energy_T if config.use_energy else np.log(np.maximum(residual_T, _FLOOR))
    cepstra_TC = np.column_stack([first_T, _cepstra(lpc_TP)[:, : config.num_ceps - 1]])
    lifter_C = 1 + 0.5 * _LIFTER * np.sin(np.pi * np.arange(config.num_ceps) / _LIFTER)
    return (cepstra_TC * lifter_C).astype(np.float32)


def _equal_loudness(hertz_M: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) how loud each frequency is to the ear."""
    square = hertz_M**2
    loudness: NDArray[np.float64] = (square / (square + 1.6e5)) ** 2 * (square + 1.44e6) / (square + 9.61e6)
    return loudness


def _predicted(loudness_TM: NDArray[np.float64], order: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(T,) what linear prediction leaves, and its (T, P) coefficients a_1 to a_P, with a_0 = 1."""
    spectrum = np.concatenate([loudness_TM[:, :1], loudness_TM, loudness_TM[:, -1:]], axis=1)  # as at the edges
    correlation = np.fft.irfft(spectrum, axis=1)[:, : order + 1]
    lags_PP = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    solution_TP1 = np.linalg.solve(correlation[:, lags_PP], correlation[:, 1:, None])
    lpc_TP = -np.asarray(solution_TP1[..., 0], dtype=np.float64)
    residual_T: NDArray[np.float64] = correlation[:, 0] + (lpc_TP * correlation[:, 1:]).sum(axis=1)
    return residual_T, lpc_TP


def _cepstra(lpc_TP: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, P) coefficients c_1 to c_P of the logarithm of the envelope."""
    cepstra_TP = -lpc_TP
    for n in range(1, lpc_TP.shape[1]):
        weights = np.arange(1, n + 1) / (n + 1)
        cepstra_TP[:, n] -= (weights * cepstra_TP[:, :n] * lpc_TP[:, n - 1 :: -1]).sum(axis=1)
    return cepstra_TP
