"""Other speeds and levels of the same speech."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from lhuc_asr.data.audio import Samples, resample
from lhuc_asr.units import Decibels

_LARGEST_DENOMINATOR = 100


def changed_speed(samples: Samples, factor: float) -> Samples:
    """Speech played faster or slower; pitch and formants move with the speed, as on a tape.

    Args:
        samples: (N,) waveform.
        factor: above 1 is faster and higher, 0.5 to 2; kept to two decimals.

    Returns:
        (ceil(N / factor),) at the same sampling rate.

    Raises:
        DependencyError: torchaudio cannot be loaded beside the installed torch.

    Source: Ko et al. 2015, "Audio augmentation for speech recognition" (sox's ``speed``), by sinc interpolation.

    Example:
        >>> len(changed_speed(np.zeros(9000, dtype=np.float32), 0.9))
        10000
    """
    ratio = Fraction(factor).limit_denominator(_LARGEST_DENOMINATOR)
    return samples if ratio == 1 else resample(samples, ratio.numerator, ratio.denominator)


def changed_level(samples: Samples, gain_db: Decibels) -> Samples:
    """Speech louder or softer by that much; it may leave [-1, 1] and is not clipped."""
    result: Samples = (samples * np.float32(10 ** (gain_db / 20))).astype(np.float32)
    return result
