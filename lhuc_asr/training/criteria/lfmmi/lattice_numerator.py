"""What may have been said: the graph of a lattice, for learning from speech without transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.training.criteria.lfmmi.graph import NEVER, ChainGraph
from lhuc_asr.training.criteria.smbr.state_lattice import StateLattice

# A arcs, S states of the graph


def numerator_of_lattice(lattice: StateLattice) -> ChainGraph:
    """The same paths, each arc with a frame; what lies between frames is taken into the arc that follows.

    A path weighs what it weighs in the lattice. The phone model of the denominator is not in it: words were weighed by
    the recogniser's language model.

    Args:
        lattice: of one utterance, at the rate of the network's outputs.

    Example:
        >>> two, ends = np.array([1, 1], np.int32), np.array([NEVER, 0.0])
        >>> lattice = StateLattice("u1", two * 0, two, np.array([4, 7], np.int32), two * -0.5, np.array([0, 1]), ends)
        >>> numerator_of_lattice(lattice).pdf.tolist()
        [4, 7]

    Source: Klejch et al. 2019 (arXiv:1906.11521), section 3; Manohar et al. 2018, "Semi-supervised training of
    acoustic models using lattice-free MMI", ICASSP.
    """
    silent, reads = _Arcs.of(lattice, lattice.state < 0), _Arcs.of(lattice, lattice.state >= 0)
    states = np.unique(np.append(reads.target, 0))
    ways = _ways(states, silent)
    first, arc = _joined(ways.target, reads.source)
    ends = ways.log_weight + lattice.log_final[ways.target]
    number = np.full(len(lattice.frame), -1, np.int64)
    number[states] = np.arange(len(states))
    source, target = number[ways.source[first]], number[reads.target[arc]]
    order = np.lexsort((source, target))
    start = np.full(len(states), NEVER)
    start[0] = 0.0
    final = np.full(len(states), NEVER)
    np.logaddexp.at(final, number[ways.source], ends)
    return ChainGraph(
        source=source[order].astype(np.int32),
        target=target[order].astype(np.int32),
        pdf=reads.state[arc][order].astype(np.int32),
        log_weight=(ways.log_weight[first] + reads.log_weight[arc])[order],
        start=start,
        final=final,
    )


@dataclass(frozen=True, eq=False)
class _Arcs:
    """Some arcs of a lattice, sorted by source; or whole ways of arcs without frames."""

    source: NDArray[Any]
    target: NDArray[Any]
    state: NDArray[Any]
    log_weight: NDArray[np.float64]

    @staticmethod
    def of(lattice: StateLattice, which: NDArray[np.bool_]) -> _Arcs:
        weights = lattice.log_weight.astype(np.float64)
        return _Arcs(lattice.source[which], lattice.target[which], lattice.state[which], weights[which])


def _ways(states: NDArray[Any], silent: _Arcs) -> _Arcs:
    """All ways without frames out of some states, those of no arc at all among them."""
    now = _Arcs(states, states, np.full(len(states), -1), np.zeros(len(states)))
    found = [now]
    while len(now.source):
        first, arc = _joined(now.target, silent.source)
        weights = now.log_weight[first] + silent.log_weight[arc]
        now = _Arcs(now.source[first], silent.target[arc], silent.state[arc], weights)
        found.append(now)
    names = ("source", "target", "state", "log_weight")
    return _Arcs(*(np.concatenate([getattr(part, name) for part in found]) for name in names))


def _joined(ends: NDArray[Any], sources: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which way goes on with which arc: numbers of ways, and numbers of arcs, whose ``sources`` ascend."""
    begin, end = np.searchsorted(sources, ends, "left"), np.searchsorted(sources, ends, "right")
    counts = end - begin
    first = np.repeat(np.arange(len(ends)), counts)
    inner = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first, begin[first] + inner
