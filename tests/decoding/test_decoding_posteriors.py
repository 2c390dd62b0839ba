"""Posteriors, n-best lists and least risk against writing out every path."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from helpers.tiny_lattices import all_paths, chances, lattice_of, lattices
from lhuc_asr.decoding.lattices.mbr import confusion_network, least_risk, mbr, mbr_of_nbest
from lhuc_asr.decoding.lattices.nbest import Sentence, nbest, sentence_posteriors
from lhuc_asr.decoding.lattices.posteriors import arc_posteriors, frame_posteriors
from lhuc_asr.errors import DecodingError
from lhuc_asr.scoring.edit import count_errors

PDF_OF = np.array([-1, 0, 0, 1, 1, 2, 2], np.int32)
SENTENCES = st.lists(
    st.tuples(st.lists(st.integers(1, 3), max_size=4).map(tuple), st.floats(0, 4)),
    min_size=1,
    max_size=5,
    unique_by=lambda entry: entry[0],
).map(lambda entries: tuple(Sentence(*entry) for entry in sorted(entries, key=lambda entry: entry[1])))


def distance(one, other) -> int:
    """Errors between word ids."""
    return count_errors([str(word) for word in one], [str(word) for word in other]).errors


@given(lattices(), st.floats(0.01, 0.5), st.floats(0.2, 1.0))
def test_arc_posteriors_are_shares_of_all_paths(lattice, acoustic_scale, graph_scale):
    scales = {"acoustic_scale": acoustic_scale, "graph_scale": graph_scale}
    paths = all_paths(lattice, **scales)
    expected = np.zeros(lattice.num_arcs)
    for path, chance in zip(paths, chances(paths), strict=True):
        expected[list(path.arcs)] += chance
    found = arc_posteriors(lattice, **scales)
    np.testing.assert_allclose(found.arc, expected, atol=1e-9)
    assert found.log_total == pytest.approx(logsumexp([-path.cost for path in paths]), abs=1e-9)


@given(lattices())
def test_states_sum_to_one_in_every_frame_and_are_shares_of_all_paths(lattice):
    posteriors = frame_posteriors(lattice, arc_posteriors(lattice), PDF_OF, 3)
    expected = np.zeros((lattice.num_frames, 3))
    paths = all_paths(lattice)
    for path, chance in zip(paths, chances(paths), strict=True):
        ids = lattice.transition_id[list(path.arcs)]
        expected[np.arange(lattice.num_frames), PDF_OF[ids[ids > 0]]] += chance
    dense = posteriors.dense()
    np.testing.assert_allclose(dense, expected, atol=1e-6)
    np.testing.assert_allclose(dense.sum(axis=1), 1.0, atol=1e-6)
    for states in itertools.islice(itertools.product(range(3), repeat=lattice.num_frames), 9):
        np.testing.assert_array_equal(
            posteriors.of_path(np.array(states)), dense[np.arange(lattice.num_frames), list(states)]
        )


def test_a_path_of_another_length_is_refused():
    lattice = lattice_of([(0, 1, 1, 1, 0, 0)], {1: 0.0})
    posteriors = frame_posteriors(lattice, arc_posteriors(lattice), PDF_OF, 3)
    with pytest.raises(DecodingError, match="2 frames"):
        posteriors.of_path(np.array([0, 0]))


@given(lattices(), st.integers(1, 6), st.floats(0.01, 0.5))
def test_nbest_is_sorted_distinct_and_complete(lattice, num_sentences, scale):
    best: dict[tuple[int, ...], float] = {}
    for path in all_paths(lattice, acoustic_scale=scale):
        best[path.words] = min(path.cost, best.get(path.words, np.inf))
    found = nbest(lattice, num_sentences, acoustic_scale=scale)
    assert len(found) == min(num_sentences, len(best))
    assert len({sentence.words for sentence in found}) == len(found)
    costs = [sentence.cost for sentence in found]
    assert costs == sorted(costs)
    np.testing.assert_allclose(costs, sorted(best.values())[: len(found)], atol=1e-9)
    for sentence in found:
        assert sentence.cost == pytest.approx(best[sentence.words], abs=1e-9)


def test_a_list_of_a_long_lattice_needs_no_list_of_all_its_sentences():
    """Forty words with three choices each: more sentences than could ever be written out."""
    arcs = [(k, k + 1, 1, word, 0.1 * word + 0.001 * k, 0.0) for k in range(40) for word in (1, 2, 3)]
    found = nbest(lattice_of(arcs, {40: 0.0}), 50)
    assert len({sentence.words for sentence in found}) == 50
    assert found[0].words == (1,) * 40
    assert sum(2 in sentence.words and 3 not in sentence.words for sentence in found) >= 40


def test_an_empty_list_is_refused():
    with pytest.raises(DecodingError, match="at least 1"):
        nbest(lattice_of([(0, 1, 1, 1, 0, 0)], {1: 0.0}), 0)


@given(SENTENCES)
def test_least_risk_of_a_list_is_the_least_of_all(sentences):
    weights = np.exp(-np.array([sentence.cost for sentence in sentences]))
    weights /= weights.sum()
    np.testing.assert_allclose(sentence_posteriors(sentences), weights)

    def risk(words):
        return sum(w * distance(other.words, words) for w, other in zip(weights, sentences, strict=True))

    assert risk(least_risk(sentences).words) == pytest.approx(min(risk(sentence.words) for sentence in sentences))


@given(SENTENCES)
def test_the_risk_from_a_list_is_exact_and_never_above_that_of_the_best(sentences):
    weights = sentence_posteriors(sentences)

    def risk(words):
        return sum(w * distance(other.words, words) for w, other in zip(weights, sentences, strict=True))

    network = mbr_of_nbest(sentences)
    assert network.risk == pytest.approx(risk(network.words), abs=1e-3)
    assert network.risk <= risk(sentences[0].words) + 1e-3


@given(SENTENCES.filter(lambda sentences: all(len(sentence.words) <= 1 for sentence in sentences)))
def test_among_single_words_least_risk_is_the_likeliest_word(sentences):
    weights = sentence_posteriors(sentences)
    network = mbr_of_nbest(sentences)
    best = max(zip(weights, sentences, strict=True), key=lambda pair: pair[0])[1]
    assert network.words == best.words


@given(lattices())
def test_slots_sum_to_one_and_least_risk_never_rises(lattice):
    arcs = arc_posteriors(lattice)
    words = nbest(lattice, 1)[0].words
    network = confusion_network(lattice, arcs, words)
    assert network.words == words
    for slot in network.slots:
        assert sum(value for _, value in slot.posteriors) == pytest.approx(1.0)
        assert -1 <= slot.frame <= lattice.num_frames + 1e-9
    assert mbr(lattice, arcs, words).risk <= network.risk


@given(lattices(), st.lists(st.integers(1, 3), max_size=4))
def test_the_risk_from_a_lattice_bounds_the_true_one_from_above(lattice, words):
    paths = all_paths(lattice)
    true = sum(chance * distance(path.words, words) for path, chance in zip(paths, chances(paths), strict=True))
    assert confusion_network(lattice, arc_posteriors(lattice), words).risk >= true - 1e-6


def test_confidences_of_a_lattice_by_hand():
    """Words 1 2 (0.6), 1 3 (0.3) and 1 (0.1): the second place is contested."""
    costs = -np.log([0.6, 0.3, 0.1])
    arcs = [(0, 1, 1, 1, 0.0, 0.0), *[(1, 2, 2, word, cost, 0.0) for word, cost in zip((2, 3, 0), costs, strict=True)]]
    lattice = lattice_of(arcs, {2: 0.0})
    network = confusion_network(lattice, arc_posteriors(lattice), (1, 2))
    assert network.confidences == pytest.approx((1.0, 0.6))
    assert [round(value, 6) for _, value in network.slots[3].posteriors] == [0.6, 0.3, 0.1]
    assert [slot.frame for slot in network.slots if slot.word] == pytest.approx([0.0, 1.0])
    assert network.risk == pytest.approx(0.4, abs=1e-4)


def test_least_risk_can_differ_from_the_best_path():
    """1 2 is the best sentence (0.4), but 3 is said with 0.6 in the second place, in two sentences."""
    sentences = tuple(
        Sentence(words, -np.log(chance)) for words, chance in (((1, 2), 0.4), ((1, 3), 0.3), ((4, 3), 0.3))
    )
    assert mbr_of_nbest(sentences).words == (1, 3)
    assert least_risk(sentences).words == (1, 3)
