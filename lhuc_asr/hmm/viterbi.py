"""The best path through an utterance's graph, with a beam; compiled by numba."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.graphs.utterance_graph import UtteranceGraph
from lhuc_asr.hmm.states.transitions import TransitionModel, enters, loops


@dataclass(frozen=True, eq=False)
class BestPath:
    """The cheapest way through a graph.

    Attributes:
        states: (T,) int32 graph states.
        cost: of the whole path, with scaled acoustic log-likelihoods.
    """

    states: NDArray[np.int32]
    cost: float

    def transition_ids(self, graph: UtteranceGraph) -> NDArray[np.int32]:
        """(T,) int32 one transition id per frame."""
        states = graph.transition_state[self.states]
        stays = np.concatenate([[False], self.states[1:] == self.states[:-1]])
        return np.where(stays, loops(states), enters(states))


def best_path(
    graph: UtteranceGraph,
    transitions: TransitionModel,
    scaled_log_likes: NDArray[np.float32],
    *,
    self_loop_scale: float,
    beam: float,
) -> BestPath | None:
    """Search with a beam.

    Args:
        graph: of the utterance.
        transitions: loop probabilities.
        scaled_log_likes: (T, U) acoustic log-likelihoods of the graph's ``pdfs`` in their order, already scaled.
        self_loop_scale: weight of the transition log-probabilities.
        beam: states whose cost is that far above the best of their frame are given up.

    Returns:
        None when no path that ends the transcript survives.
    """
    loop = transitions.loop_probability[graph.transition_state]
    num_frames, num_states = len(scaled_log_likes), len(graph.transition_state)
    back = np.empty((num_frames, num_states), np.int32)
    path = np.empty(num_frames, np.int32)
    cost = _search(
        np.ascontiguousarray(scaled_log_likes, np.float32),
        graph.column,
        (-self_loop_scale * np.log(loop)).astype(np.float32),
        (-self_loop_scale * np.log1p(-loop)).astype(np.float32),
        graph.start_cost,
        graph.final_cost,
        graph.arc_offsets,
        graph.arc_source,
        graph.arc_cost,
        beam,
        back,
        path,
    )
    return BestPath(path, float(cost)) if np.isfinite(cost) else None


def _search_python(  # noqa: PLR0913, PLR0917 - a compiled kernel takes plain arrays
    log_likes: Any,
    column: Any,
    loop_cost: Any,
    leave_cost: Any,
    start_cost: Any,
    final_cost: Any,
    arc_offsets: Any,
    arc_source: Any,
    arc_cost: Any,
    beam: float,
    back: Any,
    path: Any,
) -> float:
    """Fill ``path`` and return its cost, inf when there is none; ``back`` (T, S) is scratch space."""
    num_frames, num_states = back.shape
    if num_frames == 0:
        return np.inf
    before = np.empty(num_states, np.float64)
    now = np.empty(num_states, np.float64)
    for frame in range(num_frames):
        best = np.inf
        for state in range(num_states):
            if frame == 0:
                cost, source = np.float64(start_cost[state]), state
            else:
                cost, source = before[state] + loop_cost[state], state
                for arc in range(arc_offsets[state], arc_offsets[state + 1]):
                    other = arc_source[arc]
                    candidate = before[other] + leave_cost[other] + arc_cost[arc]
                    if candidate < cost:
                        cost, source = candidate, other
            cost -= log_likes[frame, column[state]]
            now[state], back[frame, state] = cost, source
            best = min(best, cost)
        if not best < np.inf:
            return np.inf
        for state in range(num_states):
            before[state] = now[state] if now[state] <= best + beam else np.inf
    best, last = np.inf, 0
    for state in range(num_states):
        cost = before[state] + leave_cost[state] + final_cost[state]
        if cost < best:
            best, last = cost, state
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = last
        last = back[frame, last]
    return best


_search: Any = numba.njit(cache=True)(_search_python)
