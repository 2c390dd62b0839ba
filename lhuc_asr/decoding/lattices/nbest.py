"""The n best sentences of a lattice, each once, cheapest first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.lattices.lattice import Costs, best_after
from lhuc_asr.errors import DecodingError

if TYPE_CHECKING:
    from lhuc_asr.decoding.lattices.lattice import Lattice


@dataclass(frozen=True, slots=True)
class Sentence:
    """One entry of an n-best list.

    Attributes:
        words: word ids in order; none is a legal sentence.
        cost: of the cheapest path that says them, at the scales that were asked for.
    """

    words: tuple[int, ...]
    cost: float


def nbest(
    lattice: Lattice, num_sentences: int, *, acoustic_scale: float | None = None, graph_scale: float = 1.0
) -> tuple[Sentence, ...]:
    """The cheapest sentences, all different.

    A raw lattice has thousands of paths for one sentence, which differ in times only. So beginnings of sentences are
    extended word by word, each with all states that it can have reached, the one with the cheapest completion first.
    The completion is known exactly, so only beginnings of the sentences in the list are ever extended.

    Args:
        lattice: of one utterance.
        num_sentences: how many at most; a small lattice may have fewer.
        acoustic_scale: factor on the log-likelihoods; without it the one of the search.
        graph_scale: factor on the graph's costs.

    Returns:
        Sentences by rising cost.

    Raises:
        DecodingError: ``num_sentences`` is below 1.
    """
    if num_sentences < 1:
        raise DecodingError(f"a list of {num_sentences} sentences was asked for; there must be at least 1")
    costs, ends = lattice.costs(acoustic_scale, graph_scale), lattice.final_costs(graph_scale)
    return tuple(islice(_sentences(_Extension(lattice, costs, ends)), num_sentences))


def sentence_posteriors(sentences: tuple[Sentence, ...]) -> NDArray[np.float64]:
    """(N,) probabilities of the sentences of a list, given that one of them was said."""
    costs = np.array([sentence.cost for sentence in sentences])
    weights = np.exp(costs.min(initial=np.inf) - costs)
    return np.asarray(weights / weights.sum(), np.float64)


def _sentences(extension: _Extension) -> Iterator[Sentence]:
    """All sentences by rising cost, worked out while they are asked for."""
    numbers = count()  # so that beginnings of equal cost are never compared
    start = np.zeros(1, np.int64), np.zeros(1)
    waiting: list[Any] = [(extension.after[0], next(numbers), (), start)]
    while waiting:
        cost, _, words, reached = heapq.heappop(waiting)
        if reached is None:
            yield Sentence(words, float(cost))
            continue
        end, following = extension.of(*reached)
        if np.isfinite(end):
            heapq.heappush(waiting, (end, next(numbers), words, None))
        for word, states, costs in following:
            best = float((costs + extension.after[states]).min())
            heapq.heappush(waiting, (best, next(numbers), (*words, word), (states, costs)))


class _Extension:
    """From the states that a beginning can have reached to those after one more word."""

    def __init__(self, lattice: Lattice, costs: Costs, ends: Costs) -> None:
        self.after = best_after(lattice.source, lattice.target, costs, ends)
        self._first = np.searchsorted(lattice.source, np.arange(lattice.num_states + 1))
        self._target, self._word, self._costs, self._ends = lattice.target, lattice.word, costs, ends
        self._best = np.full(lattice.num_states, np.inf)

    def of(self, states: NDArray[np.int64], costs: Costs) -> tuple[float, list[tuple[int, NDArray[np.int64], Costs]]]:
        """Cost of ending without another word; word, states and costs of every word that can follow."""
        end, arcs, reached = _until_words(
            self._first, self._target, self._word, self._costs, self._ends, self._best, states, costs
        )
        words, targets = self._word[arcs], self._target[arcs].astype(np.int64)
        order = np.lexsort((reached, targets, words))
        words, targets, reached = words[order], targets[order], reached[order]
        is_best = np.ones(len(order), np.bool_)
        is_best[1:] = (np.diff(words) != 0) | (np.diff(targets) != 0)
        words, targets, reached = words[is_best], targets[is_best], reached[is_best]
        bounds = np.flatnonzero(np.diff(words, prepend=0, append=0))
        spans = zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        return end, [(int(words[a]), targets[a:b], reached[a:b]) for a, b in spans]


def _until_words_python(
    first: Any, target: Any, word: Any, costs: Any, ends: Any, best: Any, states: Any, reached: Any
) -> Any:
    """Follow arcs without words: cheapest end, arcs with words that are met, and what their paths cost.

    ``best`` (S,) is scratch space, inf before and afterwards.
    """
    end = np.inf
    arcs, totals = [np.int64(0) for _ in range(0)], [np.float64(0) for _ in range(0)]
    last = np.int64(0)
    for index in range(len(states)):
        best[states[index]] = min(best[states[index]], reached[index])
        last = max(last, states[index])
    state = states.min()
    while state <= last:
        cost = best[state]
        best[state] = np.inf
        if cost < np.inf:
            end = min(end, cost + ends[state])
            for arc in range(first[state], first[state + 1]):
                if word[arc] > 0:
                    arcs.append(np.int64(arc))
                    totals.append(cost + costs[arc])
                else:
                    best[target[arc]] = min(best[target[arc]], cost + costs[arc])
                    last = max(last, np.int64(target[arc]))
        state += 1
    return end, np.array(arcs), np.array(totals)


_until_words: Any = numba.njit(cache=True)(_until_words_python)
