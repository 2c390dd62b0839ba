"""Vocal tracts of other lengths: features from a mel filterbank whose filters are shifted, as in Kaldi's VTLN."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.data.audio import Samples
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.framing import Framing
from lhuc_asr.features.pipeline import FeatureConfig, compute_feats
from lhuc_asr.units import Hertz

_MARGIN_LOW_HZ = 80.0
_MARGIN_HIGH_HZ = 500.0


def warped_feats(samples: Samples, config: FeatureConfig, warp: float) -> NDArray[np.float32]:
    """Features of one utterance as if the speaker's vocal tract had another length, before normalisation.

    Between the filterbank's edges every frequency is heard ``warp`` times as high; towards the edges the factor goes
    back to 1, so that the same band is covered.

    Args:
        samples: (N,) waveform in [-1, 1], at ``config.sampling_rate``.
        config: what to compute.
        warp: above 1 is a shorter vocal tract, with higher formants; 1 gives `compute_feats`.

    Returns:
        (T, config.dim) features.

    Raises:
        ConfigError: the warp is not above 0.5 and below 2, or the filterbank covers less than 1 kHz.
        DataError: the waveform is shorter than one frame or not finite.

    Source: Kaldi's ``--vtln-warp`` with inflection points 80 Hz and 500 Hz inside the band (Kaldi's defaults at
    ``--low-freq=20 --high-freq=0``); drawn at random: Jaitly & Hinton 2013, "Vocal Tract Length Perturbation improves
    speech recognition".

    Example:
        >>> tone = np.sin(np.arange(16000, dtype=np.float32) / 5)
        >>> warped_feats(tone, FeatureConfig(), 1.1).shape
        (100, 40)
    """
    if not 0.5 < warp < 2:
        raise ConfigError(f"the warp of a vocal tract must be above 0.5 and below 2, got {warp}")
    if warp == 1:
        return compute_feats(samples, config)
    inflections = _inflections(config.framing, config.sampling_rate)
    return compute_feats(samples, config, vtln_warp=warp, **inflections)


def require_warp(warp: float, group: str) -> None:
    """Refuse a setting ``warp`` for vocal tracts of lengths from 1 - warp to 1 + warp where some could not be had.

    Raises:
        ConfigError: it is less than 0, or so much that the shortest is half as long or less.
    """
    if not 0 <= warp < 0.5:
        raise ConfigError(f"{group}.warp must be at least 0 and below 0.5, got {warp}")


def _inflections(framing: Framing, sampling_rate: Hertz) -> dict[str, float]:
    """Between which frequencies the warp holds in full."""
    high = framing.highest_freq(sampling_rate)
    if high - framing.low_freq < 1000:
        raise ConfigError(
            f"a filterbank from {framing.low_freq:g} to {high:g} Hz is too narrow to warp; it needs 1000 Hz"
        )
    return {"vtln_low": framing.low_freq + _MARGIN_LOW_HZ, "vtln_high": high - _MARGIN_HIGH_HZ}
