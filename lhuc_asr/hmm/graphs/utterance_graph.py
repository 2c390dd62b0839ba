"""All the state sequences that a transcript allows: its words' pronunciations, with optional silence around them.

The graph of one utterance is small, so it is laid out directly as arrays of emitting states instead of being composed
from transducers; it accepts the same sequences at the same costs as H o C o L o (the linear grammar of the transcript).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.topology import EDGE, SILENCE

Pronunciations = Sequence[Sequence[int]]
"""The pronunciations of one word, each in phone ids."""

_BEGIN = -1


@dataclass(frozen=True, eq=False)
class UtteranceGraph:
    """Emitting states of one transcript; every one also has a loop on itself.

    Attributes:
        transition_state: (S,) int32, which transition state each graph state is.
        word: (S,) int32, position of its word in the transcript; -1 in silence.
        pdfs: (U,) int32, the tied states that occur, ascending.
        column: (S,) int32, index of each graph state's tied state in ``pdfs``.
        start_cost: (S,) float32, cost of beginning here; inf where that is not possible.
        final_cost: (S,) float32, cost of ending here; inf where that is not possible.
        arc_offsets: (S + 1,) int32, the arcs into state ``s`` are ``arc_offsets[s] ... arc_offsets[s + 1] - 1``.
        arc_source: (A,) int32, where an arc comes from.
        arc_cost: (A,) float32, cost of silence or of no silence.
        min_frames: the fewest frames that fit.
    """

    transition_state: NDArray[np.int32]
    word: NDArray[np.int32]
    pdfs: NDArray[np.int32]
    column: NDArray[np.int32]
    start_cost: NDArray[np.float32]
    final_cost: NDArray[np.float32]
    arc_offsets: NDArray[np.int32]
    arc_source: NDArray[np.int32]
    arc_cost: NDArray[np.float32]
    min_frames: int


@dataclass(slots=True)
class _Phones:
    """Phones as nodes, and which may follow which."""

    phone: list[int] = field(default_factory=list)
    word: list[int] = field(default_factory=list)
    next: list[dict[int, float]] = field(default_factory=list)
    start: dict[int, float] = field(default_factory=dict)
    final: dict[int, float] = field(default_factory=dict)

    def add(self, phone: int, word: int, sources: dict[int, float]) -> int:
        node = len(self.phone)
        self.phone.append(phone)
        self.word.append(word)
        self.next.append({})
        for source, cost in sources.items():
            (self.start if source == _BEGIN else self.next[source])[node] = cost
        return node


def compile_utterance(hmm: HmmModel, words: Sequence[Pronunciations], *, silence_probability: float) -> UtteranceGraph:
    """The graph of one transcript.

    Args:
        hmm: the model whose transition states to use.
        words: pronunciations of every word in turn; no words at all is an utterance of silence.
        silence_probability: chance of a silence before the first word and after every word, in (0, 1).
    """
    phones = _phones_of_words(words, silence_probability)
    shortest = sum(min(map(len, pronunciations)) for pronunciations in words)
    return _expand(hmm, phones, hmm.num_states * max(shortest, 1))


def _phones_of_words(words: Sequence[Pronunciations], silence_probability: float) -> _Phones:
    phones = _Phones()
    with_silence, without_silence = -math.log(silence_probability), -math.log1p(-silence_probability)
    ends = [_BEGIN]
    for position, pronunciations in enumerate(words):
        silence = phones.add(SILENCE, -1, dict.fromkeys(ends, with_silence))
        sources = dict.fromkeys(ends, without_silence) | {silence: 0.0}
        ends = []
        for pronunciation in pronunciations:
            node = phones.add(pronunciation[0], position, sources)
            for phone in pronunciation[1:]:
                node = phones.add(phone, position, {node: 0.0})
            ends.append(node)
    silence = phones.add(SILENCE, -1, dict.fromkeys(ends, with_silence))
    phones.final = {silence: 0.0} | ({} if ends == [_BEGIN] else dict.fromkeys(ends, without_silence))
    return phones


def _contexts(phones: _Phones, is_context_dependent: bool) -> list[tuple[int, int, int]]:
    """Every (left phone, node, right phone) that can occur; phone 0 everywhere for monophones."""
    if not is_context_dependent:
        return [(EDGE, node, EDGE) for node in range(len(phones.phone))]
    lefts: list[set[int]] = [set() for _ in phones.phone]
    for node, following in enumerate(phones.next):
        for other in following:
            lefts[other].add(phones.phone[node])
    for node in phones.start:
        lefts[node].add(EDGE)
    rights = [{phones.phone[other] for other in following} for following in phones.next]
    for node in phones.final:
        rights[node].add(EDGE)
    return [
        (left, node, right)
        for node in range(len(phones.phone))
        for left in sorted(lefts[node])
        for right in sorted(rights[node])
    ]


def _expand(hmm: HmmModel, phones: _Phones, min_frames: int) -> UtteranceGraph:
    """Give every phone its contexts, and every phone in context its states."""
    triphones = _contexts(phones, hmm.tree.is_context_dependent)
    num_states, number = hmm.num_states, {triphone: index for index, triphone in enumerate(triphones)}
    windows = np.array([(left, phones.phone[node], right) for left, node, right in triphones])
    transition_state = hmm.transition_state_table[windows[:, 0], windows[:, 1], windows[:, 2]].reshape(-1)
    start_cost, final_cost = np.full((2, len(transition_state)), np.inf, np.float32)
    sources, targets, costs = _arcs_within(len(triphones), num_states)
    rights: dict[tuple[int, int], list[int]] = {}
    for left, node, right in triphones:
        rights.setdefault((left, node), []).append(right)
    for index, (left, node, right) in enumerate(triphones):
        anywhere = not hmm.tree.is_context_dependent
        if node in phones.start and (anywhere or left == EDGE):
            start_cost[index * num_states] = phones.start[node]
        if node in phones.final and (anywhere or right == EDGE):
            final_cost[(index + 1) * num_states - 1] = phones.final[node]
        for other, cost in phones.next[node].items():
            if anywhere or phones.phone[other] == right:
                seen = EDGE if anywhere else phones.phone[node]
                for beyond in rights[seen, other]:
                    sources.append((index + 1) * num_states - 1)
                    targets.append(number[seen, other, beyond] * num_states)
                    costs.append(cost)
    order = np.argsort(targets, kind="stable")
    pdfs, column = np.unique(hmm.transitions.pdf[transition_state], return_inverse=True)
    return UtteranceGraph(
        transition_state=transition_state,
        word=np.repeat(np.array([phones.word[node] for _, node, _ in triphones], np.int32), num_states),
        pdfs=pdfs,
        column=column.astype(np.int32),
        start_cost=start_cost,
        final_cost=final_cost,
        arc_offsets=np.searchsorted(np.array(targets)[order], np.arange(len(transition_state) + 1)).astype(np.int32),
        arc_source=np.array(sources, np.int32)[order],
        arc_cost=np.array(costs, np.float32)[order],
        min_frames=min_frames,
    )


def _arcs_within(num_triphones: int, num_states: int) -> tuple[list[int], list[int], list[float]]:
    """Arcs from every state of a phone to the next."""
    sources = [index * num_states + state for index in range(num_triphones) for state in range(num_states - 1)]
    return sources, [source + 1 for source in sources], [0.0] * len(sources)
