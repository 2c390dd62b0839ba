"""Alignments read as phones in context, and carried from one model's transition ids to another's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.topology import EDGE
from lhuc_asr.hmm.states.transitions import enters, loops


@dataclass(frozen=True, eq=False)
class FrameContexts:
    """What an alignment says of every frame, each (T,) int32: the phone, its neighbours, the HMM state."""

    left: NDArray[np.int32]
    centre: NDArray[np.int32]
    right: NDArray[np.int32]
    state: NDArray[np.int32]


def frame_contexts(hmm: HmmModel, alignment: NDArray[np.int32]) -> FrameContexts:
    """Phone, neighbours and HMM state of every frame; beyond the utterance lies phone 0."""
    starts = hmm.phone_starts(alignment)
    segment = np.cumsum(starts) - 1
    phones = hmm.phones_of(alignment)[starts]
    edge = np.array([EDGE], np.int32)
    left, right = np.concatenate([edge, phones[:-1]]), np.concatenate([phones[1:], edge])
    return FrameContexts(left[segment], phones[segment], right[segment], hmm.transitions.state_of[alignment])


def convert_alignment(alignment: NDArray[np.int32], old: HmmModel, new: HmmModel) -> NDArray[np.int32]:
    """The same phones and states at the same frames, in the transition ids of another model with the same phones.

    Args:
        alignment: (T,) transition ids of ``old``.
        old: the model that made the alignment.
        new: the model whose ids are wanted.

    Returns:
        (T,) int32 transition ids of ``new``.
    """
    contexts = frame_contexts(old, alignment)
    table = new.transition_state_table
    states = table[contexts.left, contexts.centre, contexts.right, contexts.state]
    return np.where(old.transitions.is_self_loop[alignment], loops(states), enters(states))
