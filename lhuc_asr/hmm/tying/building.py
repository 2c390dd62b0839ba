"""Growing the phonetic decision tree: always ask the question that explains the frames best."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.states.topology import SILENCE
from lhuc_asr.hmm.states.tree import DecisionTree, Leaf, Node, Side, Split
from lhuc_asr.hmm.tying.statistics import TreeStatistics, log_likelihood

_COLUMN = {Side.left: 0, Side.right: 2}


@dataclass(eq=False, slots=True)
class _Branch:
    """A node while the tree grows: its contexts, and its question once it has one."""

    statistics: TreeStatistics
    question: tuple[Side, frozenset[int]] | None = None
    yes: _Branch | None = None
    no: _Branch | None = None


@dataclass(frozen=True, eq=False)
class _Question:
    """The best question for a branch."""

    gain: float
    side: Side
    phones: frozenset[int]


class TreeBuilder:
    """Grows a tree with one root for every state of every phone; silence is never split.

    Args:
        questions: groups of phones that may be asked about.
        num_phones: phones, silence among them.
        num_states: HMM states per phone.
        min_occupancy: frames that a leaf needs.
        min_gain: log-likelihood, nats, that a question must win.
    """

    def __init__(
        self,
        questions: Sequence[frozenset[int]],
        *,
        num_phones: int,
        num_states: int,
        min_occupancy: float,
        min_gain: float,
    ) -> None:
        self._questions = list(questions)
        self._asked = np.zeros((len(questions), num_phones + 1))
        for row, phones in enumerate(questions):
            self._asked[row, list(phones)] = 1.0
        self._num_phones, self._num_states = num_phones, num_states
        self._min_occupancy, self._min_gain = min_occupancy, min_gain

    def build(self, statistics: TreeStatistics, num_leaves: int) -> DecisionTree:
        """Split until there are that many leaves or no question is worth asking."""
        roots = {(phone, state): _Branch(part) for phone, state, part in statistics.per_root()}
        heap: list[tuple[float, int, _Branch, _Question]] = []
        numbers = count()
        for (phone, _), root in roots.items():
            if phone != SILENCE:
                self._push(heap, numbers, root)
        leaves_left = num_leaves - self._num_phones * self._num_states
        while heap and leaves_left > 0:
            _, _, branch, question = heapq.heappop(heap)
            chosen = np.isin(branch.statistics.contexts[:, _COLUMN[question.side]], list(question.phones))
            branch.question = question.side, question.phones
            branch.yes = _Branch(branch.statistics.where(chosen))
            branch.no = _Branch(branch.statistics.where(~chosen))
            self._push(heap, numbers, branch.yes)
            self._push(heap, numbers, branch.no)
            leaves_left -= 1
        return self._frozen(roots)

    def _push(self, heap: list[tuple[float, int, _Branch, _Question]], numbers: count[int], branch: _Branch) -> None:
        question = self._best_question(branch.statistics)
        if question is not None and question.gain >= self._min_gain:
            heapq.heappush(heap, (-question.gain, next(numbers), branch, question))

    def _best_question(self, statistics: TreeStatistics) -> _Question | None:
        total = statistics.moments.sum(axis=0)
        before = float(log_likelihood(total))
        best: _Question | None = None
        for side, column in _COLUMN.items():
            by_phone = np.zeros((self._num_phones + 1, len(total)))
            np.add.at(by_phone, statistics.contexts[:, column], statistics.moments)
            yes = self._asked @ by_phone
            gains = log_likelihood(yes) + log_likelihood(total - yes) - before
            enough = (yes[:, 0] >= self._min_occupancy) & (total[0] - yes[:, 0] >= self._min_occupancy)
            gains = np.where(enough, gains, -np.inf)
            row = int(gains.argmax())
            if enough[row] and (best is None or gains[row] > best.gain):
                best = _Question(float(gains[row]), side, self._questions[row])
        return best

    def _frozen(self, roots: dict[tuple[int, int], _Branch]) -> DecisionTree:
        pdfs = count()
        return DecisionTree(
            tuple(
                tuple(_freeze(roots.get((phone, state)), pdfs) for state in range(self._num_states))
                for phone in range(1, self._num_phones + 1)
            )
        )


def _freeze(branch: _Branch | None, pdfs: count[int]) -> Node:
    """Number the leaves from left to right."""
    if branch is None or branch.question is None:
        return Leaf(next(pdfs))
    side, phones = branch.question
    yes = _freeze(branch.yes, pdfs)
    return Split(side, phones, yes, _freeze(branch.no, pdfs))


def leaf_moments(tree: DecisionTree, statistics: TreeStatistics) -> NDArray[np.float64]:
    """(P, 1 + 2 F) moments of the frames of every tied state."""
    left, centre, right, state = statistics.contexts.T
    moments = np.zeros((tree.num_pdfs, statistics.moments.shape[1]))
    np.add.at(moments, tree.table[left, centre, right, state], statistics.moments)
    return moments
