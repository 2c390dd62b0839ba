"""Whole utterances to learn from, and the pieces into which those that are too long are cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError, DataError, first_few
from lhuc_asr.features.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one utterance, often all of it.

    Attributes:
        utterance: its id.
        start: first frame that is learnt from, counted in the utterance.
        end: the frame after the last that is learnt from.
        left: frames before ``start`` that come along as context.
        right: frames after ``end`` that come along as context.
        is_whole: whether this is all of the utterance.
    """

    utterance: str
    start: int
    end: int
    left: int = 0
    right: int = 0
    is_whole: bool = True

    @property
    def num_frames(self) -> int:
        """Frames with the context."""
        return self.left + self.end - self.start + self.right

    @property
    def key(self) -> str:
        """Tells this piece from every other."""
        return self.utterance if self.is_whole else f"{self.utterance} {self.start}"


@dataclass(frozen=True, eq=False)
class SequenceData:
    """Utterances with their features and, where the objective needs them, a target for every frame.

    Attributes:
        feats: utterance id -> (T, F) normalised features; read one utterance at a time.
        num_frames: utterance id -> T, for the utterances to learn from.
        targets: utterance id -> (T,) tied states, or None where the objective has its own (CTC).

    Example:
        >>> data = SequenceData.gather({"anna-1": np.zeros((5, 2), np.float32)}, ["anna-1"])
        >>> data.num_frames
        {'anna-1': 5}
    """

    feats: Mapping[str, NDArray[np.float32]]
    num_frames: Mapping[str, int]
    targets: Mapping[str, NDArray[np.integer]] | None = None

    @staticmethod
    def gather(
        feats: Mapping[str, NDArray[np.float32]],
        utterances: Sequence[str],
        targets: Mapping[str, NDArray[np.integer]] | None = None,
        *,
        num_frames: Mapping[str, int] | None = None,
    ) -> SequenceData:
        """Check that every utterance has what is needed.

        Args:
            feats: (T, F) normalised features by utterance.
            utterances: which utterances.
            targets: (T,) tied states by utterance, or None.
            num_frames: T by utterance; None asks a feature store's index, or the features themselves.

        Raises:
            DataError: there are no utterances, one comes twice, is empty, has no features or targets, or their lengths
                differ; the text names the ids.
        """
        if not utterances or len(set(utterances)) < len(utterances):
            raise DataError("there are no utterances" if not utterances else "an utterance is named twice")
        _refuse([name for name in utterances if name not in feats], "have no features")
        if targets is not None:
            _refuse([name for name in utterances if name not in targets], "have no aligned states")
        lens = {name: _length(feats, num_frames, name) for name in utterances}
        _refuse([name for name, length in lens.items() if length == 0], "have no frames")
        if targets is not None:
            wrong = [name for name, length in lens.items() if len(targets[name]) != length]
            _refuse(wrong, "have another number of aligned states than of frames")
        return SequenceData(feats, lens, targets)

    def of_piece(self, piece: Piece) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        """Features of a piece with its context, and the targets of the frames that are learnt from.

        Raises:
            DataError: the features have another length than was told, or are not finite.
        """
        matrix = self.feats[piece.utterance]
        if len(matrix) != self.num_frames[piece.utterance]:
            raise DataError(
                f"utterance {piece.utterance!r} has {len(matrix)} frames of features, "
                f"expected {self.num_frames[piece.utterance]}"
            )
        stretch = matrix[piece.start - piece.left : piece.end + piece.right]
        if not np.isfinite(stretch).all():
            raise DataError(f"the features of utterance {piece.utterance!r} are not all finite")
        if self.targets is None:
            return stretch, None
        return stretch, np.asarray(self.targets[piece.utterance][piece.start : piece.end], dtype=np.int64)


def cut(utterance: str, num_frames: int, longest: int, context: int, *, multiple: int = 1) -> Iterator[Piece]:
    """Cut an utterance into pieces of about equal length, which overlap in nothing but context.

    Args:
        utterance: its id.
        num_frames: T.
        longest: most frames of a piece, with the context.
        context: frames on either side that come along, where the utterance has them; rounded up to the multiple.
        multiple: pieces, with and without their context, begin on multiples of it: the network's sub-sampling.

    Raises:
        ConfigError: nothing is left of a piece but context.

    Example:
        >>> [(piece.start, piece.end, piece.num_frames) for piece in cut("anna-1", 10, longest=6, context=1)]
        [(0, 3, 4), (3, 6, 5), (6, 10, 5)]
    """
    if num_frames <= longest:
        yield Piece(utterance, 0, num_frames)
        return
    context = multiple * -(-context // multiple)
    if longest < 2 * context + multiple:
        raise ConfigError(
            f"pieces of {longest} frames leave no room between contexts of {context} for one output of {multiple} "
            "frames; raise training.sequences.max_frames"
        )
    outputs, core = -(-num_frames // multiple), (longest - 2 * context) // multiple
    num_pieces = -(-outputs // core)
    bounds = [multiple * (outputs * index // num_pieces) for index in range(num_pieces)]
    for start, end in pairwise([*bounds, num_frames]):
        left, right = min(context, start), min(context, num_frames - end)
        yield Piece(utterance, start, end, left, right, is_whole=False)


def _length(feats: Mapping[str, NDArray[np.float32]], num_frames: Mapping[str, int] | None, name: str) -> int:
    if num_frames is not None:
        return num_frames[name]
    return feats.num_frames(name) if isinstance(feats, FeatureStore) else len(feats[name])


def _refuse(names: list[str], fault: str) -> None:
    if names:
        raise DataError(f"utterances {fault}: {first_few([repr(name) for name in names])}")
