"""Hidden Markov models for networks that give an output for every third frame: one state a phone, left biphones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.states.conversion import frame_contexts
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.transitions import enters, loops
from lhuc_asr.hmm.tying.building import TreeBuilder
from lhuc_asr.hmm.tying.questions import find_questions
from lhuc_asr.hmm.tying.statistics import TreeStatistics
from lhuc_asr.ranges import require_at_least

LOOP_PROBABILITY = 0.5
"""Chance to stay in a phone; training with LF-MMI assumes it, so decoding must as well."""


@dataclass(kw_only=True, slots=True)
class ChainConfig:
    """How the tied states of phones with one state are found.

    Attributes:
        num_leaves: tied states, the outputs of the network; fewer where the speech does not suffice.
        min_occupancy: frames that a tied state needs.
        min_gain: log-likelihood, nats, that a split of a tied state must win.
    """

    num_leaves: int = 500
    min_occupancy: float = 150.0
    min_gain: float = 50.0

    def __post_init__(self) -> None:
        require_at_least(1, self, "chain", "num_leaves", "min_occupancy")
        require_at_least(0, self, "chain", "min_gain")


def chain_hmm(
    hmm: HmmModel, aligned: Iterable[tuple[NDArray[np.float32], NDArray[np.int32]]], config: ChainConfig | None = None
) -> HmmModel:
    """Grow a tree for phones with one state, which knows the phone before.

    Args:
        hmm: the model that aligned the speech.
        aligned: feats (T, F) and transition ids (T,) of its utterances.
        config: size of the tree.

    Source: Povey et al. 2016 (Interspeech), section 2.3; one tied state for all of a phone, instead of one for its
    first frame and another for the rest.
    """
    config = config or ChainConfig()
    statistics = TreeStatistics.gather(hmm, aligned).of_left_biphones()
    num_phones = len(hmm.phones)
    builder = TreeBuilder(
        find_questions(statistics, num_phones=num_phones, num_states=1),
        num_phones=num_phones,
        num_states=1,
        min_occupancy=config.min_occupancy,
        min_gain=config.min_gain,
    )
    tree = builder.build(statistics, config.num_leaves)
    return HmmModel.of_tree(hmm.phones, tree, loop_probability=LOOP_PROBABILITY)


def chain_alignment(alignment: NDArray[np.int32], old: HmmModel, chain: HmmModel) -> NDArray[np.int32]:
    """The same phones at the same frames, in the transition ids of a model with one state a phone.

    Args:
        alignment: (T,) transition ids of ``old``.
        old: the model that made the alignment, with the same phones.
        chain: the model with one state a phone.

    Returns:
        (T,) int32 transition ids of ``chain``, one for every frame of the features.
    """
    contexts = frame_contexts(old, alignment)
    states = chain.transition_state_table[contexts.left, contexts.centre, contexts.right, 0]
    return np.where(old.phone_starts(alignment), enters(states), loops(states)).astype(np.int32)
