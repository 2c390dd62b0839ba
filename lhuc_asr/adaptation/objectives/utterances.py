"""What is learnt from whole utterances: speech with its targets, long utterances cut where that is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.adaptation.targets.frame_targets import Targets, joined
from lhuc_asr.adaptation.targets.sequence_criteria import Goal
from lhuc_asr.errors import SpeakerError
from lhuc_asr.models.network import AcousticNetwork

PIECE_FRAMES = 1500
"""Longer utterances are cut, if the network's outputs depend on a few frames around them: 15 s in frames of 10 ms."""

MOST_FRAMES = 6000
"""Of an utterance that cannot be cut: one minute; networks that attend to everything need memory by the square."""


@dataclass(frozen=True, eq=False)
class Piece:
    """An utterance, or a piece of one with the frames around it that its outputs depend on.

    Attributes:
        feats: (T, F) normalised features.
        targets: of N consecutive outputs.
        skip: outputs of ``feats`` before the first that has a target.
        utterance: its id.
        goal: what a criterion of whole utterances learns from.
    """

    feats: Tensor
    targets: Targets
    skip: int = 0
    utterance: str = ""
    goal: Goal | None = None


@dataclass(frozen=True, eq=False)
class SpeakerUtterances:
    """What one speaker's scales are learnt from, utterance by utterance.

    Attributes:
        pieces: each with at least one target.
    """

    pieces: tuple[Piece, ...]

    @property
    def num_frames(self) -> int:
        """Output frames that have a target."""
        return sum(len(piece.targets) for piece in self.pieces)

    @property
    def targets(self) -> Targets:
        """Of all pieces, one after the other."""
        return joined([piece.targets for piece in self.pieces])

    @property
    def have_targets(self) -> bool:
        """Whether there is anything to learn from."""
        return bool(self.pieces)


def utterances_of(
    targets: Mapping[str, Targets],
    feats: Mapping[str, NDArray[np.float32]],
    network: AcousticNetwork,
    goals: Mapping[str, Goal] | None = None,
) -> SpeakerUtterances:
    """One speaker's utterances with their targets, as a network takes them.

    Args:
        targets: utterance id -> targets of all T' outputs; utterances without any are left out.
        feats: utterance id -> (T, F) normalised.
        network: says how long a piece may be and how outputs are counted.
        goals: utterance id -> what a criterion of whole utterances learns from; such are never cut, and others left
            out. None for cross-entropy of frames.

    Raises:
        SpeakerError: features have another dimension than the network's, or the network needs whole utterances and
            one is too long for that.
    """
    if goals is None:
        pieces = (piece for name, own in targets.items() for piece in _pieces(name, feats[name], own, network))
        return SpeakerUtterances(tuple(pieces))
    whole = (_whole(name, feats[name], own, network) for name, own in targets.items() if name in goals)
    return SpeakerUtterances(tuple(replace(piece, goal=goals[piece.utterance]) for piece in whole))


def require_lengths(
    pdfs: Mapping[str, NDArray[np.int32]], feats: Mapping[str, NDArray[np.float32]], network: AcousticNetwork
) -> None:
    """Refuse targets that do not fit the outputs.

    Raises:
        SpeakerError: an utterance has another number of targets than the network gives outputs.
    """
    for name, own in pdfs.items():
        num_frames = len(feats[name])
        num_outputs = int(network.output_lens(torch.tensor(num_frames)))
        if num_outputs == len(own):
            continue
        outputs = f"{num_frames} frames"
        if network.subsampling > 1:
            outputs += f", which give {num_outputs} outputs (one for every {network.subsampling} frames),"
        raise SpeakerError(f"utterance {name!r} has {outputs} but {len(own)} targets")


def _pieces(utterance: str, feats: NDArray[np.float32], targets: Targets, network: AcousticNetwork) -> Iterator[Piece]:
    if not len(targets):
        return
    whole = _whole(utterance, feats, targets, network)
    if network.has_windows:
        yield from cut(whole, network.context, network.subsampling)
    else:
        yield whole


def _whole(utterance: str, feats: NDArray[np.float32], targets: Targets, network: AcousticNetwork) -> Piece:
    if feats.shape[1] != network.feat_dim:
        raise SpeakerError(
            f"utterance {utterance!r} has {feats.shape[1]} features a frame, the network takes {network.feat_dim}"
        )
    if not network.has_windows and len(feats) > MOST_FRAMES:
        raise SpeakerError(
            f"utterance {utterance!r} has {len(feats)} frames; every output of this network depends on the whole "
            f"utterance, and at most {MOST_FRAMES} frames are taken at once: divide the utterance"
        )
    return Piece(torch.from_numpy(np.ascontiguousarray(feats, np.float32)), targets, utterance=utterance)


def cut(whole: Piece, context: int, subsampling: int, *, most_frames: int | None = None) -> Iterator[Piece]:
    """Cut an utterance into pieces of even length, whose outputs are those of the whole utterance.

    Args:
        whole: the utterance.
        context: frames to either side on which an output depends.
        subsampling: frames from one output to the next.
        most_frames: of a piece, without its context; `PIECE_FRAMES` if nothing is said.

    Example:
        >>> whole = Piece(torch.arange(9.0)[:, None], torch.arange(5))
        >>> pieces = list(cut(whole, context=1, subsampling=2, most_frames=4))
        >>> [(piece.feats[:, 0].tolist(), piece.targets.tolist(), piece.skip) for piece in pieces]
        [([0.0, 1.0, 2.0, 3.0], [0, 1], 0), ([2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [2, 3], 1), ([6.0, 7.0, 8.0], [4], 1)]
    """
    num_outputs = len(whole.targets)
    num_pieces = -(-num_outputs * subsampling // (most_frames or PIECE_FRAMES))
    size = -(-num_outputs // num_pieces)
    for first in range(0, num_outputs, size):
        targets = whole.targets[first : first + size]
        begin = max(0, first - -(-context // subsampling))
        last_frame = (first + len(targets) - 1) * subsampling
        feats = whole.feats[begin * subsampling : last_frame + context + 1]
        yield Piece(feats, targets, first - begin, whole.utterance)
