"""Training speech as an epoch hears it: some of the utterances, every speaker with another vocal tract."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.conditioning.people import Who
from lhuc_asr.conditioning.warping import WarpedFeatures
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.pipeline import FeatureConfig
from lhuc_asr.features.streams import random_stream
from lhuc_asr.system.training_speech import TrainingSpeech
from lhuc_asr.training.examples.seeds import Purpose, generator


@dataclass(frozen=True, eq=False)
class Voice:
    """One utterance.

    Attributes:
        utterance: its id.
        speaker: who says it; with another vocal tract somebody is another speaker.
        who: the utterance of the data that it was made from, and who said that.
        raw: (T, F) features before normalisation, from which it is told whose voice it is.
        feats: (T, F) the same, normalised as the network wants them.
    """

    utterance: str
    speaker: str
    who: Who
    raw: NDArray[np.float32]
    feats: NDArray[np.float32]


class TrainingVoices:
    """The utterances that are learnt from, anew for each epoch; what an epoch hears depends on seed and epoch alone.

    Args:
        speech: features.
        features: of the model.
        utterances: ids of those that are learnt from.
        warp: vocal tract lengths are drawn from 1 - warp to 1 + warp.
        frames_per_epoch: utterances are drawn until they have so many frames; 0 takes all.
        seed: of everything random.

    Raises:
        ConfigError: voices shall be warped, and the features are no filterbanks.
    """

    def __init__(
        self,
        speech: TrainingSpeech,
        features: FeatureConfig,
        utterances: Sequence[str],
        *,
        warp: float = 0.0,
        frames_per_epoch: int = 0,
        seed: int = 0,
    ) -> None:
        self.utterances, self.seed = list(utterances), seed
        self._speech, self._warp, self._frames_per_epoch = speech, warp, frames_per_epoch
        self._speaker_of = speech.manifest.speaker_of
        self._warped = WarpedFeatures(speech.feats, self._speaker_of, features) if warp else None

    def identity(self) -> dict[str, Any]:
        """What must be the same for epochs to be the same."""
        return {
            "utterances": hashlib.sha256("\n".join(self.utterances).encode()).hexdigest(),
            "seed": self.seed,
            "warp": self._warp,
            "frames_per_epoch": self._frames_per_epoch,
        }

    def chosen(self, epoch: int) -> list[str]:
        """Ids of the utterances of an epoch, in the order in which they were drawn."""
        order = torch.randperm(len(self.utterances), generator=generator(self.seed, Purpose.order, epoch)).tolist()
        names, num_frames = [], 0
        for index in order:
            names.append(self.utterances[index])
            num_frames += self._speech.num_frames[names[-1]]
            if 0 < self._frames_per_epoch <= num_frames:
                break
        return names

    def factor(self, utterance: str, epoch: int) -> float:
        """How much shorter the vocal tract of the utterance's speaker is in an epoch."""
        stream = random_stream(self.seed, self._speaker_of[utterance], f"vocal tract of epoch {epoch}")
        return float(stream.uniform(1 - self._warp, 1 + self._warp))

    def voice(self, utterance: str, epoch: int) -> Voice:
        """An utterance as an epoch hears it."""
        if self._warped is None:
            return self.recorded(utterance)
        factor = self.factor(utterance, epoch)
        raw_TF = self._warped.raw(utterance, factor)
        feats_TF = self._warped.normalised(raw_TF, utterance, factor)
        return Voice(utterance, f"{factor:.4f} {self._speaker_of[utterance]}", self.who(utterance), raw_TF, feats_TF)

    def raw(self, utterance: str, factor: float) -> NDArray[np.float32]:
        """(T, F) an utterance before normalisation, said with a vocal tract so much shorter.

        Raises:
            ConfigError: it shall be another one, and voices are not warped here.
        """
        if factor == 1:
            return self._speech.feats.raw[utterance]
        if self._warped is None:
            raise ConfigError(f"condition.warp is 0: nobody has a vocal tract of {factor:g}")
        return self._warped.raw(utterance, factor)

    def recorded(self, utterance: str) -> Voice:
        """An utterance as it is."""
        feats, speaker = self._speech.feats, self._speaker_of[utterance]
        return Voice(utterance, speaker, self.who(utterance), feats.raw[utterance], feats[utterance])

    def who(self, utterance: str) -> Who:
        """Of which utterance of the data this was made, and who said that."""
        original = self._speech.source[utterance]
        return Who(original, self._speaker_of[original])
