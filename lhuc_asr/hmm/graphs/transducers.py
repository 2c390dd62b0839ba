"""The four transducers of a decoding graph: grammar G, lexicon L, context C (kaldifst's own) and states H.

Disambiguation symbols keep the composition determinisable: ``#0`` marks a back-off in G, ``#1 ...`` tell words with
equal pronunciations apart, the last one follows optional silence. As phones they are numbered after the real phones.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.graphs.fst_arrays import FstArrays, FstBuilder
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.topology import SILENCE
from lhuc_asr.hmm.states.transitions import enters, loops, transition_states
from lhuc_asr.lang.arpa import END, START, ArpaModel
from lhuc_asr.lang.lexicon import Lexicon

_LOG = logging.getLogger(__name__)
_LN10 = math.log(10.0)
_NEVER = -90.0


@dataclass(frozen=True)
class LexiconFst:
    """The lexicon transducer from phones to words.

    Attributes:
        fst: phones in, words out.
        disambiguation: phone ids of ``#0``, ``#1``, ..., in order.
    """

    fst: FstArrays
    disambiguation: tuple[int, ...]


def grammar_fst(lm: ArpaModel, word_ids: dict[str, int], backoff_id: int) -> FstArrays:
    """The language model as an acceptor of words: one state per history, back-off arcs read ``#0``.

    Args:
        lm: n-gram model.
        word_ids: words that the graph shall know; the model's other words are left out.
        backoff_id: input label of back-off arcs; their output is epsilon.
    """
    grams = {gram: value for gram, value in lm.log_probs.items() if value > _NEVER and _is_usable(gram, word_ids)}
    histories = {()} | {gram[:-1] for gram in grams} | {gram for gram in lm.backoffs if _is_history(gram, lm, word_ids)}
    begin = _longest_suffix((START,), histories)
    builder = FstBuilder()
    states = {history: builder.add_state() for history in [begin, *sorted(histories - {begin})]}
    for gram, value in grams.items():
        history, word = gram[:-1], gram[-1]
        if word == END:
            builder.set_final(states[history], -value * _LN10)
        else:
            target = _longest_suffix(gram[-(lm.order - 1) :] if lm.order > 1 else (), histories)
            label = word_ids[word]
            builder.add_arc(states[history], states[target], ilabel=label, olabel=label, cost=-value * _LN10)
    for history, state in states.items():
        if history:
            target = _longest_suffix(history[1:], histories)
            cost = -lm.backoffs.get(history, 0.0) * _LN10
            builder.add_arc(state, states[target], ilabel=backoff_id, cost=cost)
    return builder.arrays()


def _is_usable(gram: tuple[str, ...], word_ids: dict[str, int]) -> bool:
    history, word = gram[:-1], gram[-1]
    in_order = START not in gram[1:] and END not in history
    known = all(other in word_ids or other == START for other in history)
    return in_order and known and (word == END or word in word_ids)


def _is_history(gram: tuple[str, ...], lm: ArpaModel, word_ids: dict[str, int]) -> bool:
    known = all(word in word_ids for word in gram[1:]) and (gram[0] in word_ids or gram[0] == START)
    return len(gram) < lm.order and known


def _longest_suffix(history: tuple[str, ...], histories: set[tuple[str, ...]]) -> tuple[str, ...]:
    while history not in histories:
        history = history[1:]
    return history


def lexicon_fst(
    lexicon: Lexicon, phone_ids: dict[str, int], word_ids: dict[str, int], *, silence_probability: float
) -> LexiconFst:
    """Every pronunciation of every word in a loop, with optional silence before the first and after each.

    Args:
        lexicon: pronunciations.
        phone_ids: ids of the real phones, 1 ... number of phones.
        word_ids: words of the graph.
        silence_probability: in (0, 1).
    """
    marked = _mark_equal_pronunciations(
        [(word, pronunciation) for word in word_ids for pronunciation in lexicon.pronunciations_of(word)]
    )
    backoff = len(phone_ids) + 1
    after_silence = backoff + 1 + max((mark for _, _, mark in marked), default=0)
    with_silence, without_silence = -math.log(silence_probability), -math.log1p(-silence_probability)
    builder = FstBuilder()
    begin, loop, silence, silent = (builder.add_state() for _ in range(4))
    builder.set_final(loop)
    builder.add_arc(begin, loop, ilabel=0, cost=without_silence)
    builder.add_arc(begin, silence, ilabel=0, cost=with_silence)
    builder.add_arc(silence, silent, ilabel=SILENCE)
    builder.add_arc(silent, loop, ilabel=after_silence)
    builder.add_arc(loop, loop, ilabel=backoff, olabel=len(word_ids) + 1)
    for word, pronunciation, mark in marked:
        labels = [phone_ids[phone] for phone in pronunciation] + ([backoff + mark] if mark else [])
        state, olabel = loop, word_ids[word]
        for label in labels[:-1]:
            following = builder.add_state()
            builder.add_arc(state, following, ilabel=label, olabel=olabel)
            state, olabel = following, 0
        builder.add_arc(state, loop, ilabel=labels[-1], olabel=olabel, cost=without_silence)
        builder.add_arc(state, silence, ilabel=labels[-1], olabel=olabel, cost=with_silence)
    return LexiconFst(builder.arrays(), tuple(range(backoff, after_silence + 1)))


def _mark_equal_pronunciations(
    entries: list[tuple[str, tuple[str, ...]]],
) -> list[tuple[str, tuple[str, ...], int]]:
    """Number pronunciations that several words share, or that begin another one, from 1; others get 0."""
    how_often = Counter(pronunciation for _, pronunciation in entries)
    beginnings = {pronunciation[:end] for _, pronunciation in entries for end in range(1, len(pronunciation))}
    used: Counter[tuple[str, ...]] = Counter()
    marked = []
    for word, pronunciation in entries:
        if how_often[pronunciation] > 1 or pronunciation in beginnings:
            used[pronunciation] += 1
        marked.append((word, pronunciation, used[pronunciation]))
    return marked


@dataclass(frozen=True)
class StatesFst:
    """The transducer H.

    Attributes:
        fst: transition ids (and disambiguation labels) in, labels of phones in context out; without self loops.
        first_disambiguation: labels from here on are no transition ids.
    """

    fst: FstArrays
    first_disambiguation: int


def states_fst(hmm: HmmModel, windows: list[list[int]]) -> StatesFst:
    """H: from the entering transition ids of a phone's states to the phone in context.

    Args:
        hmm: tree and transitions.
        windows: what each label of C means, as ``compose_context`` gives it: a window of phones, or a negative
            disambiguation symbol, or nothing for label 0.
    """
    width = 3 if hmm.tree.is_context_dependent else 1
    labels = np.array([label for label, window in enumerate(windows) if len(window) == width and window[-1] >= 0])
    marks = [label for label, window in enumerate(windows) if label and len(window) == 1 and window[0] <= 0]
    phones = [label for label in labels.tolist() if label not in set(marks)]
    rows = np.array([windows[label] for label in phones], np.int64).reshape(-1, width)
    table, num_states = hmm.transition_state_table, hmm.num_states
    chains = enters(table[rows[:, 0], rows[:, 1], rows[:, 2]] if width == 3 else table[0, rows[:, 0], 0])
    num_chains = len(phones)
    inner = 1 + np.arange(num_chains * (num_states - 1), dtype=np.int32).reshape(num_chains, num_states - 1)
    loop = np.zeros((num_chains, 1), np.int32)
    source, target = np.hstack([loop, inner]), np.hstack([inner, loop])
    olabel = np.zeros((num_chains, num_states), np.int32)
    olabel[:, 0] = phones
    first_mark = hmm.transitions.num_transition_ids + 1
    mark_ids = np.arange(first_mark, first_mark + len(marks), dtype=np.int32)
    nowhere = np.zeros(len(marks), np.int32)
    final_cost = np.full(1 + inner.size, np.inf, np.float32)
    final_cost[0] = 0.0
    fst = FstArrays(
        start=0,
        final_cost=final_cost,
        source=np.concatenate([source.reshape(-1), nowhere]),
        ilabel=np.concatenate([chains.reshape(-1), mark_ids]),
        olabel=np.concatenate([olabel.reshape(-1), np.array(marks, np.int32)]),
        cost=np.zeros(source.size + len(marks), np.float32),
        target=np.concatenate([target.reshape(-1), nowhere]),
    )
    return StatesFst(fst, first_mark)


def with_self_loops(fst: FstArrays, hmm: HmmModel, *, self_loop_scale: float) -> FstArrays:
    """Let every state last: a loop follows the arc that entered it (Kaldi's ``reorder=true``).

    States into which arcs of different transition states lead are split first, so that a state has one loop at most.
    """
    entering = np.where(fst.ilabel > 0, transition_states(fst.ilabel), -1)
    fst, kind = _split_by_entry(fst, entering)
    loop = hmm.transitions.loop_probability[np.maximum(kind, 0)]
    leave_cost = np.where(kind >= 0, -self_loop_scale * np.log1p(-loop), 0.0).astype(np.float32)
    looping = np.flatnonzero(kind >= 0).astype(np.int32)
    nothing = np.zeros(len(looping), np.int32)
    loop_cost = (-self_loop_scale * np.log(loop[looping])).astype(np.float32)
    return FstArrays(
        start=fst.start,
        final_cost=fst.final_cost + leave_cost,
        source=np.concatenate([fst.source, looping]),
        ilabel=np.concatenate([fst.ilabel, loops(kind[looping])]),
        olabel=np.concatenate([fst.olabel, nothing]),
        cost=np.concatenate([fst.cost + leave_cost[fst.source], loop_cost]),
        target=np.concatenate([fst.target, looping]),
    )


def _split_by_entry(fst: FstArrays, entering: NDArray[np.int32]) -> tuple[FstArrays, NDArray[np.int32]]:
    """Give each state one kind of entering arc; returns also (S,) the transition state of each, -1 for none.

    A state that is entered in several ways is kept as their common continuation; each way gets a new state before it,
    with an epsilon arc to the old one.
    """
    targets = np.append(fst.target, fst.start)
    kinds = np.append(entering, -1)
    pairs = np.unique(np.stack([targets, kinds], axis=1), axis=0)
    ways = np.bincount(pairs[:, 0], minlength=fst.num_states)
    kind = np.full(fst.num_states, -1, np.int32)
    single = pairs[ways[pairs[:, 0]] == 1]
    kind[single[:, 0]] = single[:, 1]
    several = pairs[(ways[pairs[:, 0]] > 1) & (pairs[:, 1] >= 0)]
    base = int(kinds.max(initial=0)) + 2
    keys = several[:, 0].astype(np.int64) * base + several[:, 1]
    moved = (ways[fst.target] > 1) & (entering >= 0)
    target = fst.target.copy()
    found = np.searchsorted(keys, fst.target[moved].astype(np.int64) * base + entering[moved])
    target[moved] = fst.num_states + found
    nothing = np.zeros(len(several), np.int32)
    new = np.arange(fst.num_states, fst.num_states + len(several), dtype=np.int32)
    split = FstArrays(
        start=fst.start,
        final_cost=np.concatenate([fst.final_cost, np.full(len(several), np.inf, np.float32)]),
        source=np.concatenate([fst.source, new]),
        ilabel=np.concatenate([fst.ilabel, nothing]),
        olabel=np.concatenate([fst.olabel, nothing]),
        cost=np.concatenate([fst.cost, nothing.astype(np.float32)]),
        target=np.concatenate([target, several[:, 0].astype(np.int32)]),
    )
    return split, np.concatenate([kind, several[:, 1].astype(np.int32)])
