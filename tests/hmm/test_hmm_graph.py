from __future__ import annotations

from pathlib import Path

import kaldi_decoder
import kaldifst
import numpy as np
import pytest

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.hmm.alignment import AlignConfig, ForcedAligner
from lhuc_asr.hmm.graphs.fst_arrays import FstArrays
from lhuc_asr.hmm.graphs.graph import GraphConfig, build_graph, write_graph
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.viterbi import best_path
from lhuc_asr.lang.arpa import ArpaModel
from lhuc_asr.lang.kneser_ney import estimate_ngram
from lhuc_asr.lang.lexicon import Lexicon


def decode(graph: object, hmm: HmmModel, log_likes: np.ndarray) -> tuple[list[int], list[int], float]:
    """Transition ids, word ids and total cost of the best path."""
    columns = np.ascontiguousarray(log_likes[:, hmm.transitions.pdf_of[1:]], dtype=np.float32)
    decoder = kaldi_decoder.FasterDecoder(graph, kaldi_decoder.FasterDecoderOptions(beam=200.0))
    decoder.decode(kaldi_decoder.DecodableCtc(columns))
    found, best = decoder.get_best_path()
    assert found and decoder.reached_final()
    _, ids, words, weight = kaldifst.get_linear_symbol_sequence(best)
    return ids, words, weight.value1 + weight.value2


def say(hmm: HmmModel, lexicon: Lexicon, words: list[str], generator: np.random.Generator) -> np.ndarray:
    """Noiseless log-likelihoods of a sentence with random durations and silences."""
    ids = {phone: index for index, phone in enumerate(hmm.phones, start=1)}
    phones = [1]
    for word in words:
        variants = lexicon.pronunciations_of(word)
        phones += [ids[phone] for phone in variants[generator.integers(len(variants))]]
        phones += [1] if generator.random() < 0.5 else []
    windows = zip([0, *phones], phones, [*phones[1:], 0], strict=False)
    pdfs = [hmm.tree.pdf(*window, state=state) for window in windows for state in range(3)]
    pdfs = np.repeat(pdfs, generator.integers(1, 4, len(pdfs)))
    values = np.full((len(pdfs), hmm.num_pdfs), -30.0, np.float32)
    values[np.arange(len(pdfs)), pdfs] = 0.0
    return values


@pytest.fixture
def sentences() -> list[list[str]]:
    generator = np.random.default_rng(0)
    return [list(generator.choice(["AB", "AC", "B", "DAD"], generator.integers(1, 6))) for _ in range(60)]


@pytest.mark.parametrize("triphone", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_noiseless_speech_is_decoded_without_an_error(
    triphone: bool, order: int, triphones: HmmModel, lexicon: Lexicon, sentences: list[list[str]]
) -> None:
    hmm = triphones if triphone else HmmModel.monophone(lexicon.phones)
    graph = build_graph(hmm, lexicon, estimate_ngram(sentences, order=order, vocabulary=["AB", "AC", "B", "DAD"]))
    generator = np.random.default_rng(1)
    for words in sentences[:12]:
        likes = say(hmm, lexicon, words, generator)
        ids, labels, _ = decode(graph, hmm, likes)
        assert [lexicon.words[label - 1] for label in labels if label] == words
        np.testing.assert_array_equal(hmm.pdfs(np.array(ids)), likes.argmax(axis=1))


def test_labels_are_in_range_and_words_that_sound_alike_both_live(
    triphones: HmmModel, lexicon: Lexicon, unigram: ArpaModel
) -> None:
    arrays = FstArrays.from_fst(build_graph(triphones, lexicon, unigram))
    assert arrays.ilabel.min() >= 0 and arrays.ilabel.max() <= triphones.transitions.num_transition_ids
    words = {lexicon.words[label - 1] for label in arrays.olabel.tolist() if label}
    assert words == {"AB", "ABE", "AC", "B", "DAD"}


def test_the_best_path_costs_what_forced_alignment_says(triphones: HmmModel, lexicon: Lexicon) -> None:
    """The graph of one sentence, built from transducers, against the arrays of the aligner."""
    unigrams = {("<s>",): -99.0, ("</s>",): 0.0, ("AC",): -50.0}
    lm = ArpaModel(2, unigrams | {("<s>", "AC"): 0.0, ("AC", "</s>"): 0.0}, {("<s>",): -90.0, ("AC",): -90.0})
    graph = build_graph(triphones, lexicon, lm, GraphConfig(self_loop_scale=0.1, silence_probability=0.3))
    aligner = ForcedAligner(triphones, lexicon, AlignConfig(silence_probability=0.3))
    utterance = aligner.graph("AC")
    for seed in range(5):
        likes = np.random.default_rng(seed).normal(0, 2, (25, triphones.num_pdfs)).astype(np.float32)
        ids, _, cost = decode(graph, triphones, likes)
        path = best_path(utterance, triphones.transitions, likes[:, utterance.pdfs], self_loop_scale=0.1, beam=1e9)
        assert path is not None and path.cost == pytest.approx(cost, abs=2e-3)
        np.testing.assert_array_equal(path.transition_ids(utterance), ids)


def test_the_unknown_word_is_put_out_only_on_request(triphones: HmmModel, lexicon: Lexicon, unigram: ArpaModel) -> None:
    lm = ArpaModel(1, {**unigram.log_probs, ("<UNK>",): -1.0}, {})
    unknown = lexicon.words.index("<UNK>") + 1
    for wanted in (False, True):
        arrays = FstArrays.from_fst(build_graph(triphones, lexicon, lm, GraphConfig(unknown_word=wanted)))
        assert (unknown in arrays.olabel) == wanted


def test_a_graph_survives_the_disk(triphones: HmmModel, lexicon: Lexicon, unigram: ArpaModel, tmp_path: Path) -> None:
    graph = build_graph(triphones, lexicon, unigram)
    write_graph(graph, tmp_path / "HCLG.fst")
    again = kaldifst.StdVectorFst.read(str(tmp_path / "HCLG.fst"))
    likes = say(triphones, lexicon, ["AC", "B"], np.random.default_rng(0))
    assert decode(again, triphones, likes) == decode(graph, triphones, likes)


def test_parts_that_do_not_fit_are_refused(triphones: HmmModel, lexicon: Lexicon, unigram: ArpaModel) -> None:
    other = Lexicon({"X": (("X",),)})
    with pytest.raises(DataError, match="phones are not those"):
        build_graph(triphones, other, unigram)
    strange = ArpaModel(1, {("<s>",): -99.0, ("</s>",): -0.5, ("WORD",): -0.5}, {})
    with pytest.raises(DataError, match="none of the 1 words"):
        build_graph(triphones, lexicon, strange)
    with pytest.raises(ConfigError, match="silence_probability"):
        GraphConfig(silence_probability=0.0)
