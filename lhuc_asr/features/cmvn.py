"""Cepstral mean and variance normalisation: takes away what a channel and a level do to all frames alike."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.features.fmllr import SpeakerTransform, require_transforms
from lhuc_asr.features.projection import FrameProjection

VARIANCE_FLOOR = 1e-8


class CmvnMode(Enum):
    """Over which frames mean and variance are taken."""

    none = "none"
    utterance = "utterance"
    speaker = "speaker"


@dataclass(frozen=True, slots=True)
class CmvnStats:
    """Mean and standard deviation of some speech.

    Attributes:
        mean: (F,) float64.
        deviation: (F,) float64, floored above 0.
        num_frames: frames that they were taken from.

    Example:
        >>> feats = np.array([[1.0], [3.0]], dtype=np.float32)
        >>> CmvnStats.of([feats]).apply(feats).tolist()
        [[-1.0], [1.0]]
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    num_frames: int

    @staticmethod
    def of(utterances: Iterable[NDArray[np.float32]]) -> CmvnStats:
        """Take the statistics in one pass; each utterance is (T, F), one at a time in memory.

        Raises:
            DataError: there is no frame.
        """
        count, total, squares = 0, np.zeros(0), np.zeros(0)
        origin: NDArray[np.float64] | None = None
        for feats in utterances:
            if not len(feats):
                continue
            if origin is None:
                origin = feats[0].astype(np.float64)
                total, squares = np.zeros_like(origin), np.zeros_like(origin)
            centred = feats.astype(np.float64) - origin
            count += len(feats)
            total += centred.sum(axis=0)
            squares += (centred**2).sum(axis=0)
        if origin is None:
            raise DataError("there are no frames to take a mean from")
        offset = total / count
        variance = np.maximum(squares / count - offset**2, VARIANCE_FLOOR)
        return CmvnStats(origin + offset, np.sqrt(variance), count)

    def apply(self, feats: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, F) features with this mean and deviation taken out."""
        mean, scale = self.mean.astype(np.float32), (1.0 / self.deviation).astype(np.float32)
        normalised: NDArray[np.float32] = (feats - mean) * scale
        return normalised


class NormalisedFeatures(Mapping[str, NDArray[np.float32]]):
    """Features with mean and variance taken out, computed when an utterance is asked for.

    The statistics of a speaker are taken in one pass over the speaker's utterances when the first of them is read, and
    kept; features are never held.

    Args:
        feats: utterance id -> (T, F); may hold more utterances than are asked about.
        speaker_of: utterance id -> speaker; these utterances make up the mapping, in this order.
        mode: over which frames mean and variance are taken.
        estimate_on: utterances that the statistics of a speaker come from; None means all in ``speaker_of``.

    Raises:
        DataError: an utterance has no features.
    """

    def __init__(
        self,
        feats: Mapping[str, NDArray[np.float32]],
        speaker_of: Mapping[str, str],
        mode: CmvnMode = CmvnMode.speaker,
        *,
        estimate_on: Collection[str] | None = None,
    ) -> None:
        missing = [utterance for utterance in speaker_of if utterance not in feats]
        if missing:
            raise DataError(f"no features for {len(missing)} of {len(speaker_of)} utterances, such as {missing[0]!r}")
        self._feats = feats
        self._speaker_of = dict(speaker_of)
        self._mode = mode
        self._cache: dict[str, CmvnStats] = {}
        self._projection: FrameProjection | None = None
        self._transforms: Mapping[str, SpeakerTransform] | None = None
        chosen = None if estimate_on is None else frozenset(estimate_on)
        self._sources: dict[str, list[str]] = defaultdict(list)
        for utterance, speaker in speaker_of.items():
            if chosen is None or utterance in chosen:
                self._sources[speaker].append(utterance)

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        speaker = self._speaker_of[utterance]
        feats = self._normalised(utterance, speaker)
        if self._projection is not None:
            feats = self._projection.apply(feats)
        return feats if self._transforms is None else self._transforms[speaker].apply(feats)

    def _normalised(self, utterance: str, speaker: str) -> NDArray[np.float32]:
        feats = self._feats[utterance]
        if self._mode is CmvnMode.none:
            return feats
        if self._mode is CmvnMode.utterance:
            return CmvnStats.of([feats]).apply(feats)
        return self.statistics(speaker).apply(feats)

    def __iter__(self) -> Iterator[str]:
        return iter(self._speaker_of)

    def __len__(self) -> int:
        return len(self._speaker_of)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._speaker_of

    def projected(self, projection: FrameProjection | None) -> NormalisedFeatures:
        """The same features, after normalisation projected for all speakers alike; as they are without a projection."""
        projected = copy.copy(self)
        projected._projection = projection
        return projected

    def seen_through(self, transforms: Mapping[str, SpeakerTransform]) -> NormalisedFeatures:
        """The same features, after normalisation and projection transformed for each speaker.

        Raises:
            DataError: a speaker has no transform.
        """
        require_transforms(self._speaker_of.values(), transforms)
        seen = copy.copy(self)
        seen._transforms = transforms
        return seen

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """Utterance id -> (T, F) before normalisation; may hold more utterances."""
        return self._feats

    @property
    def mode(self) -> CmvnMode:
        """Over which frames mean and variance are taken."""
        return self._mode

    def statistics(self, speaker: str) -> CmvnStats:
        """Mean and deviation of one speaker.

        Raises:
            DataError: the speaker has no frames to estimate them on.
        """
        if speaker not in self._cache:
            utterances = self._sources.get(speaker, [])
            if not utterances:
                raise DataError(f"speaker {speaker!r} has no utterances to take mean and variance from")
            self._cache[speaker] = CmvnStats.of(self._feats[utterance] for utterance in utterances)
        return self._cache[speaker]
