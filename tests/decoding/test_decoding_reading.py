"""Hypotheses that are read off lattices: fewest expected errors, another language model, confidences, frame shifts."""

from __future__ import annotations

import dataclasses

import kaldialign
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tiny_lattices import all_paths, chances, lattices
from lhuc_asr.decoding.confidence import ConfidenceEstimator
from lhuc_asr.decoding.lattices.hypothesis import hypothesis_of
from lhuc_asr.decoding.lattices.reading import (
    HypothesisKind,
    LatticeReader,
    _fewest_errors,
    _least_risk,
    _of_bearable_size,
)
from lhuc_asr.decoding.lattices.rescoring import LanguageModelChange
from lhuc_asr.decoding.lattices.union import _frames_of_words, holds
from lhuc_asr.decoding.lattices.word_lattice import word_lattice
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.lang.arpa import ArpaModel

UNIGRAM = ArpaModel(1, {("</s>",): -0.5, ("<s>",): -99.0, ("AB",): -0.5, ("A",): -0.7, ("BB",): -0.6}, {})


def with_kind(decoder, kind):
    return decoder.with_config(dataclasses.replace(decoder.config, hypothesis=kind))


def expected_errors(words, paths) -> float:
    errors = [kaldialign.edit_distance(list(path.words), list(words))["total"] for path in paths]
    return float(np.dot(chances(paths), errors))


@given(lattices(), st.sampled_from([None, 0.3]), st.sampled_from([1.0, 0.5]))
def test_the_word_lattice_holds_every_sentence_once_with_its_best_cost(lattice, acoustic_scale, graph_scale):
    best: dict[tuple[int, ...], float] = {}
    for path in all_paths(lattice, acoustic_scale=acoustic_scale, graph_scale=graph_scale):
        best[path.words] = min(path.cost, best.get(path.words, np.inf))
    found = all_paths(word_lattice(lattice, acoustic_scale=acoustic_scale, graph_scale=graph_scale))
    assert sorted(path.words for path in found) == sorted(best)
    for path in found:
        assert path.cost == pytest.approx(best[path.words], abs=0.02)  # OpenFst rounds costs while it determinises
    assert {len(path.arcs) - len(path.words) for path in found} == {0}


@settings(max_examples=50)
@given(lattices(), st.sampled_from([0.3, 2.0]))
def test_expected_errors_are_those_at_the_scale_that_is_given(lattice, scale):
    acoustic_cost = lattice.acoustic_cost * np.float32(scale / lattice.acoustic_scale)
    scaled = dataclasses.replace(lattice, acoustic_cost=acoustic_cost)
    assert _fewest_errors(lattice, scale) == _fewest_errors(scaled)
    assert _least_risk(lattice, scale) == _least_risk(scaled)


@settings(max_examples=50)
@given(lattices())
def test_fewest_errors_are_fewer_than_those_of_the_best_path(lattice):
    paths = all_paths(word_lattice(lattice))
    cheapest = min(paths, key=lambda path: path.cost)
    assert expected_errors(_fewest_errors(lattice), paths) <= expected_errors(cheapest.words, paths) + 1e-3


@pytest.mark.parametrize("kind", list(HypothesisKind))
def test_a_lattice_without_words_is_a_hypothesis_without_words(toy, decoder, kind):
    log_likes = toy.log_likes_of(toy.path_of(("SIL", 9)), contrast=500.0)
    sure = with_kind(decoder, kind).reading_lattices(estimator=ConfidenceEstimator(toy.HMM, toy.LEXICON))
    found = sure.decode("silence", log_likes)
    assert (found.text, found.confidences, len(found.transition_ids)) == ("", (), 9)


@settings(max_examples=50)
@given(lattices())
def test_the_sentence_of_least_risk_is_one_of_the_lattice(lattice):
    assert _least_risk(lattice) in {path.words for path in all_paths(lattice)}


@pytest.mark.parametrize("kind", list(HypothesisKind))
def test_every_kind_of_hypothesis_has_words_times_and_states(toy, decoder, noisy, kind):
    for utterance, log_likes in noisy:
        found = with_kind(decoder, kind).decode(utterance, log_likes)
        lattice = decoder.lattice(utterance, log_likes)
        assert found.transition_ids.shape == (len(log_likes),)
        assert [word.start for word in found.words] == sorted(word.start for word in found.words)
        assert found.confidences is None or not found.words
        read = LatticeReader(toy.HMM, toy.LEXICON, kind)(lattice)
        assert (read.text, read.words) == (found.text, found.words)
        if kind is HypothesisKind.least_risk:
            assert _least_risk(lattice) == tuple(toy.LEXICON.words.index(word.text) + 1 for word in found.words)


@pytest.mark.parametrize("kind", list(HypothesisKind))
def test_a_lattice_that_lost_the_best_path_gets_it_back(toy, decoder, noisy, kind):
    narrow = dataclasses.replace(decoder.config, lattice_search_beam=0.5, hypothesis=kind)
    lost = 0
    for item in noisy:
        best = decoder.decode(*item)
        raw = decoder.with_config(narrow).lattice(*item)
        hypothesis, lattice = decoder.with_config(narrow).decode_with_lattice(*item)
        lost += not holds(raw, best)
        assert lattice.reached_final is raw.reached_final or lattice.reached_final
        assert lattice.num_frames == len(item[1])
        found = hypothesis_of(lattice, toy.HMM, toy.LEXICON)
        assert [word.text for word in found.words] == [word.text for word in best.words]
        assert found.graph_cost + found.acoustic_cost == pytest.approx(best.graph_cost + best.acoustic_cost, abs=1e-2)
        assert kind is not HypothesisKind.one_best or hypothesis.text == best.text
    assert lost


