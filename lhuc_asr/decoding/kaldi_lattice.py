"""Kaldi's lattices, as its decoder gives them, to our arrays."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from lhuc_asr.decoding.lattice import Lattice, in_topological_order

if TYPE_CHECKING:
    import kaldifst

_KINDS = [b"vector", b"lattice4"]
_STATE_WORDS, _ARC_WORDS = 4, 5  # a state: two final costs, 64 bits of count; an arc: two labels, two costs, a state


def from_kaldi(raw: kaldifst.Lattice, *, utterance: str, acoustic_scale: float, reached_final: bool = True) -> Lattice:
    """The arrays of a raw state lattice, in topological order.

    Args:
        raw: ilabels are transition ids, olabels word ids, weights (graph cost, scaled acoustic cost).
        utterance: its id.
        acoustic_scale: the factor that the acoustic costs carry.
        reached_final: whether its paths end where sentences may end.

    Raises:
        DecodingError: no complete path, or a cycle.
    """
    start, states, arcs = _parse(_binary(raw))
    source, transition_id, word, graph_cost, acoustic_cost, target = arcs
    lattice = Lattice(
        utterance=utterance,
        source=source,
        target=target,
        transition_id=transition_id,
        word=word,
        graph_cost=graph_cost.view(np.float32),
        acoustic_cost=acoustic_cost.view(np.float32),
        final_cost=states.view(np.float32).sum(axis=0),
        acoustic_scale=acoustic_scale,
        reached_final=reached_final,
    )
    return in_topological_order(lattice, start=start)


def _binary(raw: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lattice"
        if not raw.write(str(path)):
            raise OSError(f"cannot write a lattice to {folder!r}: is the disk full?")
        return path.read_bytes()


def _parse(content: bytes) -> tuple[int, Any, Any]:
    """Start; (2, S) final costs; (6, A) source, ilabel, olabel, two costs, target; all int32, bit for bit."""
    at, kinds = 4, []
    for _ in range(2):
        (length,) = struct.unpack_from("<i", content, at)
        kinds.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    _version, flags, _properties, start, num_states, _num_arcs = struct.unpack_from("<iiQqqq", content, at)
    assert kinds == _KINDS and flags == 0, (kinds, flags)
    numbers = np.frombuffer(content[at + struct.calcsize("<iiQqqq") :], np.int32)
    num_arcs = (len(numbers) - _STATE_WORDS * num_states) // _ARC_WORDS
    states, arcs = np.empty((2, num_states), np.int32), np.empty((_ARC_WORDS + 1, num_arcs), np.int32)
    _read_states(numbers, states, arcs)
    return start, states, arcs


def _read_states_python(numbers: Any, states: Any, arcs: Any) -> None:
    at, arc = 0, 0
    for state in range(states.shape[1]):
        states[0, state], states[1, state] = numbers[at], numbers[at + 1]
        num_arcs = numbers[at + 2]
        at += 4
        for _ in range(num_arcs):
            arcs[0, arc] = state
            for field in range(5):
                arcs[field + 1, arc] = numbers[at + field]
            arc += 1
            at += 5


_read_states: Any = numba.njit(cache=True)(_read_states_python)
