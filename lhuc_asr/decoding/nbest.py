"""The n best sentences of a lattice, each once, cheapest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DecodingError
from lhuc_asr.hmm.fst_arrays import FstArrays

if TYPE_CHECKING:
    from lhuc_asr.decoding.lattice import Lattice


@dataclass(frozen=True, slots=True)
class Sentence:
    """One entry of an n-best list.

    Attributes:
        words: word ids in order; none is a legal sentence.
        cost: of the cheapest path that says them, at the scales that were asked for.
    """

    words: tuple[int, ...]
    cost: float


def nbest(
    lattice: Lattice, num_sentences: int, *, acoustic_scale: float | None = None, graph_scale: float = 1.0
) -> tuple[Sentence, ...]:
    """The cheapest sentences, all different.

    A raw lattice has thousands of paths for one sentence, which differ in times only, so it becomes an acceptor of
    words first, with one path a sentence.

    Args:
        lattice: of one utterance.
        num_sentences: how many at most; a small lattice may have fewer.
        acoustic_scale: factor on the log-likelihoods; without it the one of the search.
        graph_scale: factor on the graph's costs.

    Returns:
        Sentences by rising cost.

    Raises:
        DecodingError: ``num_sentences`` is below 1.
    """
    import kaldifst

    if num_sentences < 1:
        raise DecodingError(f"a list of {num_sentences} sentences was asked for; there must be at least 1")
    acceptor = _one_path_a_sentence(lattice, acoustic_scale, graph_scale)
    # two at least: of a single path without arcs the conversion loses the cost
    paths = kaldifst.convert_nbest_to_vector(kaldifst.shortest_path(acceptor, n=max(num_sentences, 2)))
    sentences = []
    for path in paths:
        _, words, _, weight = kaldifst.get_linear_symbol_sequence(path)
        sentences.append(Sentence(tuple(word for word in words if word), weight.value))
    return tuple(sorted(sentences, key=lambda sentence: (sentence.cost, sentence.words))[:num_sentences])


def sentence_posteriors(sentences: tuple[Sentence, ...]) -> NDArray[np.float64]:
    """(N,) probabilities of the sentences of a list, given that one of them was said."""
    costs = np.array([sentence.cost for sentence in sentences])
    weights = np.exp(costs.min(initial=np.inf) - costs)
    return np.asarray(weights / weights.sum(), np.float64)


def _one_path_a_sentence(lattice: Lattice, acoustic_scale: float | None, graph_scale: float) -> Any:
    """A deterministic acceptor of words; its costs are those of the cheapest paths."""
    import kaldifst

    arrays = FstArrays(
        start=0,
        final_cost=lattice.final_costs(graph_scale).astype(np.float32),
        source=lattice.source,
        ilabel=lattice.word,
        olabel=lattice.word,
        cost=lattice.costs(acoustic_scale, graph_scale).astype(np.float32),
        target=lattice.target,
    )
    acceptor = arrays.to_fst()
    is_partial = kaldifst.determinize_star(acceptor)
    assert not is_partial
    return acceptor
