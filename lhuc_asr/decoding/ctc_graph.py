"""The decoding graph of a CTC network: frames to labels (repeats and blanks), labels to words, words by an n-gram.

CTC is a hidden Markov model of a special shape: a label lasts one frame or more, then blanks may follow, and all blanks
are one output. Written as such a model, its graph is searched, and its paths and lattices are read, like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import kaldifst
import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.hmm.graphs.fst_arrays import FstArrays
from lhuc_asr.hmm.graphs.transducers import LexiconFst, grammar_fst, lexicon_fst, with_self_loops
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.topology import SILENCE
from lhuc_asr.hmm.states.transitions import enters
from lhuc_asr.hmm.states.tree import DecisionTree, Leaf
from lhuc_asr.lang.arpa import ArpaModel
from lhuc_asr.lang.lexicon import Lexicon

_LOG = logging.getLogger(__name__)
_SHOWN = 5


def ctc_hmm(symbols: Sequence[str], silence: str) -> HmmModel:
    """Labels as phones of two states: the first reads the label, the second reads the blanks that follow it.

    The blanks at the beginning of an utterance are a phone of their own, the first one, as silence is in other models.
    Tied states are the network's outputs in their order, the blank first.

    Args:
        symbols: (V) names of the outputs, the blank first.
        silence: the lexicon's silence; it becomes the name of the first phone, whose blanks belong to no word. Where it
            is a label too (the space of characters), it must be said between words.

    Raises:
        DataError: there is no label besides the blank, or two outputs have the same name.

    Example:
        >>> hmm = ctc_hmm(["<blank>", "A", "B"], "SIL")
        >>> hmm.phones, hmm.num_pdfs, hmm.transitions.pdf.tolist()
        (('SIL', 'A', 'B'), 3, [0, 0, 1, 0, 2, 0])

    Source: Graves et al. 2006, "Connectionist temporal classification", ICML, figure 3; as a hidden Markov model: Zeyer
    et al. 2017, "CTC in the context of generalized full-sum HMM training", Interspeech.
    """
    if len(symbols) < 2 or len(set(symbols)) < len(symbols):
        raise DataError(
            f"a CTC network has a blank and different labels; got {', '.join(map(repr, symbols)) or 'none'}"
        )
    blank = Leaf(0)
    return HmmModel.of_tree((silence, *symbols[1:]), DecisionTree(tuple((Leaf(v), blank) for v in range(len(symbols)))))


def is_ctc(hmm: HmmModel) -> bool:
    """Whether a model is one of `ctc_hmm`: all second states are the blank."""
    transitions = hmm.transitions
    return hmm.num_states == 2 and not bool(transitions.pdf[transitions.state == 1].any())


def transition_ids_of(path: NDArray[np.int32], hmm: HmmModel) -> NDArray[np.int32]:
    """The state path of outputs that were chosen frame by frame.

    Args:
        path: (T,) outputs, 0 is the blank.
        hmm: of `ctc_hmm`.

    Returns:
        (T,) transition ids.

    Example:
        >>> hmm = ctc_hmm(["<blank>", "A", "B"], "SIL")
        >>> ids = transition_ids_of(np.array([0, 1, 1, 0, 1], np.int32), hmm)
        >>> hmm.pdfs(ids).tolist(), hmm.phone_starts(ids).tolist()
        ([0, 1, 1, 0, 1], [True, True, False, False, True])
    """
    frames = np.arange(len(path))
    last_label = path[np.maximum.accumulate(np.where(path > 0, frames, 0))]
    after_label = (path == 0) & (last_label > 0)
    repeats = np.append(False, path[1:] == path[:-1])[: len(path)]
    return enters(2 * last_label + after_label) - repeats.astype(np.int32)


def build_ctc_graph(hmm: HmmModel, lexicon: Lexicon, lm: ArpaModel) -> Any:
    """Compose, determinise and minimise T o L o G.

    The lexicon's unknown word is never put out. `lhuc_asr.decoding.wfst.WfstDecoder` searches the graph, with an
    acoustic scale near 1: labels are rarer than frames, so their scores add up to less than those of tied states.

    Args:
        hmm: of `ctc_hmm`.
        lexicon: words as labels: phones, word pieces, or characters (`spelt`); the id of a word is its index in
            ``lexicon.words`` + 1.
        lm: n-gram model; words that the lexicon lacks are left out and reported in the log.

    Returns:
        ``kaldifst.StdVectorFst``: transition ids in, word ids out; keep a reference to it while a decoder uses it.

    Raises:
        DataError: words are spelt with labels that the network does not have, or no sentence can be said.
    """
    _refuse_unknown_labels(hmm, lexicon)
    word_ids = {word: index for index, word in enumerate(lexicon.words, start=1)}
    known = {word: index for word, index in word_ids.items() if word != lexicon.unknown_word}
    _report_missing(lm, lexicon, known)
    label_ids = _labels_of(hmm)
    words = lexicon_fst(lexicon, label_ids, word_ids, silence_probability=0.5)
    separator = label_ids.get(lexicon.silence)
    left = _without_silence(words) if separator is None else _separated(words, separator)
    grammar = grammar_fst(lm, known, backoff_id=len(word_ids) + 1)
    labels_to_words = _composed(left.to_fst(), grammar.to_fst())
    _determinise(labels_to_words)
    kaldifst.minimize_encoded(labels_to_words)
    return _with_frames(hmm, labels_to_words, words.disambiguation)


def spelt(lexicon: Lexicon, symbols: Sequence[str], *, space: str) -> Lexicon:
    """The same words as the characters that they are written with, for networks whose labels are characters.

    Args:
        lexicon: words; those that need other characters are left out and reported in the log.
        symbols: names of the outputs.
        space: the one between words.

    Raises:
        DataError: no word can be spelt.

    Example:
        >>> spelt(Lexicon({"AB": (("EY", "B"),)}), ["<blank>", "<space>", "A", "B"], space="<space>").pronunciations
        {'AB': (('A', 'B'),)}
    """
    words = [word for word in lexicon.words if word != lexicon.unknown_word]
    spelling = {word: (tuple(word),) for word in words if set(word) <= set(symbols)}
    lost = [repr(word) for word in words if word not in spelling]
    if not spelling or space not in symbols:
        raise DataError(f"none of {len(words)} words can be spelt with {', '.join(map(repr, symbols))} and {space!r}")
    if lost:
        _LOG.warning("%d words cannot be spelt with the network's labels, e.g. %s", len(lost), ", ".join(lost[:_SHOWN]))
    return Lexicon(spelling, silence=space, unknown_word=lexicon.unknown_word, unknown_phone=space)


def _labels_of(hmm: HmmModel) -> dict[str, int]:
    """Ids of the labels as phones; the blank, which no word is spelt with, has the first."""
    return {"": SILENCE} | {label: index for index, label in enumerate(hmm.phones[1:], start=2)}


def _without_silence(words: LexiconFst) -> FstArrays:
    """The lexicon without optional silence: blanks say nothing, so nothing stands for it."""
    fst = replace(words.fst, cost=np.zeros_like(words.fst.cost))
    return _kept(fst, fst.ilabel != SILENCE)


def _separated(words: LexiconFst, separator: int) -> FstArrays:
    """The lexicon with a label between words: what was optional silence, but a word without it is the last one."""
    fst = replace(words.fst, cost=np.zeros_like(words.fst.cost))
    (loop,), end = np.flatnonzero(np.isfinite(fst.final_cost)), fst.num_states
    backoff, *_, after_silence = words.disambiguation
    closes = (fst.target == loop) & ~np.isin(fst.ilabel, [0, backoff, after_silence])
    final_cost = np.append(fst.final_cost, np.float32(0.0))
    ilabel = np.where(fst.ilabel == SILENCE, separator, fst.ilabel).astype(np.int32)
    target = np.where(closes, end, fst.target).astype(np.int32)
    fst = replace(fst, final_cost=final_cost, ilabel=ilabel, target=target)
    arcs = np.flatnonzero((fst.source != fst.start) | (fst.target == loop))
    backs_off = np.flatnonzero(fst.ilabel == backoff)
    fst = _kept(fst, np.concatenate([arcs, backs_off]))
    fst.source[len(arcs) :] = fst.target[len(arcs) :] = end
    return fst


def _kept(fst: FstArrays, arcs: NDArray[Any]) -> FstArrays:
    """The same states with a choice of the arcs."""
    columns = {name: getattr(fst, name)[arcs] for name in ("source", "ilabel", "olabel", "cost", "target")}
    return replace(fst, **columns)


def _frames_fst(hmm: HmmModel, disambiguation: Sequence[int]) -> FstArrays:
    """T without self loops: the transition ids that enter labels and blanks, to labels.

    State 2 v follows label v (0: nothing yet), state 2 v + 1 the blanks after it. A label may be entered from anywhere
    except right after itself. Disambiguation symbols pass right after a label only, so that they pass in one way.
    """
    labels = np.arange(len(hmm.phones), dtype=np.int32)
    enter, blank = enters(2 * labels), enters(2 * labels + (labels > 0))
    before, label = (grid.reshape(-1) for grid in np.meshgrid(np.arange(2 * len(labels)), labels[1:], indexing="ij"))
    allowed = before != 2 * label
    before, label = before[allowed].astype(np.int32), label[allowed]
    mark = np.tile(np.array(disambiguation, np.int32), len(labels))
    marked = np.repeat(2 * labels, len(disambiguation))
    passes = hmm.transitions.num_transition_ids + 1 + np.tile(np.arange(len(disambiguation)), len(labels))
    source = np.concatenate([2 * labels, before, marked])
    return FstArrays(
        start=0,
        final_cost=np.zeros(2 * len(labels), np.float32),
        source=source,
        ilabel=np.concatenate([blank, enter[label], passes]).astype(np.int32),
        olabel=np.concatenate([np.zeros_like(labels), label + 1, mark]).astype(np.int32),
        cost=np.zeros(len(source), np.float32),
        target=np.concatenate([2 * labels + 1, 2 * label, marked]).astype(np.int32),
    )


def _with_frames(hmm: HmmModel, labels_to_words: Any, disambiguation: Sequence[int]) -> Any:
    """T o (L o G) without disambiguation symbols, with self loops."""
    graph = _composed(_frames_fst(hmm, disambiguation).to_fst(), labels_to_words)
    _determinise(graph)
    arrays = FstArrays.from_fst(graph)
    arrays = arrays.with_ilabels(np.where(arrays.ilabel > hmm.transitions.num_transition_ids, 0, arrays.ilabel))
    graph = arrays.to_fst()
    kaldifst.minimize_encoded(graph)
    graph = with_self_loops(FstArrays.from_fst(graph), hmm, self_loop_scale=0.0).to_fst()
    kaldifst.connect(graph)
    if graph.num_states == 0:
        raise DataError("the decoding graph is empty: no sentence of the language model can be said with the lexicon")
    _LOG.info("CTC decoding graph: %d states", graph.num_states)
    return graph


def _composed(left: Any, right: Any) -> Any:
    kaldifst.arcsort(left, sort_type="olabel")
    kaldifst.arcsort(right, sort_type="ilabel")
    return kaldifst.compose(left, right)


def _determinise(fst: Any) -> None:
    """In place; a partial result means that the disambiguation symbols do not suffice, which is our own mistake."""
    is_partial = kaldifst.determinize_star(fst, use_log=True)
    assert not is_partial


def _refuse_unknown_labels(hmm: HmmModel, lexicon: Lexicon) -> None:
    if hmm.phones[0] != lexicon.silence:
        raise DataError(
            f"the network's blank stands for {hmm.phones[0]!r}, but the lexicon's silence is {lexicon.silence!r}"
        )
    labels = set(hmm.phones[1:])
    wrong = [
        f"{word!r} ({' '.join(sorted(set(pronunciation) - labels))})"
        for word in lexicon.words
        for pronunciation in lexicon.pronunciations_of(word)
        if not labels.issuperset(pronunciation)
    ]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError(f"words need labels that the network does not have: {', '.join(wrong[:_SHOWN])}{more}")


def _report_missing(lm: ArpaModel, lexicon: Lexicon, known: dict[str, int]) -> None:
    missing = [word for word in lm.vocabulary if word not in known and word != lexicon.unknown_word]
    if not any(word in known for word in lm.vocabulary):
        raise DataError(f"the lexicon has none of the {len(missing)} words of the language model")
    if missing:
        _LOG.warning("%d words of the language model are not in the lexicon, e.g. %r", len(missing), missing[0])
