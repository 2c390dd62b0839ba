"""A transducer as numpy arrays, read from and written to OpenFst's binary ``VectorFst<StdArc>`` format.

Whole-graph steps (relabelling, splitting states, adding loops) are then a few array operations instead of Python loops
over millions of arcs.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kaldifst
import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.graphs.fst_binary import FstHeader, VectorFst

_ARC_TYPE = b"standard"


@dataclass(frozen=True, eq=False)
class FstArrays:
    """States and arcs; weights are costs (negative natural logs).

    Attributes:
        start: the first state.
        final_cost: (S,) float32, inf where a state is not final.
        source: (A,) int32 states in which arcs begin.
        ilabel: (A,) int32.
        olabel: (A,) int32.
        cost: (A,) float32.
        target: (A,) int32 states in which arcs end.
    """

    start: int
    final_cost: NDArray[np.float32]
    source: NDArray[np.int32]
    ilabel: NDArray[np.int32]
    olabel: NDArray[np.int32]
    cost: NDArray[np.float32]
    target: NDArray[np.int32]

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.final_cost)

    @property
    def num_arcs(self) -> int:
        """A."""
        return len(self.source)

    def with_ilabels(self, ilabel: NDArray[np.int32]) -> FstArrays:
        """The same transducer with other input labels."""
        return replace(self, ilabel=ilabel)

    def to_fst(self) -> Any:
        """The ``kaldifst.StdVectorFst`` of the same states and arcs."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "fst"
            path.write_bytes(self._binary())
            return kaldifst.StdVectorFst.read(str(path))

    @staticmethod
    def from_fst(fst: Any) -> FstArrays:
        """The arrays of a ``kaldifst.StdVectorFst``."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "fst"
            fst.write(str(path))
            read = VectorFst.read(path.read_bytes(), arc_type=_ARC_TYPE, num_costs=1)
        source, ilabel, olabel, cost, target = read.arcs_KA
        final_cost = read.final_CS[0].view(np.float32)
        return FstArrays(read.start, final_cost, source, ilabel, olabel, cost.view(np.float32), target)

    def _binary(self) -> bytes:
        order = np.argsort(self.source, kind="stable")
        counts = np.bincount(self.source, minlength=self.num_states)
        arcs_before = np.concatenate([[0], np.cumsum(counts)])
        words = np.empty(3 * self.num_states + 4 * self.num_arcs, np.int32)
        at_state = 3 * np.arange(self.num_states) + 4 * arcs_before[:-1]
        words[at_state] = self.final_cost.astype(np.float32).view(np.int32)
        words[at_state + 1] = counts
        words[at_state + 2] = 0
        at_arc = 3 * (self.source[order].astype(np.int64) + 1) + 4 * np.arange(self.num_arcs)
        columns = (self.ilabel, self.olabel, self.cost.astype(np.float32).view(np.int32), self.target)
        for offset, column in enumerate(columns):
            words[at_arc + offset] = column[order]
        header = FstHeader(b"vector", _ARC_TYPE, self.start, self.num_states, self.num_arcs)
        return header.binary() + words.tobytes()


class FstBuilder:
    """Collects states and arcs one by one."""

    def __init__(self) -> None:
        self._final: dict[int, float] = {}
        self._arcs: list[tuple[int, int, int, int]] = []
        self._costs: list[float] = []
        self._num_states = 0

    def add_state(self) -> int:
        """A new state; the first one is the start."""
        self._num_states += 1
        return self._num_states - 1

    def set_final(self, state: int, cost: float = 0.0) -> None:
        """A path may end in this state."""
        self._final[state] = cost

    def add_arc(self, source: int, target: int, *, ilabel: int, olabel: int = 0, cost: float = 0.0) -> None:
        """An arc; label 0 is epsilon."""
        self._arcs.append((source, ilabel, olabel, target))
        self._costs.append(cost)

    def arrays(self) -> FstArrays:
        """Everything collected so far."""
        final_cost = np.full(self._num_states, np.inf, np.float32)
        for state, cost in self._final.items():
            final_cost[state] = cost
        source, ilabel, olabel, target = np.array(self._arcs, np.int32).reshape(-1, 4).T.copy()
        return FstArrays(0, final_cost, source, ilabel, olabel, np.array(self._costs, np.float32), target)
