"""Transition ids: the labels of an aligned frame, in Kaldi's numbering.

A transition state is a (phone, HMM state, pdf); they are sorted and count from 0. Number ``s`` owns two transition ids:
``2 s + 1`` loops in the state, ``2 s + 2`` enters it. An alignment has one id a frame: the entering one first, then as
many loops as the state lasts (Kaldi's ``reorder=true``). Id 0 is epsilon, the label of an arc without a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.states.topology import LOOP_PROBABILITY
from lhuc_asr.hmm.states.tree import DecisionTree


@dataclass(frozen=True, eq=False)
class TransitionModel:
    """The transition states of a tree, and how likely each is to last.

    Attributes:
        phone: (S,) int32, phone id of every transition state.
        state: (S,) int32, HMM state in its phone, from 0.
        pdf: (S,) int32, tied state.
        loop_probability: (S,) float64, in (0, 1), chance that one more frame follows.

    Example:
        >>> from lhuc_asr.hmm.states.tree import monophone_tree
        >>> transitions = TransitionModel.of_tree(monophone_tree(2, 3))
        >>> transitions.num_transition_ids, transitions.pdf_of.tolist()
        (12, [-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    """

    phone: NDArray[np.int32]
    state: NDArray[np.int32]
    pdf: NDArray[np.int32]
    loop_probability: NDArray[np.float64]

    @staticmethod
    def of_tree(tree: DecisionTree, *, loop_probability: float = LOOP_PROBABILITY) -> TransitionModel:
        """Every (phone, state, pdf) that a tree can give, all equally likely to last."""
        rows = [
            (phone, state, pdf)
            for phone in range(1, tree.num_phones + 1)
            for state in range(tree.num_states)
            for pdf in tree.pdfs_of(phone, state)
        ]
        phone, state, pdf = np.array(rows, np.int32).T.copy()
        return TransitionModel(phone, state, pdf, np.full(len(rows), loop_probability))

    @property
    def num_transition_states(self) -> int:
        """S, half the number of transition ids."""
        return len(self.pdf)

    @property
    def num_transition_ids(self) -> int:
        """The highest transition id; they count from 1."""
        return 2 * len(self.pdf)

    @cached_property
    def pdf_of(self) -> NDArray[np.int32]:
        """(num_transition_ids + 1,) tied state of every transition id; -1 for id 0."""
        return _per_transition_id(self.pdf)

    @cached_property
    def phone_of(self) -> NDArray[np.int32]:
        """(num_transition_ids + 1,) phone id of every transition id; -1 for id 0."""
        return _per_transition_id(self.phone)

    @cached_property
    def state_of(self) -> NDArray[np.int32]:
        """(num_transition_ids + 1,) HMM state of every transition id; -1 for id 0."""
        return _per_transition_id(self.state)

    @cached_property
    def is_self_loop(self) -> NDArray[np.bool_]:
        """(num_transition_ids + 1,) True where the id stays in its state; False for id 0."""
        odd: NDArray[np.bool_] = np.arange(self.num_transition_ids + 1) % 2 == 1
        return odd

    def transition_state_table(self, tree: DecisionTree) -> NDArray[np.int32]:
        """(P + 1, P + 1, P + 1, states) transition state of every (left, centre, right, state) of P phones."""
        table = tree.table
        centre = np.arange(table.shape[1])[None, :, None, None]
        state = np.arange(table.shape[3])
        key = (centre * table.shape[3] + state) * tree.num_pdfs + table
        own = (self.phone.astype(np.int64) * table.shape[3] + self.state) * tree.num_pdfs + self.pdf
        found: NDArray[np.int32] = np.searchsorted(own, key).astype(np.int32)
        found[:, 0] = -1
        return found

    def re_estimated(self, alignment_counts: NDArray[np.int64], *, min_count: float = 5.0) -> TransitionModel:
        """Loop probabilities from how often each transition id occurs in alignments.

        Args:
            alignment_counts: (num_transition_ids + 1,) occurrences; entry 0 is not used.
            min_count: transition states seen less often keep their probability.
        """
        loops, enters = alignment_counts[1::2].astype(np.float64), alignment_counts[2::2].astype(np.float64)
        total = loops + enters
        estimate = np.clip(loops / np.maximum(total, 1.0), 0.01, 0.99)
        return replace(self, loop_probability=np.where(total >= min_count, estimate, self.loop_probability))


def enters(transition_state: NDArray[np.int32]) -> NDArray[np.int32]:
    """Transition ids that enter these transition states."""
    return (2 * transition_state + 2).astype(np.int32)


def loops(transition_state: NDArray[np.int32]) -> NDArray[np.int32]:
    """Transition ids that loop in these transition states."""
    return (2 * transition_state + 1).astype(np.int32)


def transition_states(transition_ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Transition states of these transition ids, which must not be 0."""
    return ((transition_ids - 1) // 2).astype(np.int32)


def _per_transition_id(values: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.concatenate([np.array([-1], np.int32), np.repeat(values, 2)])
