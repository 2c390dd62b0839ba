"""Alignments of speech at other speeds, made from the alignment of the original instead of by another search."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import AlignmentError
from lhuc_asr.hmm.alignment import Aligned, Alignment, AlignmentSet
from lhuc_asr.hmm.states.transitions import enters, loops, transition_states


def stretched(alignment: Alignment, num_frames: int) -> Alignment:
    """An alignment carried to the same words at another speed: same phones, same states, other lengths.

    Of T frames become U. The new frame u takes the state of the old frame round((u + 0.5) * T / U - 0.5), the one that
    was heard in the middle of it. Where the new speech is so fast that a state would vanish, it keeps one frame, and
    the borders around it move by as little as possible.

    Args:
        alignment: (T,) transition ids; each state is entered once and then loops.
        num_frames: U.

    Returns:
        (U,) int32 transition ids of the same model.

    Raises:
        AlignmentError: there are more states than new frames, or this is no alignment.

    Example:
        >>> stretched(np.array([2, 1, 4, 6, 5, 5], np.int32), 4).tolist()
        [2, 4, 6, 5]
        >>> stretched(np.array([2, 4, 6], np.int32), 7).tolist()
        [2, 1, 4, 3, 3, 6, 5]
    """
    starts = np.flatnonzero(alignment % 2 == 0)
    if not len(starts) or starts[0] or alignment.min() < 1:
        raise AlignmentError("an alignment begins by entering a state and gives every frame a transition id above 0")
    if len(starts) > num_frames:
        raise AlignmentError(
            f"{len(alignment)} frames cannot become {num_frames}: their words pass through {len(starts)} states, "
            "each of which lasts a frame or more"
        )
    starts_after = _apart(_borders(starts, len(alignment), num_frames), num_frames)
    states = transition_states(alignment[starts])
    row = loops(np.repeat(states, np.diff(starts_after, append=num_frames)))
    row[starts_after] = enters(states)
    return row


def stretch_all(alignments: AlignmentSet, source: Mapping[str, str], num_frames: Mapping[str, int]) -> AlignmentSet:
    """Alignments of a perturbed corpus.

    Args:
        alignments: of the originals.
        source: utterance -> the original that it was made from; an original leads to itself.
        num_frames: utterance -> frames of its features, for all in ``source``.

    Returns:
        An alignment for each utterance in ``source``, or the reason why it has none.
    """
    outcomes = (_outcome(alignments, name, original, num_frames[name]) for name, original in source.items())
    carried = AlignmentSet.collect(outcomes)
    return AlignmentSet(carried.alignments, carried.failed, alignments.log_like_per_frame)


def _outcome(alignments: AlignmentSet, utterance: str, original: str, num_frames: int) -> Aligned:
    if original not in alignments.alignments:
        reason = alignments.failed.get(original, "not aligned")
        return Aligned(utterance, None, reason=reason if utterance == original else f"{original!r}: {reason}")
    try:
        return Aligned(utterance, stretched(alignments.alignments[original], num_frames))
    except AlignmentError as error:
        return Aligned(utterance, None, reason=str(error))


def _borders(starts: NDArray[np.intp], before: int, after: int) -> NDArray[np.intp]:
    """The first new frame whose middle lies in or behind each of these old frames; exact, in whole numbers."""
    borders: NDArray[np.intp] = -((before - 2 * after * starts) // (2 * before))
    return borders


def _apart(starts: NDArray[np.intp], num_frames: int) -> NDArray[np.intp]:
    """Rising starts, the first of them 0, moved apart so that each state has a frame; the largest move is least.

    Without the places that the states before need, the starts must not fall: isotonic regression, whose solution with
    the least largest error lies midway between the running maximum and the running minimum from behind.
    """
    places = np.arange(len(starts))
    slack = starts - places
    not_before, not_after = np.maximum.accumulate(slack), np.minimum.accumulate(slack[::-1])[::-1]
    moved: NDArray[np.intp] = np.clip((not_before + not_after) // 2, 0, num_frames - len(starts)) + places
    return moved
