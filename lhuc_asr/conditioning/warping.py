"""Features of speakers as if their vocal tracts had other lengths, and normalised as theirs would be.

Shape suffixes: T frames, F features, S streams of a frame (static and deltas).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.features.augmentation import interpolation, warped_places
from lhuc_asr.features.cmvn import VARIANCE_FLOOR, CmvnMode, CmvnStats, NormalisedFeatures
from lhuc_asr.features.pipeline import FeatureConfig, FeatureKind

Matrix = NDArray[np.float32]


class WarpedFeatures:
    """Reads utterances at other frequencies, before normalisation, and normalises what comes of it.

    A warp is linear in log filterbanks, so mean and variance of a speaker's warped speech follow from mean and
    covariance of the speech as it is: the speaker's other utterances need not be read again. Where the model normalises
    over an utterance or not at all, as models for streams do, so are warped utterances.

    Args:
        feats: normalised as the model wants them.
        speaker_of: utterance id -> speaker.
        config: of the features.

    Raises:
        ConfigError: the features are no filterbanks.

    Source: Jaitly & Hinton 2013, "Vocal Tract Length Perturbation improves speech recognition", on mel bins.
    """

    def __init__(self, feats: NormalisedFeatures, speaker_of: Mapping[str, str], config: FeatureConfig) -> None:
        if config.kind is not FeatureKind.fbank:
            raise ConfigError(
                f"condition.warp works on filterbanks, the model has {config.kind.name}: set condition.warp=0"
            )
        self._feats, self._speaker_of, self._config = feats, speaker_of, config
        self._moments: dict[str, _Moments] = {}
        self._utterances: dict[str, list[str]] = {}
        for utterance in feats:
            self._utterances.setdefault(speaker_of[utterance], []).append(utterance)

    def matrix(self, factor: float) -> Matrix:
        """(F, F) for static features: x @ matrix is x with every frequency ``factor`` times as high."""
        fbank = self._config.fbank
        high = fbank.high_freq if fbank.high_freq > 0 else self._config.sampling_rate / 2 + fbank.high_freq
        places = warped_places(torch.tensor([factor]), fbank.num_mel_bins, low_freq=fbank.low_freq, high_freq=high)
        found: Matrix = interpolation(places)[0].numpy()
        return found

    def raw(self, utterance: str, factor: float) -> Matrix:
        """(T, F) warped, before normalisation."""
        return self._product(self._feats.raw[utterance], self.matrix(factor))

    def normalised(self, raw_TF: Matrix, utterance: str, factor: float) -> Matrix:
        """(T, F) what `raw` gave, as the model wants it."""
        if self._feats.mode is CmvnMode.none:
            return raw_TF
        if self._feats.mode is CmvnMode.utterance:
            return CmvnStats.of([raw_TF]).apply(raw_TF)
        return self._moments_of(self._speaker_of[utterance]).warped(self._blocks(factor)).apply(raw_TF)

    def _product(self, x_TF: Matrix, matrix: Matrix) -> Matrix:
        x_TSF = x_TF.reshape(len(x_TF), -1, len(matrix))
        product: Matrix = (x_TSF @ matrix).reshape(x_TF.shape)
        return product

    def _blocks(self, factor: float) -> Matrix:
        """The matrix for frames with their deltas."""
        return np.kron(np.eye(self._config.delta_order + 1, dtype=np.float32), self.matrix(factor))

    def _moments_of(self, speaker: str) -> _Moments:
        if speaker not in self._moments:
            self._moments[speaker] = _Moments.of([self._feats.raw[name] for name in self._utterances[speaker]])
        return self._moments[speaker]


@dataclass(frozen=True, eq=False)
class _Moments:
    """Mean (F,) and covariance (F, F) of one speaker's frames."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    num_frames: int

    @staticmethod
    def of(utterances: list[Matrix]) -> _Moments:
        frames_TF = np.concatenate(utterances).astype(np.float64)
        if not len(frames_TF):
            raise DataError("there are no frames to take a mean from")
        mean_F = frames_TF.mean(axis=0)
        centred_TF = frames_TF - mean_F
        return _Moments(mean_F, centred_TF.T @ centred_TF / len(frames_TF), len(frames_TF))

    def warped(self, matrix_FF: Matrix) -> CmvnStats:
        """Mean and deviation of the same frames, warped."""
        variance_F = np.einsum("fk,fg,gk->k", matrix_FF, self.covariance, matrix_FF, optimize=True)
        deviation_F = np.sqrt(np.maximum(variance_F, VARIANCE_FLOOR))
        return CmvnStats(self.mean @ matrix_FF, deviation_F, self.num_frames)
