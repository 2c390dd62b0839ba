"""From the sound of an utterance to z, the vector that a gate gets.

Shape suffixes: T frames, F features, D numbers of one kind of vector, K numbers of z, N utterances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.conditioning.projection import Projection, ProjectionConfig
from lhuc_asr.conditioning.voices import Voice

Listen = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(T, F) features before normalisation -> (D,) what is told of the voice."""


@dataclass(frozen=True, eq=False)
class VoiceDescriber:
    """Describes voices by their sound: several kinds of vectors, projected, side by side.

    0 is the average voice, and the less there is to hear, the nearer to it is every description.

    Attributes:
        listeners: kind -> what makes its vectors.
        projections: kind -> what is made of them.
        shrink_frames: so many frames are described half-way.
    """

    listeners: Mapping[str, Listen]
    projections: Mapping[str, Projection]
    shrink_frames: float = 0.0

    @property
    def parts(self) -> dict[str, int]:
        """Kind -> how many numbers of z are its."""
        return {kind: projection.num_dims for kind, projection in self.projections.items()}

    def __call__(self, raw_TF: NDArray[np.float32], *, num_frames: int | None = None) -> NDArray[np.float32]:
        """(K,) z of some speech.

        Args:
            raw_TF: (T, F) features before normalisation.
            num_frames: how many frames this stands for, where it is the end of a longer speech.

        Raises:
            DataError: there is no frame, or a feature is not finite.
        """
        return self.joined({kind: listen(raw_TF) for kind, listen in self.listeners.items()}, num_frames or len(raw_TF))

    def joined(self, vectors: Mapping[str, NDArray[np.float32]], num_frames: int) -> NDArray[np.float32]:
        """(K,) z from vectors of every kind, of so many frames."""
        trust = np.float32(num_frames / (num_frames + self.shrink_frames))
        parts = [projection.apply(vectors[kind]) for kind, projection in self.projections.items()]
        return trust * np.concatenate(parts)


def learn_describer(
    listeners: Mapping[str, Listen], voices: Iterable[Voice], config: ProjectionConfig, *, shrink_frames: float
) -> VoiceDescriber:
    """Learn what in the vectors tells training voices apart.

    Args:
        listeners: kind -> what makes its vectors.
        voices: of the training speakers.
        config: of the projection.
        shrink_frames: so many frames are described half-way.

    Raises:
        DataError: there are too few voices, or they are all alike.
    """
    speakers: list[str] = []
    vectors: dict[str, list[NDArray[np.float32]]] = {kind: [] for kind in listeners}
    for voice in voices:
        speakers.append(voice.speaker)
        for kind, listen in listeners.items():
            vectors[kind].append(listen(voice.raw))
    projections = {kind: Projection.fit(np.stack(found), speakers, config) for kind, found in vectors.items()}
    return VoiceDescriber(listeners, projections, shrink_frames)
