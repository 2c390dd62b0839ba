"""The lattice of words alone: every sentence once, with the cost of its cheapest path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lhuc_asr.decoding.lattices.lattice import Lattice, in_topological_order
from lhuc_asr.hmm.graphs.fst_arrays import FstArrays


def word_lattice(lattice: Lattice, *, acoustic_scale: float | None = None, graph_scale: float = 1.0) -> Lattice:
    """What the lattice says of sentences, without the times at which they can be said.

    A raw lattice has thousands of paths for one sentence, which differ in times only. To sum over them gives more
    weight to sentences that can be timed in more ways, that is to those of many short words. The words with the fewest
    expected errors are therefore taken from here, where each sentence counts as its best path, as in Kaldi's compact
    lattices.

    Args:
        lattice: of one utterance.
        acoustic_scale: factor on the log-likelihoods; without it the one of the search.
        graph_scale: factor on the graph's costs.

    Returns:
        A deterministic lattice whose arcs all carry a word and no frame, with all costs in ``graph_cost``.
    """
    import kaldifst

    raw = FstArrays(
        start=0,
        source=lattice.source,
        target=lattice.target,
        ilabel=lattice.word,
        olabel=lattice.word,
        cost=lattice.costs(acoustic_scale, graph_scale).astype(np.float32),
        final_cost=lattice.final_costs(graph_scale).astype(np.float32),
    ).to_fst()
    kaldifst.rmepsilon(raw)
    words = FstArrays.from_fst(kaldifst.determinize(raw))
    no_label = np.zeros(words.num_arcs, np.int32)
    compact = replace(
        lattice,
        source=words.source,
        target=words.target,
        transition_id=no_label,
        word=words.ilabel,
        graph_cost=words.cost,
        acoustic_cost=np.zeros(words.num_arcs, np.float32),
        final_cost=words.final_cost,
    )
    return in_topological_order(compact, start=words.start)