def test_words_of_a_cut_off_path_have_frames_of_their_own(toy):
    words = tuple(Word("AB", start, 0.0) for start in (0.0, 0.03, 0.03, 0.04))
    cut_off = Hypothesis("u", words, np.ones(5, np.int32), 0.0, 0.0, reached_final=False)
    assert _frames_of_words(cut_off) == [0, 2, 3, 4]
    assert _frames_of_words(dataclasses.replace(cut_off, words=())) == []


def test_words_without_a_path_give_way_to_a_sentence_of_the_lattice(toy, decoder, noisy, monkeypatch):
    monkeypatch.setattr("lhuc_asr.decoding.lattices.reading._fewest_errors", lambda lattice, scale: (1,) * 50)
    found = with_kind(decoder, HypothesisKind.mbr).decode(*noisy[0])
    assert found.text == with_kind(decoder, HypothesisKind.least_risk).decode(*noisy[0]).text


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_confidences_change_no_word_and_travel_through_processes(toy, decoder, noisy, num_jobs):
    sure = decoder.reading_lattices(estimator=ConfidenceEstimator(toy.HMM, toy.LEXICON))
    plain, with_them = list(decoder.decode_all(noisy)), list(sure.decode_all(noisy, num_jobs=num_jobs))
    for one, other in zip(plain, with_them, strict=True):
        assert [(word.text, word.start) for word in one.words] == [(word.text, word.start) for word in other.words]
        assert other.confidences is not None and all(0 <= value <= 1 for value in other.confidences)
    kept = []
    again = list(sure.decode_all(noisy, num_jobs=num_jobs, on_lattice=kept.append))
    assert [item.confidences for item in again] == [item.confidences for item in with_them]
    assert len(kept) == len(noisy)


def test_the_same_language_model_changes_nothing_and_another_one_does(toy, decoder, noisy):
    words = toy.LEXICON.words
    with_unknown = ArpaModel(1, {**UNIGRAM.log_probs, ("<UNK>",): -0.9}, {})
    same = decoder.reading_lattices(change=LanguageModelChange(with_unknown, with_unknown, words))
    only_a = ArpaModel(1, {**with_unknown.log_probs, ("AB",): -30.0, ("BB",): -30.0}, {})
    other = decoder.reading_lattices(change=LanguageModelChange(with_unknown, only_a, words))
    for item in noisy:
        assert same.decode(*item).text == decoder.decode(*item).text
    before = " ".join(decoder.decode(*item).text for item in noisy).split()
    after = " ".join(other.decode(*item).text for item in noisy).split()
    assert (after.count("A") / len(after)) > (before.count("A") / len(before))


def test_a_model_that_lacks_words_is_refused_before_the_search(toy):
    smaller = ArpaModel(1, {gram: value for gram, value in UNIGRAM.log_probs.items() if gram != ("BB",)}, {})
    with pytest.raises(DataError, match=r"new language model lacks 1 words of the lexicon, e\.g\. 'BB'"):
        LanguageModelChange(UNIGRAM, smaller, toy.LEXICON.words).check_vocabulary()
    LanguageModelChange(smaller, UNIGRAM, toy.LEXICON.words).check_vocabulary()
    LanguageModelChange(smaller, smaller, toy.LEXICON.words).check_vocabulary()  # no lattice can hold BB


@pytest.mark.parametrize("kind", list(HypothesisKind))
@given(shift=st.sampled_from([5.0, 20.0, 30.0]))
@settings(max_examples=3)
def test_times_are_in_the_outputs_of_the_network(toy, decoder, noisy, kind, shift):
    utterance, log_likes = noisy[0]
    config = dataclasses.replace(decoder.config, hypothesis=kind)
    slower = WfstDecoder(decoder.graph, toy.HMM, toy.LEXICON, config, frame_shift_ms=shift)
    usual, stretched = with_kind(decoder, kind).decode(utterance, log_likes), slower.decode(utterance, log_likes)
    assert stretched.duration == pytest.approx(len(log_likes) * shift / 1000)
    for one, other in zip(usual.words, stretched.words, strict=True):
        assert (other.start, other.duration) == pytest.approx((one.start * shift / 10, one.duration * shift / 10))


def test_a_lattice_search_beam_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"decoding\.lattice_search_beam must be positive, got 0"):
        DecodingConfig(lattice_search_beam=0.0)


@given(lattices())
def test_a_lattice_too_big_for_its_sentences_to_be_told_apart_loses_its_worst_paths(lattice):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lhuc_asr.decoding.lattices.reading._MOST_ARCS", 3)
        small = _of_bearable_size(lattice)
    best = min(all_paths(lattice), key=lambda path: path.cost)
    kept = all_paths(small)
    assert small.num_arcs <= max(3, lattice.num_arcs)
    assert min(path.cost for path in kept) == pytest.approx(best.cost, abs=1e-4)
    assert {path.words for path in kept} <= {path.words for path in all_paths(lattice)}
