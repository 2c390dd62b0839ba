"""Frames with their context and their tied states, ready to be drawn as minibatches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.errors import DataError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.progress import track


class FrameBatch(NamedTuple):
    """N frames, in any order.

    Attributes:
        windows: (N, W, F) the frames with their neighbours.
        states: (N,) int64 their tied states.
        utterances: (N,) int64 places in `FrameData.utterances` of the utterances that they are of.
    """

    windows: Tensor
    states: Tensor
    utterances: Tensor


@dataclass(frozen=True, eq=False)
class FrameData:
    """N frames of some utterances.

    Attributes:
        frames: the frames, from which windows are cut.
        targets: (N,) int64, tied state of each frame.
        utterances: ids of the utterances, in the order of their frames.
    """

    frames: SplicedFrames
    targets: Tensor
    utterances: tuple[str, ...]

    @staticmethod
    def gather(
        feats: Mapping[str, NDArray[np.float32]],
        targets: Mapping[str, NDArray[np.integer]],
        utterances: Sequence[str],
        *,
        context: int,
    ) -> FrameData:
        """Collect the frames of utterances in the order given.

        Args:
            feats: (T, F) normalised features by utterance.
            targets: (T,) tied states by utterance.
            utterances: which utterances.
            context: frames on either side that a window holds.

        Raises:
            DataError: there are no utterances, one has no features or targets, or their lengths differ.
        """
        if not utterances:
            raise DataError("there are no utterances to take frames from")
        matrices = (_matching(feats, targets, name) for name in track(utterances, "gathering frames"))
        frames = SplicedFrames(matrices, context)
        states = np.concatenate([targets[name] for name in utterances]).astype(np.int64)
        return FrameData(frames, torch.from_numpy(states), tuple(utterances))

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Tensor) -> FrameBatch:
        """The frames with these indices (N,)."""
        utterances = torch.bucketize(indices, self.frames.offsets, right=True) - 1
        return FrameBatch(self.frames.windows(indices), self.targets[indices], utterances)

    def in_order(self, batch_size: int) -> Iterator[FrameBatch]:
        """All frames once, in order."""
        for indices in torch.split(torch.arange(len(self)), batch_size):
            yield self.batch(indices)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What the weights learn from, and what tells when to stop.

    Attributes:
        training: frames of the training speakers.
        validation: frames of held-out speakers.
    """

    training: FrameData
    validation: FrameData


def _matching(
    feats: Mapping[str, NDArray[np.float32]], targets: Mapping[str, NDArray[np.integer]], name: str
) -> NDArray[np.float32]:
    for what, where in (("features", feats), ("aligned states", targets)):
        if name not in where:
            raise DataError(f"utterance {name!r} has no {what}")
    matrix = feats[name]
    if len(matrix) != len(targets[name]):
        raise DataError(
            f"utterance {name!r} has {len(matrix)} frames of features but {len(targets[name])} aligned states"
        )
    return matrix
