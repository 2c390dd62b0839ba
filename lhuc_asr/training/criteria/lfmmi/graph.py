"""A weighted graph whose every arc takes one frame and emits one tied state, as flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

NEVER = -np.inf


@dataclass(frozen=True, eq=False)
class ChainGraph:
    """Arcs sorted by the state that they lead to; all weights are natural logarithms.

    Attributes:
        source: (A,) int32 state that an arc leaves.
        target: (A,) int32 state that it enters, ascending.
        pdf: (A,) int32 tied state that it emits.
        log_weight: (A,) float64.
        start: (S,) float64 of beginning in a state; -inf where that is not possible.
        final: (S,) float64 of ending in a state; -inf where that is not possible.
    """

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    pdf: NDArray[np.int32]
    log_weight: NDArray[np.float64]
    start: NDArray[np.float64]
    final: NDArray[np.float64]

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.start)

    @property
    def num_arcs(self) -> int:
        """A."""
        return len(self.source)

    @property
    def num_pdfs(self) -> int:
        """Outputs that a network needs at least."""
        return 1 + int(self.pdf.max(initial=-1))

    def min_frames(self) -> int:
        """The fewest frames of a path; one more than there are states when nothing leads to an end."""
        reached, num_frames = self.start > NEVER, 0
        while num_frames <= self.num_states and not (reached & (self.final > NEVER)).any():
            following = np.zeros_like(reached)
            following[self.target[reached[self.source]]] = True
            reached, num_frames = following, num_frames + 1
        return num_frames

    def stationary(self, *, num_frames: int = 100) -> NDArray[np.float64]:
        """(S,) chance of being in a state, averaged over the first frames of an utterance in which nothing is heard.

        Source: Povey et al. 2016 (Interspeech), section 2.4, initial probabilities.
        """
        weight = np.exp(self.log_weight)
        leaving = np.bincount(self.source, weight, self.num_states)
        weight /= leaving[self.source]
        now = np.exp(self.start)
        total = np.zeros_like(now)
        for _ in range(num_frames):
            total += now
            now = np.bincount(self.target, now[self.source] * weight, self.num_states)
        shares: NDArray[np.float64] = total / total.sum()
        return shares

    def cut_anywhere(self, start: NDArray[np.float64]) -> ChainGraph:
        """The same arcs for pieces of speech: begin with these probabilities, end in any state."""
        with np.errstate(divide="ignore"):
            return replace(self, start=np.log(start), final=np.zeros_like(self.final))


@dataclass(slots=True)
class GraphBuilder:
    """Collects states and arcs.

    Example:
        >>> builder = GraphBuilder()
        >>> begin, end = builder.add_state(start=0.0), builder.add_state(final=0.0)
        >>> builder.add_arc(begin, end, pdf=3, log_weight=-0.5)
        >>> builder.graph().min_frames()
        1
    """

    _start: list[float] = field(default_factory=list)
    _final: list[float] = field(default_factory=list)
    _arcs: list[tuple[int, int, int]] = field(default_factory=list)
    _weights: list[float] = field(default_factory=list)

    def add_state(self, *, start: float = NEVER, final: float = NEVER) -> int:
        """Number of the new state."""
        self._start.append(start)
        self._final.append(final)
        return len(self._start) - 1

    def set_final(self, state: int, log_weight: float) -> None:
        """Let paths end in a state."""
        self._final[state] = log_weight

    def add_arc(self, source: int, target: int, *, pdf: int, log_weight: float) -> None:
        """One frame."""
        self._arcs.append((source, target, pdf))
        self._weights.append(log_weight)

    def graph(self) -> ChainGraph:
        """All of it, sorted."""
        arcs = np.array(self._arcs, np.int32).reshape(-1, 3)
        order = np.lexsort((arcs[:, 0], arcs[:, 1]))
        source, target, pdf = (np.ascontiguousarray(column) for column in arcs[order].T)
        weights = np.array(self._weights, np.float64)[order]
        return ChainGraph(source, target, pdf, weights, np.array(self._start), np.array(self._final))


@dataclass(frozen=True, eq=False)
class JoinedGraphs:
    """Graphs of several utterances side by side, as one graph without arcs between them.

    Attributes:
        graph: all of them.
        arc_utterance: (A,) int64 position of the utterance of an arc.
        state_utterance: (S,) int64 position of the utterance of a state.
    """

    graph: ChainGraph
    arc_utterance: NDArray[np.int64]
    state_utterance: NDArray[np.int64]

    @staticmethod
    def of(graphs: Sequence[ChainGraph]) -> JoinedGraphs:
        """Number the states of later graphs after those of earlier ones."""
        offsets = np.cumsum([0, *(graph.num_states for graph in graphs)])[:-1]
        joined = ChainGraph(
            np.concatenate([graph.source + by for graph, by in zip(graphs, offsets, strict=True)]).astype(np.int32),
            np.concatenate([graph.target + by for graph, by in zip(graphs, offsets, strict=True)]).astype(np.int32),
            np.concatenate([graph.pdf for graph in graphs]),
            np.concatenate([graph.log_weight for graph in graphs]),
            np.concatenate([graph.start for graph in graphs]),
            np.concatenate([graph.final for graph in graphs]),
        )
        numbers = np.arange(len(graphs))
        return JoinedGraphs(
            joined,
            np.repeat(numbers, [graph.num_arcs for graph in graphs]),
            np.repeat(numbers, [graph.num_states for graph in graphs]),
        )
