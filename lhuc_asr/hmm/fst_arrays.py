"""A transducer as numpy arrays, read from and written to OpenFst's binary ``VectorFst<StdArc>`` format.

Whole-graph steps (relabelling, splitting states, adding loops) are then a few array operations instead of Python loops
over millions of arcs.
"""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kaldifst
import numba
import numpy as np
from numpy.typing import NDArray

_MAGIC = 2125659606
_VERSION = 2
_EXPANDED_AND_MUTABLE = 0x3


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
            return _parse(path.read_bytes())

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
        return _header(self.start, self.num_states, self.num_arcs) + words.tobytes()


def _header(start: int, num_states: int, num_arcs: int) -> bytes:
    def text(value: bytes) -> bytes:
        return struct.pack("<i", len(value)) + value

    numbers = struct.pack("<iiQqqq", _VERSION, 0, _EXPANDED_AND_MUTABLE, start, num_states, num_arcs)
    return struct.pack("<i", _MAGIC) + text(b"vector") + text(b"standard") + numbers


def _parse(data: bytes) -> FstArrays:
    at = 4
    names = []
    for _ in range(2):
        (length,) = struct.unpack_from("<i", data, at)
        names.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    version, flags, _, start, num_states, _ = struct.unpack_from("<iiQqqq", data, at)
    assert names == [b"vector", b"standard"] and version == _VERSION and flags == 0, (names, version, flags)
    words = np.frombuffer(data, np.int32, offset=at + struct.calcsize("<iiQqqq"))
    num_arcs = (len(words) - 3 * num_states) // 4
    final_cost = np.empty(num_states, np.int32)
    arcs = np.empty((5, num_arcs), np.int32)
    _read_states(words, final_cost, arcs)
    source, ilabel, olabel, cost, target = arcs
    return FstArrays(start, final_cost.view(np.float32), source, ilabel, olabel, cost.view(np.float32), target)


def _read_states_python(words: Any, final_cost: Any, arcs: Any) -> None:
    at, arc = 0, 0
    for state in range(len(final_cost)):
        final_cost[state] = words[at]
        num_arcs = words[at + 1]
        at += 3
        for _ in range(num_arcs):
            arcs[0, arc] = state
            for field in range(4):
                arcs[field + 1, arc] = words[at + field]
            arc += 1
            at += 4


_read_states: Any = numba.njit(cache=True)(_read_states_python)


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
