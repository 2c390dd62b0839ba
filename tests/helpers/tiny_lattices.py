"""Random lattices that are small enough to write out every path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from lhuc_asr.decoding.lattices.lattice import Lattice

ACOUSTIC_SCALE = 0.1


@dataclass(frozen=True)
class Path:
    """One way through a lattice."""

    arcs: tuple[int, ...]
    words: tuple[int, ...]
    cost: float


def lattice_of(arcs, finals, *, utterance="u1", reached_final=True) -> Lattice:
    """From rows of source, target, transition id, word, graph cost, acoustic cost, and a dictionary of ends."""
    rows = sorted(arcs)
    source, target, transition_id, word, graph, acoustic = (np.array(column) for column in zip(*rows, strict=True))
    final_cost = np.full(int(target.max()) + 1, np.inf, np.float32)
    for state, cost in finals.items():
        final_cost[state] = cost
    return Lattice(
        utterance,
        source.astype(np.int32),
        target.astype(np.int32),
        transition_id.astype(np.int32),
        word.astype(np.int32),
        graph.astype(np.float32),
        acoustic.astype(np.float32),
        final_cost,
        ACOUSTIC_SCALE,
        reached_final,
    )


@st.composite
def lattices(draw, max_frames=4, num_words=3, num_transition_ids=6) -> Lattice:
    """States in layers, one a frame; some layers have a second row that arcs without a frame lead to."""
    num_frames = draw(st.integers(1, max_frames))
    costs = st.floats(-3, 3, width=32)
    layers, arcs, state = [[0]], [], 1
    for _ in range(num_frames):
        layer = list(range(state, state + draw(st.integers(1, 3))))
        state = layer[-1] + 1
        for target in layer:
            for source in draw(st.lists(st.sampled_from(layers[-1]), min_size=1, max_size=3)):
                label = draw(st.integers(0, num_words))
                arcs.append((source, target, draw(st.integers(1, num_transition_ids)), label, draw(costs), draw(costs)))
        if draw(st.booleans()):
            for source in layer:
                arcs.append((source, state, 0, draw(st.integers(0, num_words)), draw(costs), 0.0))
            layer = [*layer, state]
            state += 1
        layers.append(layer)
    finals = {one: draw(costs) for one in draw(st.lists(st.sampled_from(layers[-1]), min_size=1, unique=True))}
    raw = lattice_of(arcs, finals)
    from lhuc_asr.decoding.lattices.lattice import in_topological_order

    return in_topological_order(raw)


def all_paths(lattice: Lattice, *, acoustic_scale=None, graph_scale=1.0) -> list[Path]:
    """Every path from start to end, by plain recursion."""
    costs, ends = lattice.costs(acoustic_scale, graph_scale), lattice.final_costs(graph_scale)
    found = []

    def follow(state, arcs, words, cost):
        if np.isfinite(ends[state]):
            found.append(Path(arcs, words, cost + ends[state]))
        for arc in np.flatnonzero(lattice.source == state).tolist():
            said = (*words, int(lattice.word[arc])) if lattice.word[arc] else words
            follow(int(lattice.target[arc]), (*arcs, arc), said, cost + costs[arc])

    follow(0, (), (), 0.0)
    return found


def chances(paths: list[Path]) -> np.ndarray:
    """Probabilities of the paths."""
    weights = np.exp(-np.array([path.cost for path in paths]))
    return weights / weights.sum()
