"""Minibatches of whole utterances of about the same length, in an order that seed and epoch decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from lhuc_asr.errors import ConfigError, DataError, first_few
from lhuc_asr.features.streams import number_of
from lhuc_asr.ranges import require_at_least
from lhuc_asr.training.examples.prefetching import prefetched
from lhuc_asr.training.examples.seeds import Purpose, generator
from lhuc_asr.training.examples.sequence_data import Piece, SequenceData, cut
from lhuc_asr.training.processes.shares import ALL, Share

NO_TARGET = -100
"""Stands in the targets where nothing is to be learnt: padding and context; torch's losses leave it out."""

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""(T, F) features and a random stream -> (T, F) features that sound different but mean the same."""

# B utterances (or pieces), T frames, F features


class LongUtterances(Enum):
    """What becomes of an utterance that is longer than allowed."""

    chunk = "chunk"
    refuse = "refuse"


@dataclass(kw_only=True, slots=True)
class SequenceConfig:
    """How utterances become minibatches.

    Attributes:
        max_frames: most frames of a minibatch, padding included: utterances times the length of the longest.
        max_utterances: most utterances of a minibatch.
        longest: most frames of one utterance; 0 is ``max_frames``.
        long_utterances: cut what is longer, or refuse it by name; objectives of whole utterances, such as CTC, need
            the latter.
        chunk_context: frames on either side that come along with a piece and are not learnt from.
        bucket_ratio: in a bucket the longest utterance is at most this many times as long as the shortest.
        num_prefetched: minibatches that a thread makes ahead; 0 is no thread.
    """

    max_frames: int = 8000
    max_utterances: int = 64
    longest: int = 0
    long_utterances: LongUtterances = LongUtterances.chunk
    chunk_context: int = 0
    bucket_ratio: float = 1.1
    num_prefetched: int = 4

    def __post_init__(self) -> None:
        require_at_least(1, self, "sequences", "max_frames", "max_utterances")
        require_at_least(0, self, "sequences", "num_prefetched")
        if not 0 <= self.longest <= self.max_frames:
            raise ConfigError(f"sequences.longest must be from 0 to max_frames={self.max_frames}, got {self.longest}")
        if self.chunk_context < 0 or 2 * self.chunk_context >= self.most_frames:
            raise ConfigError(
                f"sequences.chunk_context must be at least 0 and below half of the longest piece ({self.most_frames}), "
                f"got {self.chunk_context}"
            )
        if self.bucket_ratio <= 1:
            raise ConfigError(f"sequences.bucket_ratio must be above 1, got {self.bucket_ratio}")

    @property
    def most_frames(self) -> int:
        """Most frames of one utterance or piece."""
        return self.longest or self.max_frames


@dataclass(frozen=True, eq=False)
class SequenceBatch:
    """One minibatch.

    Attributes:
        pieces: (B) which utterances, and which stretches of them.
        feats: (B, T, F) float32, 0 in the padding.
        lens: (B,) int64, frames of each piece with its context.
        targets: (B, T) int64 tied states, `NO_TARGET` in padding and context; None where the data has none.
    """

    pieces: tuple[Piece, ...]
    feats: Tensor
    lens: Tensor
    targets: Tensor | None = None

    @property
    def utterances(self) -> tuple[str, ...]:
        """Ids of the utterances, one for each piece."""
        return tuple(piece.utterance for piece in self.pieces)

    @property
    def num_frames(self) -> int:
        """Frames that are learnt from, so neither padding nor context."""
        return sum(piece.end - piece.start for piece in self.pieces)


class SequenceBatches:
    """All utterances once an epoch, in minibatches of similar length.

    What is in which minibatch, and what augmentation does, depends on seed, epoch and ids alone: not on the order in
    which utterances were given, and not on where an epoch was taken up again.

    Args:
        data: the utterances.
        config: how large minibatches are.
        seed: of order and augmentation.
        augment: changes the features of each piece; None leaves them as they are.
        multiple: pieces begin on multiples of so many frames, such as the sub-sampling of the network.

    Raises:
        DataError: an utterance is too long and is not to be cut; the text names it.
        ConfigError: an utterance is to be cut into pieces too short for one output and its context.

    Example:
        >>> import numpy as np
        >>> feats = {"a": np.zeros((5, 2), np.float32), "b": np.zeros((3, 2), np.float32)}
        >>> batches = SequenceBatches(SequenceData.gather(feats, ["a", "b"]), SequenceConfig(max_frames=10))
        >>> [(batch.utterances, tuple(batch.feats.shape)) for batch in batches.epoch(0)]
        [(('b', 'a'), (2, 5, 2))]
    """

    def __init__(
        self,
        data: SequenceData,
        config: SequenceConfig,
        *,
        seed: int = 0,
        augment: Augment | None = None,
        multiple: int = 1,
    ) -> None:
        self.data, self.config, self.seed, self.augment = data, config, seed, augment
        self.pieces = tuple(_pieces(data, config, multiple))

    def plan(self, epoch: int) -> tuple[tuple[Piece, ...], ...]:
        """What is in each minibatch of an epoch, in order; nothing is read for it."""
        random = generator(self.seed, Purpose.order, epoch)
        shuffled = [self.pieces[index] for index in torch.randperm(len(self.pieces), generator=random).tolist()]
        shuffled.sort(key=self._bucket)  # a stable sort: within a bucket the order remains random
        batches = list(self._filled(shuffled))
        return tuple(batches[index] for index in torch.randperm(len(batches), generator=random).tolist())

    def num_batches(self, epoch: int) -> int:
        """Minibatches of an epoch."""
        return len(self.plan(epoch))

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[SequenceBatch]:
        """The minibatches of an epoch, prepared ahead by a thread.

        Args:
            epoch: which, from 0.
            start: how many minibatches to leave out, because they were done before.

        Raises:
            DataError: features of an utterance have another length than was told, or are not finite.
        """
        yield from filter(None, self.shares(epoch, start=start))

    def shares(self, epoch: int, *, start: int = 0, share: Share = ALL) -> Iterator[SequenceBatch | None]:
        """What one of several processes takes of the minibatches of an epoch, each divided by length.

        Args:
            epoch: which, from 0.
            start: how many minibatches to leave out, because they were done before.
            share: of the process.

        Returns:
            One for each minibatch; None where there are fewer pieces than processes, and none for this one.

        Raises:
            DataError: features of an utterance have another length than was told, or are not finite.
        """
        planned = [_taken(pieces, share) for pieces in self.plan(epoch)[start:]]
        made = prefetched(
            (self._batch(pieces, epoch) for pieces in planned if pieces), ahead=self.config.num_prefetched
        )
        for pieces in planned:
            yield next(made) if pieces else None

    def _bucket(self, piece: Piece) -> int:
        return math.floor(math.log(piece.num_frames) / math.log(self.config.bucket_ratio))

    def _filled(self, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, ...]]:
        """Fill one minibatch after the other."""
        batch: list[Piece] = []
        longest = 0
        for piece in pieces:
            longest = max(longest, piece.num_frames)
            if batch and (
                longest * (len(batch) + 1) > self.config.max_frames or len(batch) == self.config.max_utterances
            ):
                yield tuple(batch)
                batch, longest = [], piece.num_frames
            batch.append(piece)
        yield tuple(batch)

    def _batch(self, pieces: tuple[Piece, ...], epoch: int) -> SequenceBatch:
        parts = [self.data.of_piece(piece) for piece in pieces]
        lens = torch.tensor([piece.num_frames for piece in pieces])
        feats = torch.zeros(len(pieces), int(lens.max()), parts[0][0].shape[1])
        targets = None if self.data.targets is None else torch.full(feats.shape[:2], NO_TARGET)
        for row, (piece, (matrix, states)) in enumerate(zip(pieces, parts, strict=True)):
            feats[row, : len(matrix)] = self._augmented(torch.from_numpy(matrix), piece, epoch)
            if targets is not None and states is not None:
                targets[row, piece.left : piece.left + len(states)] = torch.from_numpy(states)
        return SequenceBatch(pieces, feats, lens, targets)

    def _augmented(self, feats: Tensor, piece: Piece, epoch: int) -> Tensor:
        if self.augment is None:
            return feats
        return self.augment(feats, generator(self.seed, Purpose.augmentation, epoch, number_of(piece.key)))


def _taken(pieces: tuple[Piece, ...], share: Share) -> tuple[Piece, ...]:
    """The part of a minibatch that a process takes."""
    return tuple(pieces[index] for index in share.among([piece.num_frames for piece in pieces]))


def _pieces(data: SequenceData, config: SequenceConfig, multiple: int) -> Iterator[Piece]:
    """All pieces, in the order of the utterances' ids."""
    longest = config.most_frames
    if config.long_utterances is LongUtterances.refuse:
        long = {name: length for name, length in sorted(data.num_frames.items()) if length > longest}
        if long:
            told = first_few([f"{name!r} ({length} frames)" for name, length in long.items()])
            raise DataError(
                f"utterances longer than {longest} frames: {told}; raise sequences.longest or max_frames, "
                "or leave them out"
            )
    for name in sorted(data.num_frames):
        yield from cut(name, data.num_frames[name], longest, config.chunk_context, multiple=multiple)
