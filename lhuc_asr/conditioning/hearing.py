"""A recogniser that hears who is speaking: every utterance gets its own scales, without a first pass.

Shape suffixes: T frames, F features, K numbers of z.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lhuc_asr.conditioning.conditioner import Conditioner
from lhuc_asr.conditioning.description import VoiceDescriber
from lhuc_asr.conditioning.people import Who
from lhuc_asr.conditioning.settings import ConditionConfig, Hearing
from lhuc_asr.units import Milliseconds

Matrix = NDArray[np.float32]


class RunningDescription:
    """What is known of a voice while speech is streaming.

    Args:
        describe: from sound to z.
        max_frames: no more than the last so many frames are remembered.

    Example:
        >>> from lhuc_asr.conditioning.projection import Projection
        >>> describe = VoiceDescriber({"mean": lambda x_TF: x_TF.mean(0)}, {"mean": Projection(np.zeros(2), np.eye(2))})
        >>> running = RunningDescription(describe, max_frames=100)
        >>> running.z().tolist()
        [0.0, 0.0]
        >>> running.hear(np.array([[1.0, 2.0], [3.0, 2.0]], np.float32))
        >>> running.z().tolist()
        [2.0, 2.0]
    """

    def __init__(self, describe: VoiceDescriber, *, max_frames: int) -> None:
        self._describe, self._max_frames = describe, max_frames
        self._heard: Matrix | None = None
        self.num_frames = 0

    def hear(self, raw_TF: Matrix) -> None:
        """Take in the next frames, before normalisation."""
        heard = raw_TF if self._heard is None else np.concatenate([self._heard, raw_TF])
        self._heard = heard[-self._max_frames :]
        self.num_frames += len(raw_TF)

    def z(self, people: Sequence[Who] = ()) -> NDArray[np.float32]:
        """(K,) of what is remembered, and known of who speaks; the average voice as long as nothing was heard."""
        if self._heard is None or not len(self._heard):
            return self._describe.unheard(people)
        return self._describe(self._heard, people, num_frames=self.num_frames)


def causal_z(
    describe: VoiceDescriber, raw_TF: Matrix, people: Sequence[Who] = (), *, every: int, max_frames: int
) -> NDArray[np.float32]:
    """(T, K) z of every frame, from frames before it alone.

    Args:
        describe: from sound to z.
        raw_TF: (T, F) an utterance, before normalisation.
        people: whose it is.
        every: z is made anew after so many frames.
        max_frames: no more than the last so many are remembered.
    """
    running = RunningDescription(describe, max_frames=max_frames)
    rows = []
    for start in range(0, len(raw_TF), every):
        piece = raw_TF[start : start + every]
        rows.append(np.repeat(running.z(people)[None], len(piece), axis=0))
        running.hear(piece)
    return np.concatenate(rows)


@dataclass
class HearingRecogniser:
    """Gives every utterance the context in which it is recognised with the scales that its voice asks for.

    Attributes:
        conditioner: the gate.
        raw: utterance id -> (T, F) features before normalisation.
        speaker_of: utterance id -> speaker.
        config: how much of the speech a prediction follows from.
        frame_shift_ms: of the features.
    """

    conditioner: Conditioner
    raw: Mapping[str, Matrix]
    speaker_of: Mapping[str, str]
    config: ConditionConfig
    frame_shift_ms: Milliseconds
    _sessions: dict[str, RunningDescription] = field(default_factory=dict, init=False)

    def adapting(self, network: nn.Module) -> Callable[[str], AbstractContextManager[Any]]:
        """Utterance id -> the context in which the network is scaled for it.

        With ``session``, utterances are taken to follow each other in the order in which they are asked for.
        """
        return lambda utterance: self.conditioner.scaling(network, self.z(utterance))

    def z(self, utterance: str) -> NDArray[np.float32]:
        """(1, K) of an utterance, or with ``causal`` (1, T, K) of its frames."""
        raw_TF, describe = self.raw[utterance], self.conditioner.describe
        people = [Who(utterance, self.speaker_of[utterance])]
        if self.config.hearing is Hearing.utterance:
            return describe(raw_TF, people)[None]
        if self.config.hearing is Hearing.causal:
            every = self._frames(self.config.update_seconds)
            return causal_z(describe, raw_TF, people, every=every, max_frames=self._memory)[None]
        running = self._sessions.setdefault(
            self.speaker_of[utterance], RunningDescription(describe, max_frames=self._memory)
        )
        running.hear(raw_TF)
        return running.z(people)[None]

    @property
    def _memory(self) -> int:
        return self._frames(self.config.memory_seconds)

    def _frames(self, seconds: float) -> int:
        return max(1, round(1000 * seconds / self.frame_shift_ms))
