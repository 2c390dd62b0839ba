"""OpenFst's binary files: their header, and ``VectorFst`` as numpy arrays, with one cost an arc or, in lattices, two.

In a ``VectorFst`` a state takes its final costs and 64 bits of count, then each of its arcs two labels, the costs, and
the state where it ends; every number is 32 bits wide. Letters: S states, A arcs, C costs, K = 4 + C columns.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_MAGIC = 2125659606
_VERSION = 2
_EXPANDED_AND_MUTABLE = 0x3
_NUMBERS = "<iiQqqq"


@dataclass(frozen=True)
class FstHeader:
    """What stands before the states.

    Attributes:
        kind: of the FST, ``vector`` or ``const``.
        arc_type: ``standard``, or ``lattice4`` with two costs.
        start: the first state.
        num_states: S.
        num_arcs: A; a ``vector`` that was written by OpenFst may not tell.
        flags: 1 input symbols, 2 output symbols.
        version: of the format of this kind.
    """

    kind: bytes
    arc_type: bytes
    start: int
    num_states: int
    num_arcs: int
    flags: int = 0
    version: int = _VERSION

    @staticmethod
    def read(content: bytes) -> FstHeader:
        """The header at the beginning of a file."""
        (magic,) = struct.unpack_from("<i", content)
        assert magic == _MAGIC, "not written by OpenFst"
        at, names = 4, []
        for _ in range(2):
            (length,) = struct.unpack_from("<i", content, at)
            names.append(content[at + 4 : at + 4 + length])
            at += 4 + length
        version, flags, _properties, start, num_states, num_arcs = struct.unpack_from(_NUMBERS, content, at)
        kind, arc_type = names
        return FstHeader(kind, arc_type, start, num_states, num_arcs, flags, version)

    @property
    def num_bytes(self) -> int:
        """Where the states begin."""
        return 4 + 4 + len(self.kind) + 4 + len(self.arc_type) + struct.calcsize(_NUMBERS)

    def binary(self) -> bytes:
        """As it stands in a file."""
        names = b"".join(struct.pack("<i", len(name)) + name for name in (self.kind, self.arc_type))
        numbers = (self.version, self.flags, _EXPANDED_AND_MUTABLE, self.start, self.num_states, self.num_arcs)
        return struct.pack("<i", _MAGIC) + names + struct.pack(_NUMBERS, *numbers)


@dataclass(frozen=True, eq=False)
class VectorFst:
    """States and arcs of a ``VectorFst``, bit for bit: costs as well are int32 here, and float32 by ``view``.

    Attributes:
        start: the first state.
        final_CS: (C, S) int32.
        arcs_KA: (K, A) int32: where arcs begin, ilabel, olabel, costs, where they end.
    """

    start: int
    final_CS: NDArray[np.int32]
    arcs_KA: NDArray[np.int32]

    @staticmethod
    def read(content: bytes, *, arc_type: bytes, num_costs: int) -> VectorFst:
        """The content of a file that this process has written a moment ago."""
        header = FstHeader.read(content)
        assert header == replace(header, kind=b"vector", arc_type=arc_type, flags=0, version=_VERSION), header
        words = np.frombuffer(content, np.int32, offset=header.num_bytes)
        num_arcs = (len(words) - (num_costs + 2) * header.num_states) // (num_costs + 3)
        final_CS = np.empty((num_costs, header.num_states), np.int32)
        arcs_KA = np.empty((num_costs + 4, num_arcs), np.int32)
        _read_states(words, final_CS, arcs_KA)
        return VectorFst(header.start, final_CS, arcs_KA)


def _read_states_python(words: Any, final_CS: Any, arcs_KA: Any) -> None:
    num_costs, num_states = final_CS.shape
    num_fields = num_costs + 3
    at, arc = 0, 0
    for state in range(num_states):
        for cost in range(num_costs):
            final_CS[cost, state] = words[at + cost]
        num_arcs = words[at + num_costs]
        at += num_costs + 2
        for _ in range(num_arcs):
            arcs_KA[0, arc] = state
            for field in range(num_fields):
                arcs_KA[field + 1, arc] = words[at + field]
            arc += 1
            at += num_fields


_read_states: Any = numba.njit(cache=True)(_read_states_python)
