"""Vectors of voices from a network that was trained to tell speakers apart.

Shape suffixes: T frames, F features, E numbers of an embedding.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.conditioning.speaker_network import SpeakerNetwork
from lhuc_asr.conditioning.statistics import require_frames, static_dim
from lhuc_asr.features.pipeline import FeatureConfig, FeatureKind


class LevelledFeatures:
    """Static features before normalisation, with the level of the recording taken out.

    Args:
        features: of the model; deltas at the end of a frame do not count.
    """

    def __init__(self, features: FeatureConfig) -> None:
        self.dim = static_dim(features)
        self._is_fbank = features.kind is FeatureKind.fbank

    def __call__(self, raw_TF: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, F) features of some speech.

        Raises:
            DataError: there is no frame, or a feature is not finite.
        """
        x_TF = raw_TF[:, : self.dim]
        require_frames(x_TF)
        return x_TF - x_TF.mean() if self._is_fbank else x_TF


class VoiceEmbedding:
    """Makes vectors of utterances; pooled over what is heard, so a stream's vector grows with it.

    When not to use it: a network that has met a few dozens of speakers tells these apart and nobody else; statistics
    of filterbanks need no training, and a vector from a large speaker recogniser (`VectorFile`) knows thousands.

    Args:
        network: trained.
        features: of the model.

    Example:
        >>> from lhuc_asr.conditioning.speaker_network import EmbeddingConfig
        >>> network = SpeakerNetwork(EmbeddingConfig(hidden_dim=8, num_dims=4), feat_dim=40, num_speakers=3)
        >>> VoiceEmbedding(network, FeatureConfig())(np.zeros((50, 40), np.float32)).shape
        (4,)
    """

    def __init__(self, network: SpeakerNetwork, features: FeatureConfig) -> None:
        self.network = network.requires_grad_(False).eval()
        self._levelled = LevelledFeatures(features)

    @torch.no_grad()
    def __call__(self, raw_TF: NDArray[np.float32]) -> NDArray[np.float32]:
        """(E,) numbers of some speech, (T, F) features before normalisation.

        Raises:
            DataError: there is no frame, or a feature is not finite.
        """
        vector_E: NDArray[np.float32] = self.network.embed(torch.from_numpy(self._levelled(raw_TF))[None])[0].numpy()
        return vector_E
