"""Another language model: nothing changes with the same one, and with another every sentence costs what it should."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

from helpers.tiny_lattices import all_paths, lattices
from lhuc_asr.decoding.lattices.nbest import nbest
from lhuc_asr.decoding.lattices.rescoring import LanguageModelChange, rescored
from lhuc_asr.errors import DataError
from lhuc_asr.lang.arpa import ArpaModel

WORDS = ("A", "B", "C")
END, START = "</s>", "<s>"
UNIGRAMS = {(END,): -0.5, (START,): -99.0, ("A",): -0.6, ("B",): -0.7, ("C",): -0.8}
BIGRAM = ArpaModel(
    2,
    {**UNIGRAMS, (START, "A"): -0.3, ("A", "B"): -0.2, ("B", END): -0.4},
    {(START,): -0.1, ("A",): -0.3, ("B",): -0.2},
)
TRIGRAM = ArpaModel(
    3,
    {**BIGRAM.log_probs, ("C", "A"): -0.25, (START, "A", "B"): -0.05, ("A", "B", "C"): -0.9, ("A", "B", END): -1.1},
    {**BIGRAM.backoffs, ("C",): -0.15, (START, "A"): -0.05, ("A", "B"): -0.35},
)


def sentence_cost(model: ArpaModel, words: tuple[int, ...]) -> float:
    said = [START, *(WORDS[word - 1] for word in words), END]
    return -math.log(10) * sum(model.log10_prob(said[k], said[:k]) for k in range(1, len(said)))


@given(lattices())
def test_the_same_model_changes_nothing(lattice):
    again = rescored(lattice, LanguageModelChange(BIGRAM, BIGRAM, WORDS))
    before, after = all_paths(lattice), all_paths(again)
    assert sorted(path.words for path in before) == sorted(path.words for path in after)
    np.testing.assert_allclose(sorted(p.cost for p in before), sorted(p.cost for p in after), atol=1e-4)


@given(lattices())
def test_every_sentence_pays_the_difference(lattice):
    change = LanguageModelChange(BIGRAM, TRIGRAM, WORDS)
    expected = sorted(
        (path.words, path.cost + sentence_cost(TRIGRAM, path.words) - sentence_cost(BIGRAM, path.words))
        for path in all_paths(lattice)
    )
    found = sorted((path.words, path.cost) for path in all_paths(rescored(lattice, change)))
    assert [words for words, _ in found] == [words for words, _ in expected]
    np.testing.assert_allclose([cost for _, cost in found], [cost for _, cost in expected], atol=1e-3)


@given(lattices())
def test_there_and_back_is_the_best_sentence_again(lattice):
    there = rescored(lattice, LanguageModelChange(BIGRAM, TRIGRAM, WORDS))
    back = rescored(there, LanguageModelChange(TRIGRAM, BIGRAM, WORDS))
    assert nbest(back, 1)[0].cost == pytest.approx(nbest(lattice, 1)[0].cost, abs=1e-4)


def test_histories_are_as_short_as_the_models_allow():
    change = LanguageModelChange(BIGRAM, TRIGRAM, WORDS)
    assert change.shortened((START, "A")) == (START, "A")
    assert change.shortened(("A", "C")) == ("C",)
    assert change.shortened(("C", "C")) == ("C",)
    assert LanguageModelChange(BIGRAM, BIGRAM, WORDS).shortened(("A", "C")) == ()
    for history in ((START, "A"), ("A", "C"), ("B", "C"), ("B", "B")):
        for word in (*WORDS, END):
            assert change.cost(word, history) == pytest.approx(change.cost(word, change.shortened(history)))


@given(lattices())
def test_an_unfinished_lattice_pays_no_end(lattice):
    import dataclasses

    cut_off = dataclasses.replace(lattice, reached_final=False)
    change = LanguageModelChange(BIGRAM, TRIGRAM, WORDS)
    ends = rescored(cut_off, change).final_cost
    finite = ends[np.isfinite(ends)]
    assert set(np.round(finite, 4)) <= set(np.round(lattice.final_cost[np.isfinite(lattice.final_cost)], 4))


def test_a_model_without_a_word_is_refused_unless_it_knows_the_unknown_word():
    from helpers.tiny_lattices import lattice_of

    lattice = lattice_of([(0, 1, 1, 3, 0.0, 0.0)], {1: 0.0})
    smaller = ArpaModel(1, {gram: value for gram, value in UNIGRAMS.items() if gram != ("C",)}, {})
    with pytest.raises(DataError, match=r"new language model lacks 1 words of the lexicon, e\.g\. 'C'"):
        rescored(lattice, LanguageModelChange(BIGRAM, smaller, WORDS))
    unknown = ArpaModel(2, {**smaller.log_probs, ("<unk>",): -1.5, ("<unk>", END): -0.1}, {})
    found = all_paths(rescored(lattice, LanguageModelChange(BIGRAM, unknown, WORDS)))
    expected = math.log(10) * 1.6 - sentence_cost(BIGRAM, (3,))
    assert found[0].cost == pytest.approx(expected, abs=1e-4)
