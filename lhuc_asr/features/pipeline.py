"""Which features a model sees: their kind, their settings, and the function from waveform to feats."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError
from lhuc_asr.features.cmvn import CmvnMode
from lhuc_asr.features.deltas import add_deltas
from lhuc_asr.features.fbank import FbankConfig, fbank
from lhuc_asr.features.framing import check_nyquist
from lhuc_asr.features.mfcc import MfccConfig, mfcc
from lhuc_asr.features.plp import PlpConfig, plp
from lhuc_asr.units import Milliseconds


class FeatureKind(Enum):
    """What is computed from the spectrum; its settings have the same name."""

    fbank = "fbank"
    mfcc = "mfcc"
    plp = "plp"


@dataclass(kw_only=True, slots=True)
class FeatureConfig:
    """Everything that decides the numbers that a model sees.

    Attributes:
        kind: filterbank, MFCC or PLP.
        sampling_rate: of the audio that the model was trained on; audio of another rate is converted to it.
        fbank: settings of the filterbank.
        mfcc: settings of the MFCCs.
        plp: settings of the PLPs.
        delta_order: highest time derivative that is appended; 0 for none.
        cmvn: over what mean and variance are normalised when the features are read.
    """

    kind: FeatureKind = FeatureKind.fbank
    sampling_rate: int = 16000
    fbank: FbankConfig = field(default_factory=FbankConfig)
    mfcc: MfccConfig = field(default_factory=MfccConfig)
    plp: PlpConfig = field(default_factory=PlpConfig)
    delta_order: int = 0
    cmvn: CmvnMode = CmvnMode.speaker

    def __post_init__(self) -> None:
        if self.sampling_rate < 4000:
            raise ConfigError(f"features.sampling_rate must be at least 4000 Hz, got {self.sampling_rate}")
        if not 0 <= self.delta_order <= 3:
            raise ConfigError(f"features.delta_order must be from 0 to 3, got {self.delta_order}")
        check_nyquist(self.framing, self.sampling_rate, f"features.{self.kind.name}")

    @property
    def dim(self) -> int:
        """Values per frame."""
        settings = self.framing
        static = settings.num_mel_bins if isinstance(settings, FbankConfig) else settings.num_ceps
        return static * (self.delta_order + 1)

    @property
    def framing(self) -> FbankConfig | MfccConfig | PlpConfig:
        """The settings of the kind that is computed."""
        if self.kind is FeatureKind.fbank:
            return self.fbank
        return self.mfcc if self.kind is FeatureKind.mfcc else self.plp

    def equals(self, other: FeatureConfig) -> bool:
        """Whether both give the same numbers; settings of a kind that is not computed do not count.

        Example:
            >>> one, other = FeatureConfig(), FeatureConfig(mfcc=MfccConfig(num_ceps=20))
            >>> one.equals(other), one == other
            (True, False)
        """
        not_computed = {kind.name: getattr(other, kind.name) for kind in FeatureKind if kind is not self.kind}
        return replace(self, **not_computed) == other

    @property
    def frame_shift_ms(self) -> Milliseconds:
        """From one frame to the next."""
        return self.framing.frame_shift_ms


def compute_feats(samples: NDArray[np.float32], config: FeatureConfig, **warping: float) -> NDArray[np.float32]:
    """Features of one utterance, before normalisation.

    Args:
        samples: (N,) waveform in [-1, 1], at ``config.sampling_rate``.
        config: what to compute.
        warping: of the mel filters, as torchaudio names it.

    Returns:
        (T, config.dim) features.

    Raises:
        DataError: the waveform is shorter than one frame or not finite.

    Example:
        >>> config = FeatureConfig(kind=FeatureKind.mfcc, delta_order=2)
        >>> compute_feats(np.zeros(8000, dtype=np.float32), config).shape, config.dim
        ((50, 39), 39)
    """
    feats = _static_feats(samples, config, **warping)
    return add_deltas(feats, order=config.delta_order) if config.delta_order else feats


def _static_feats(samples: NDArray[np.float32], config: FeatureConfig, **warping: float) -> NDArray[np.float32]:
    if config.kind is FeatureKind.fbank:
        return fbank(samples, config.sampling_rate, config.fbank, **warping)
    if config.kind is FeatureKind.mfcc:
        return mfcc(samples, config.sampling_rate, config.mfcc, **warping)
    return plp(samples, config.sampling_rate, config.plp, **warping)
