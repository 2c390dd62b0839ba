"""The decoding graph HCLG: from the frames' transition ids to words, weighted by the language model."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kaldifst
import numpy as np

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.files import atomic_path
from lhuc_asr.hmm.graphs.fst_arrays import FstArrays
from lhuc_asr.hmm.graphs.transducers import grammar_fst, lexicon_fst, states_fst, with_self_loops
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.arpa import ArpaModel
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.ranges import require_at_least

_LOG = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class GraphConfig:
    """Costs of a decoding graph.

    Attributes:
        self_loop_scale: weight of the transition log-probabilities.
        silence_probability: chance of a silence between two words.
        unknown_word: whether the recogniser may put out the lexicon's unknown word (never right in a transcript).
    """

    self_loop_scale: float = 0.1
    silence_probability: float = 0.5
    unknown_word: bool = False

    def __post_init__(self) -> None:
        require_at_least(0, self, "graph", "self_loop_scale")
        if not 0 < self.silence_probability < 1:
            raise ConfigError(f"graph.silence_probability lies between 0 and 1, got {self.silence_probability}")


def build_graph(hmm: HmmModel, lexicon: Lexicon, lm: ArpaModel, config: GraphConfig | None = None) -> Any:
    """Compose, determinise and minimise H o C o L o G.

    Args:
        hmm: tree and transitions, for the lexicon's phones.
        lexicon: words; the id of a word is its index in ``lexicon.words`` + 1.
        lm: n-gram model; words that the lexicon lacks are left out and reported in the log.
        config: costs.

    Returns:
        ``kaldifst.StdVectorFst``: transition ids in, word ids out; keep a reference to it while a decoder uses it.

    Raises:
        DataError: lexicon and model have different phones, or lexicon and language model share no word.
    """
    config = config or GraphConfig()
    if hmm.phones != lexicon.phones:
        odd = sorted(set(hmm.phones) ^ set(lexicon.phones))
        raise DataError(f"the lexicon's phones are not those of the model; they differ in: {', '.join(odd) or 'order'}")
    word_ids = {word: index for index, word in enumerate(lexicon.words, start=1)}
    lm = _within_vocabulary(lm, lexicon, config)
    phone_ids = {phone: index for index, phone in enumerate(hmm.phones, start=1)}
    grammar = grammar_fst(lm, word_ids, backoff_id=len(word_ids) + 1).to_fst()
    words = lexicon_fst(lexicon, phone_ids, word_ids, silence_probability=config.silence_probability)
    phones_to_words = _compose_with_grammar(words.fst.to_fst(), grammar)
    triphones_to_words, windows = _with_context(hmm, phones_to_words, list(words.disambiguation))
    return _with_states(hmm, triphones_to_words, windows, config)


def write_graph(fst: Any, path: Path) -> None:
    """Write a graph in OpenFst's binary format."""
    with atomic_path(path) as temporary:
        if not fst.write(str(temporary)):
            raise OSError(f"cannot write {str(path)!r}")


def _within_vocabulary(lm: ArpaModel, lexicon: Lexicon, config: GraphConfig) -> ArpaModel:
    """The language model without the words that cannot be put out."""
    known = set(lexicon.words) - (set() if config.unknown_word else {lexicon.unknown_word})
    missing = [word for word in lm.vocabulary if word not in known and word != lexicon.unknown_word]
    if len(missing) == len(lm.vocabulary):
        raise DataError(f"the lexicon has none of the {len(missing)} words of the language model")
    if missing:
        _LOG.warning("%d words of the language model are not in the lexicon, e.g. %r", len(missing), missing[0])
    banned = set(lm.vocabulary) - known
    if not banned:
        return lm
    log_probs = {gram: value for gram, value in lm.log_probs.items() if banned.isdisjoint(gram)}
    backoffs = {gram: value for gram, value in lm.backoffs.items() if banned.isdisjoint(gram)}
    return ArpaModel(lm.order, log_probs, backoffs)


def _compose_with_grammar(lexicon: Any, grammar: Any) -> Any:
    """L o G, deterministic and minimal."""
    kaldifst.arcsort(lexicon, sort_type="olabel")
    kaldifst.arcsort(grammar, sort_type="ilabel")
    composed = kaldifst.compose(lexicon, grammar)
    _determinise(composed)
    kaldifst.minimize_encoded(composed)
    return composed


def _with_context(hmm: HmmModel, phones_to_words: Any, disambiguation: list[int]) -> tuple[Any, list[list[int]]]:
    """C o (L o G), and what its input labels mean."""
    width = 3 if hmm.tree.is_context_dependent else 1
    kaldifst.arcsort(phones_to_words, sort_type="ilabel")
    composed, windows = kaldifst.compose_context(
        disambig_syms=disambiguation, context_width=width, central_position=width // 2, ifst=phones_to_words
    )
    kaldifst.arcsort(composed, sort_type="ilabel")
    return composed, windows


def _with_states(hmm: HmmModel, triphones_to_words: Any, windows: list[list[int]], config: GraphConfig) -> Any:
    """H o (C o L o G) without disambiguation symbols, with self loops."""
    states = states_fst(hmm, windows)
    left = states.fst.to_fst()
    kaldifst.arcsort(left, sort_type="olabel")
    graph = kaldifst.compose(left, triphones_to_words)
    _determinise(graph)
    arrays = FstArrays.from_fst(graph)
    arrays = arrays.with_ilabels(np.where(arrays.ilabel < states.first_disambiguation, arrays.ilabel, 0))
    graph = arrays.to_fst()
    kaldifst.minimize_encoded(graph)
    arrays = with_self_loops(FstArrays.from_fst(graph), hmm, self_loop_scale=config.self_loop_scale)
    graph = arrays.to_fst()
    kaldifst.connect(graph)
    if graph.num_states == 0:
        raise DataError("the decoding graph is empty: no sentence of the language model can be said with the lexicon")
    assert int(arrays.ilabel.min()) >= 0 and int(arrays.ilabel.max()) <= hmm.transitions.num_transition_ids
    _LOG.info("decoding graph: %d states, %d arcs", arrays.num_states, arrays.num_arcs)
    return graph


def _determinise(fst: Any) -> None:
    """In place; a partial result means that the disambiguation symbols do not suffice, which is our own mistake."""
    is_partial = kaldifst.determinize_star(fst, use_log=True)
    assert not is_partial
