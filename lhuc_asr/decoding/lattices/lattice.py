"""The lattice of an utterance: every path that the search kept, as arrays in topological order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DecodingError

Costs = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lattice:
    """States and arcs of one utterance; state 0 is the start and every arc leads to a state with a higher number.

    Attributes:
        utterance: its id.
        source: (A,) int32 states in which arcs begin, ascending.
        target: (A,) int32 states in which arcs end.
        transition_id: (A,) int32 from 1, one frame each; 0 for an arc without a frame.
        word: (A,) int32 word ids from 1; 0 for an arc without a word.
        graph_cost: (A,) float32, negative log probability of words and transitions, insertion penalties included.
        acoustic_cost: (A,) float32, negative log-likelihood times ``acoustic_scale``.
        final_cost: (S,) float32 graph cost of ending in a state, inf where a path cannot end.
        acoustic_scale: the factor that the acoustic costs carry.
        reached_final: paths end where sentences may end; False when only unfinished ones survived.

    Example:
        >>> two = np.array([1, 1], np.int32)
        >>> costs = np.array([0.0, 1.0], np.float32)
        >>> ends = np.array([np.inf, 0], np.float32)
        >>> lattice = Lattice("u1", two * 0, two, two, np.array([1, 2], np.int32), costs, costs, ends, 0.1)
        >>> lattice.num_frames, lattice.costs(acoustic_scale=0.2).tolist()
        (1, [0.0, 3.0])
    """

    utterance: str
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    transition_id: NDArray[np.int32]
    word: NDArray[np.int32]
    graph_cost: NDArray[np.float32]
    acoustic_cost: NDArray[np.float32]
    final_cost: NDArray[np.float32]
    acoustic_scale: float
    reached_final: bool = True

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.final_cost)

    @property
    def num_arcs(self) -> int:
        """A."""
        return len(self.source)

    @cached_property
    def frame(self) -> NDArray[np.int32]:
        """(S,) frames that were read before each state; the same along every path."""
        frame = np.full(self.num_states, -1, np.int32)
        frame[0] = 0
        assert _frames(self.source, self.target, self.transition_id, frame), "paths of different length meet in a state"
        return frame

    @property
    def num_frames(self) -> int:
        """T."""
        return int(self.frame.max())

    def costs(self, acoustic_scale: float | None = None, graph_scale: float = 1.0) -> Costs:
        """(A,) float64 costs of the arcs at another weight of acoustics and graph.

        Args:
            acoustic_scale: factor on the log-likelihoods, above 0; without it the one of the search.
            graph_scale: factor on the graph's costs.
        """
        factor = 1.0 if acoustic_scale is None else acoustic_scale / self.acoustic_scale
        return graph_scale * self.graph_cost.astype(np.float64) + factor * self.acoustic_cost.astype(np.float64)

    def final_costs(self, graph_scale: float = 1.0) -> Costs:
        """(S,) float64 costs of ending, at another weight of the graph; inf where a path cannot end."""
        ends = np.isfinite(self.final_cost)
        return np.where(ends, graph_scale * np.where(ends, self.final_cost, 0.0).astype(np.float64), np.inf)

    def pruned(self, beam: float) -> Lattice:
        """The lattice without arcs whose best path is worse than the best of all by more than ``beam``."""
        costs, ends = self.costs(), self.final_costs()
        before = _best_before(self.source, self.target, costs, self.num_states)
        after = best_after(self.source, self.target, costs, ends)
        kept = before[self.source] + costs + after[self.target] <= after[0] + beam
        final_kept = before + ends <= after[0] + beam
        return self._restricted(kept, np.where(final_kept, self.final_cost, np.float32(np.inf)))

    def _restricted(self, kept: NDArray[np.bool_], final_cost: NDArray[np.float32]) -> Lattice:
        """Some of the arcs, and only the states that they still need."""
        used = np.zeros(self.num_states, np.bool_)
        used[0] = True
        used[self.source[kept]] = used[self.target[kept]] = True
        number = (np.cumsum(used) - 1).astype(np.int32)
        return self._renumbered(number, np.flatnonzero(kept), final_cost[used])

    def _renumbered(
        self, number: NDArray[np.int32], arcs: NDArray[np.int64], final_cost: NDArray[np.float32]
    ) -> Lattice:
        """These arcs, in this order, between states with other numbers, whose costs of ending are given."""
        return replace(
            self,
            source=number[self.source[arcs]],
            target=number[self.target[arcs]],
            transition_id=self.transition_id[arcs],
            word=self.word[arcs],
            graph_cost=self.graph_cost[arcs],
            acoustic_cost=self.acoustic_cost[arcs],
            final_cost=final_cost,
        )


def in_topological_order(lattice: Lattice, *, start: int = 0) -> Lattice:
    """The same lattice with states renumbered so that arcs lead upwards, without states that no path uses.

    Args:
        lattice: arcs and states in any order, without cycles.
        start: the state in which paths begin.

    Raises:
        DecodingError: no path leads from the start to an end, or there is a cycle.
    """
    number = np.full(lattice.num_states, -1, np.int32)
    order = np.argsort(lattice.source, kind="stable")
    if not _number_states(start, lattice.source[order], lattice.target[order], number):
        raise DecodingError(f"the lattice of utterance {lattice.utterance!r} has a cycle without frames")
    reached = number[lattice.source] >= 0
    order = np.flatnonzero(reached)[np.argsort(number[lattice.source[reached]], kind="stable")]
    states = np.empty(int((number >= 0).sum()), np.int64)
    states[number[number >= 0]] = np.flatnonzero(number >= 0)
    ordered = lattice._renumbered(number, order, lattice.final_cost[states])
    after = best_after(ordered.source, ordered.target, ordered.costs(), ordered.final_costs())
    if not np.isfinite(after[0]):
        raise DecodingError(f"the lattice of utterance {lattice.utterance!r} has no complete path")
    return ordered._restricted(np.isfinite(after[ordered.target]), ordered.final_cost)


def best_after(source: NDArray[np.int32], target: NDArray[np.int32], costs: Costs, ends: Costs) -> Costs:
    """(S,) cost of the best path from every state to an end; inf where there is none."""
    after = np.array(ends)
    _extend_back(source, target, costs, after)
    return after


def _frames_python(source: Any, target: Any, transition_id: Any, frame: Any) -> bool:
    for arc in range(len(source)):
        there = frame[source[arc]] + (1 if transition_id[arc] else 0)
        if frame[target[arc]] not in (-1, there):
            return False
        frame[target[arc]] = there
    return True


def _number_states_python(start: int, source: Any, target: Any, number: Any) -> bool:
    """Depth first: a state gets its number after all that follow it, counted from the end; False for a cycle."""
    num_states = len(number)
    first = np.searchsorted(source, np.arange(num_states + 1))
    at = first.copy()
    state_of = np.zeros(num_states, np.int8)  # 1 on the stack, 2 done
    stack = np.empty(num_states, np.int32)
    done = np.empty(num_states, np.int32)
    stack[0], height, num_done = start, 1, 0
    state_of[start] = 1
    while height:
        state = stack[height - 1]
        if at[state] < first[state + 1]:
            following = target[at[state]]
            at[state] += 1
            if state_of[following] == 1:
                return False
            if state_of[following] == 0:
                state_of[following] = 1
                stack[height] = following
                height += 1
        else:
            state_of[state] = 2
            done[num_done] = state
            num_done += 1
            height -= 1
    for position in range(num_done):
        number[done[position]] = num_done - 1 - position
    return True


def _best_before(source: Any, target: Any, costs: Costs, num_states: int) -> Costs:
    """(S,) cost of the best path from the start to every state."""
    before = np.full(num_states, np.inf)
    before[0] = 0.0
    _extend_best(source, target, costs, before)
    return before


def _extend_best_python(source: Any, target: Any, costs: Any, before: Any) -> None:
    for arc in range(len(source)):
        before[target[arc]] = min(before[target[arc]], before[source[arc]] + costs[arc])


def _extend_back_python(source: Any, target: Any, costs: Any, after: Any) -> None:
    """``after`` comes with the final costs and leaves with the cost of the best path to an end."""
    for arc in range(len(source) - 1, -1, -1):
        after[source[arc]] = min(after[source[arc]], after[target[arc]] + costs[arc])


_frames: Any = numba.njit(cache=True)(_frames_python)
_number_states: Any = numba.njit(cache=True)(_number_states_python)
_extend_best: Any = numba.njit(cache=True)(_extend_best_python)
_extend_back: Any = numba.njit(cache=True)(_extend_back_python)
