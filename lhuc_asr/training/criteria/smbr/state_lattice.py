"""What an utterance could have been, state by state: the arcs of a lattice as far as training needs them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError


@dataclass(frozen=True, eq=False)
class StateLattice:
    """Arcs of one utterance; node 0 is the start and every arc leads to a node with a higher number.

    Attributes:
        utterance: its id.
        source: (A,) int32 nodes in which arcs begin, ascending.
        target: (A,) int32 nodes in which arcs end.
        state: (A,) int32 tied state of the frame that an arc reads; -1 for an arc without a frame.
        log_weight: (A,) float64, nats, of words and transitions; acoustics are not in it.
        frame: (N,) int32 frames that were read before each node.
        log_final: (N,) float64 log weight of ending in a node, -inf where a path cannot end.

    Raises:
        DataError: the arrays do not make a lattice; the text names the utterance.

    Example:
        >>> two = np.array([1, 1], np.int32)
        >>> ends = np.array([-np.inf, 0.0])
        >>> lattice = StateLattice("u1", two * 0, two, np.array([4, 7], np.int32), two * -0.5, np.array([0, 1]), ends)
        >>> lattice.num_frames, lattice.num_states
        (1, 8)
    """

    utterance: str
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    state: NDArray[np.int32]
    log_weight: NDArray[np.float64]
    frame: NDArray[np.int32]
    log_final: NDArray[np.float64]

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise DataError(f"the lattice of utterance {self.utterance!r} cannot be trained on: {fault}")

    @property
    def num_frames(self) -> int:
        """T."""
        return int(self.frame.max())

    @cached_property
    def num_states(self) -> int:
        """Outputs that a network needs at least: the highest tied state and one."""
        return int(self.state.max(initial=-1)) + 1

    @cached_property
    def reads(self) -> NDArray[np.int64]:
        """(R,) the arcs that read a frame, ascending."""
        return np.flatnonzero(self.state >= 0)

    @cached_property
    def read_frame(self) -> NDArray[np.int64]:
        """(R,) which frame each of these reads."""
        frames: NDArray[np.int64] = self.frame[self.source[self.reads]].astype(np.int64)
        return frames

    @cached_property
    def read_state(self) -> NDArray[np.int64]:
        """(R,) as which tied state."""
        states: NDArray[np.int64] = self.state[self.reads].astype(np.int64)
        return states

    def _fault(self) -> str | None:
        """What is wrong, or None."""
        num_nodes, num_arcs = len(self.frame), len(self.source)
        lengths = {len(column) for column in (self.target, self.state, self.log_weight)}
        if lengths != {num_arcs} or len(self.log_final) != num_nodes or not num_nodes:
            return f"columns of different length ({num_arcs} arcs, {num_nodes} nodes)"
        if num_arcs and not 0 <= int(self.source.min()) <= int(self.target.max()) < num_nodes:
            return f"arcs lead to nodes beyond the {num_nodes} that it has"
        if (np.diff(self.source) < 0).any() or (self.target <= self.source).any():
            return "arcs must be sorted by source and lead to nodes with higher numbers"
        if (self.frame[self.target] != self.frame[self.source] + (self.state >= 0)).any() or self.frame[0] != 0:
            return "the frames of its nodes do not fit its arcs"
        if not _finite(self.log_weight) or np.isnan(self.log_final).any() or (self.log_final == np.inf).any():
            return "weights are not finite"
        if not (ends := np.isfinite(self.log_final)).any():
            return "no path ends"
        if (self.frame[ends] != self.num_frames).any():
            return "paths of different length"
        return None


def _finite(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all())
