"""Random state lattices that are small enough to write out every path."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from lhuc_asr.training.criteria.smbr.state_lattice import StateLattice

NUM_STATES = 4


def lattice_of(arcs, finals, *, utterance="u1") -> StateLattice:
    """From rows of source, target, tied state, log weight, and a dictionary of ends."""
    source, target, state, log_weight = (np.array(column) for column in zip(*sorted(arcs), strict=True))
    frame = np.zeros(int(target.max()) + 1, np.int32)
    for begin, end, read in zip(source, target, state, strict=True):
        frame[end] = frame[begin] + (read >= 0)
    log_final = np.full(len(frame), -np.inf)
    for node, weight in finals.items():
        log_final[node] = weight
    columns = (source.astype(np.int32), target.astype(np.int32), state.astype(np.int32))
    return StateLattice(utterance, *columns, log_weight.astype(np.float64), frame, log_final)


@st.composite
def state_lattices(draw, max_frames=4, utterance="u1") -> StateLattice:
    """Nodes in layers, one a frame; some layers have one more node that arcs without a frame lead to."""
    weights = st.floats(-3, 3)
    layers, arcs, node = [[0]], [], 1
    for _ in range(draw(st.integers(1, max_frames))):
        layer = list(range(node, node + draw(st.integers(1, 3))))
        node = layer[-1] + 1
        for target in layer:
            for source in draw(st.lists(st.sampled_from(layers[-1]), min_size=1, max_size=3)):
                arcs.append((source, target, draw(st.integers(0, NUM_STATES - 1)), draw(weights)))
        if draw(st.booleans()):
            arcs += [(source, node, -1, draw(weights)) for source in layer]
            layer.append(node)
            node += 1
        layers.append(layer)
    ends = draw(st.lists(st.sampled_from(layers[-1]), min_size=1, max_size=2, unique=True))
    return lattice_of(arcs, {end: draw(weights) for end in ends}, utterance=utterance)


def paths(lattice: StateLattice) -> Iterator[tuple[float, list[int]]]:
    """Log weight and tied states of every path."""
    waiting: list[tuple[int, float, list[int]]] = [(0, 0.0, [])]
    while waiting:
        node, weight, states = waiting.pop()
        if np.isfinite(lattice.log_final[node]):
            yield weight + float(lattice.log_final[node]), states
        for arc in np.flatnonzero(lattice.source == node):
            state = int(lattice.state[arc])
            longer = [*states, state] if state >= 0 else states
            waiting.append((int(lattice.target[arc]), weight + float(lattice.log_weight[arc]), longer))
