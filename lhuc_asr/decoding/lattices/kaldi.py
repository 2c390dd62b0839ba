"""Kaldi's lattices, as its decoder gives them, to our arrays."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lhuc_asr.decoding.lattices.lattice import Lattice, in_topological_order
from lhuc_asr.hmm.graphs.fst_binary import VectorFst

if TYPE_CHECKING:
    import kaldifst


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
    read = VectorFst.read(_binary(raw), arc_type=b"lattice4", num_costs=2)
    source, transition_id, word, graph_cost, acoustic_cost, target = read.arcs_KA
    lattice = Lattice(
        utterance=utterance,
        source=source,
        target=target,
        transition_id=transition_id,
        word=word,
        graph_cost=graph_cost.view(np.float32),
        acoustic_cost=acoustic_cost.view(np.float32),
        final_cost=read.final_CS.view(np.float32).sum(axis=0),
        acoustic_scale=acoustic_scale,
        reached_final=reached_final,
    )
    return in_topological_order(lattice, start=read.start)


def _binary(raw: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lattice"
        if not raw.write(str(path)):
            raise OSError(f"cannot write a lattice to {folder!r}: is the disk full?")
        return path.read_bytes()
