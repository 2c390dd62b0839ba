"""What a voice is like, from a few seconds of it: statistics of filterbanks before any normalisation.

Shape suffixes: T frames, F features of a frame, D numbers of a vector, N vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.features.pipeline import FeatureConfig, FeatureKind

_FLOOR = 1e-3
"""Least deviation of a filter's output, nats; digital silence has none."""


@dataclass(kw_only=True, slots=True)
class StatisticsConfig:
    """Which statistics of an utterance make up its vector.

    Attributes:
        mean: of every filter, with the level taken out.
        deviation: its natural logarithm, of every filter.
        quantiles: of every filter, with the same level taken out; each between 0 and 1.
        loud_share: share of the frames that count, the loudest: pauses tell of the room.
    """

    mean: bool = True
    deviation: bool = True
    quantiles: list[float] = field(default_factory=list)
    loud_share: float = 0.5

    def __post_init__(self) -> None:
        if not (self.mean or self.deviation or self.quantiles):
            raise ConfigError("condition.statistics needs at least one of mean, deviation and quantiles")
        if not all(0 <= quantile <= 1 for quantile in self.quantiles):
            raise ConfigError(f"condition.statistics.quantiles lie between 0 and 1, got {self.quantiles}")
        if not 0 < self.loud_share <= 1:
            raise ConfigError(f"condition.statistics.loud_share must be above 0 and at most 1, got {self.loud_share}")


class VoiceStatistics:
    """Makes vectors of utterances. How loud the recording is does not show in them.

    When not to use them: where many speakers have been recorded through channels of their own, the mean tells the
    channel as much as the voice.

    Args:
        config: which statistics.
        features: of the model; deltas at the end of a frame do not count.

    Example:
        >>> statistics = VoiceStatistics(StatisticsConfig(), FeatureConfig())
        >>> feats = np.random.default_rng(0).normal(size=(200, 40)).astype(np.float32)
        >>> statistics(feats).shape, np.allclose(statistics(feats), statistics(feats + 3), atol=1e-5)
        ((80,), True)
    """

    def __init__(self, config: StatisticsConfig, features: FeatureConfig) -> None:
        self.config = config
        self.static_dim = static_dim(features)
        self._is_fbank = features.kind is FeatureKind.fbank

    @property
    def dim(self) -> int:
        """D."""
        return self.static_dim * (self.config.mean + self.config.deviation + len(self.config.quantiles))

    def __call__(self, feats_TF: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vector of some speech.

        Args:
            feats_TF: (T, F) features before normalisation, T at least 1.

        Returns:
            (D,) numbers.

        Raises:
            DataError: there is no frame, or a feature is not finite.
        """
        x_TF = feats_TF[:, : self.static_dim]
        require_frames(x_TF)
        loud_TF = self._loud(x_TF)
        level = loud_TF.mean() if self._is_fbank else np.float32(0)
        parts = []
        if self.config.mean:
            parts.append(loud_TF.mean(axis=0) - level)
        if self.config.deviation:
            parts.append(np.log(np.maximum(loud_TF.std(axis=0), _FLOOR)))
        parts.extend(np.quantile(loud_TF, self.config.quantiles, axis=0) - level)
        vector_D: NDArray[np.float32] = np.concatenate(parts).astype(np.float32)
        return vector_D

    def _loud(self, x_TF: NDArray[np.float32]) -> NDArray[np.float32]:
        """The loudest frames: by the mean of log filterbanks, or by the first cepstral coefficient."""
        loudness_T = x_TF.mean(axis=1) if self._is_fbank else x_TF[:, 0]
        count = max(1, math.ceil(self.config.loud_share * len(x_TF)))
        return x_TF[np.sort(np.argpartition(-loudness_T, count - 1)[:count])]


def static_dim(features: FeatureConfig) -> int:
    """F of the features without their deltas."""
    return features.dim // (features.delta_order + 1)


def require_frames(x_TF: NDArray[np.float32]) -> None:
    """Raise DataError where there is no frame, or a feature is not finite."""
    if not len(x_TF) or not np.isfinite(x_TF).all():
        raise DataError("a voice can only be described by frames that are there and finite")
