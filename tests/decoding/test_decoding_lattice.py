"""Lattices: order, best paths, pruning, times, storage; and the search that keeps them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.tiny_lattices import all_paths, lattice_of, lattices
from lhuc_asr.decoding.lattices.hypothesis import hypothesis_of
from lhuc_asr.decoding.lattices.lattice import in_topological_order
from lhuc_asr.decoding.lattices.paths import best_path
from lhuc_asr.decoding.lattices.store import read_lattices, write_lattices
from lhuc_asr.decoding.settings import Search
from lhuc_asr.errors import DataError, DecodingError


def same(one, other) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))


@given(lattices())
def test_arcs_lead_upwards_and_every_state_is_on_a_path(lattice):
    assert (lattice.source < lattice.target).all()
    assert (np.diff(lattice.source) >= 0).all()
    paths = all_paths(lattice)
    assert {arc for path in paths for arc in path.arcs} == set(range(lattice.num_arcs))
    lengths = {int((lattice.transition_id[list(path.arcs)] > 0).sum()) for path in paths}
    assert lengths == {lattice.num_frames}


@given(lattices(), st.floats(0.01, 1.0))
def test_best_path_is_the_cheapest(lattice, scale):
    cheapest = min(all_paths(lattice, acoustic_scale=scale), key=lambda path: path.cost)
    found = best_path(lattice, acoustic_scale=scale)
    cost = found.graph_cost + found.acoustic_cost * scale / lattice.acoustic_scale
    assert cost == pytest.approx(cheapest.cost, abs=1e-4)
    assert len(found.transition_ids) == lattice.num_frames


@given(lattices(), st.data())
def test_best_path_of_given_words(lattice, data):
    paths = all_paths(lattice)
    words = data.draw(st.sampled_from(paths)).words
    found = best_path(lattice, words=words)
    assert found.words == words
    cheapest = min(path.cost for path in paths if path.words == words)
    assert found.graph_cost + found.acoustic_cost == pytest.approx(cheapest, abs=1e-4)
    assert best_path(lattice, words=[*words, 99]) is None


@given(lattices(), st.floats(0.0, 5.0))
def test_pruning_keeps_every_path_within_the_beam(lattice, beam):
    paths, kept = all_paths(lattice), all_paths(lattice.pruned(beam))
    best = min(path.cost for path in paths)
    within = {(path.words, round(path.cost, 3)) for path in paths if path.cost < best + beam - 1e-4}
    assert within <= {(path.words, round(path.cost, 3)) for path in kept}
    assert min(path.cost for path in kept) == pytest.approx(best)
    assert same(lattice.pruned(1e6), lattice)


def test_cycles_and_dead_ends_are_refused():
    cycle = lattice_of([(0, 1, 1, 0, 0, 0), (1, 2, 0, 0, 0, 0), (2, 1, 0, 0, 0, 0)], {2: 0.0})
    with pytest.raises(DecodingError, match="cycle"):
        in_topological_order(cycle)
    with pytest.raises(DecodingError, match="complete path"):
        in_topological_order(lattice_of([(0, 1, 1, 0, 0, 0)], {}))


def test_paths_of_different_length_cannot_meet():
    with pytest.raises(AssertionError, match="different length"):
        _ = lattice_of([(0, 1, 1, 0, 0, 0), (0, 1, 0, 0, 0, 0)], {1: 0.0}).frame


def test_a_lattice_of_the_search_holds_the_hypothesis(toy, decoder, noisy):
    for utterance, log_likes in noisy:
        hypothesis, lattice = decoder.decode(utterance, log_likes), decoder.lattice(utterance, log_likes)
        assert (lattice.utterance, lattice.num_frames) == (utterance, len(log_likes))
        assert lattice.reached_final and lattice.num_arcs > len(log_likes)
        found = hypothesis_of(lattice, toy.HMM, toy.LEXICON)
        np.testing.assert_array_equal(found.transition_ids, hypothesis.transition_ids)
        assert found.words == hypothesis.words
        assert found.graph_cost == pytest.approx(hypothesis.graph_cost, abs=1e-3)
        assert found.acoustic_cost == pytest.approx(hypothesis.acoustic_cost, abs=1e-3)


def test_acoustic_costs_are_the_scaled_scores_of_the_frames(toy, decoder, noisy):
    utterance, log_likes = noisy[0]
    lattice = decoder.lattice(utterance, log_likes)
    reads = lattice.transition_id > 0
    frames = lattice.frame[lattice.source[reads]]
    scores = log_likes[frames, toy.HMM.pdfs(lattice.transition_id[reads])]
    np.testing.assert_allclose(lattice.acoustic_cost[reads], -0.3 * scores, atol=1e-4)
    assert not lattice.acoustic_cost[~reads].any()


@pytest.mark.parametrize("search", list(Search))
@pytest.mark.parametrize("num_jobs", [1, 2])
def test_asking_for_lattices_changes_no_hypothesis(decoder, noisy, search, num_jobs):
    decoder = decoder.with_config(dataclasses.replace(decoder.config, search=search))
    without = list(decoder.decode_all(noisy, num_jobs=num_jobs))
    kept = []
    given_lattices = list(decoder.decode_all(noisy, num_jobs=num_jobs, on_lattice=kept.append))
    assert [item.utterance for item in kept] == [utterance for utterance, _ in noisy]
    for ours, theirs in zip(without, given_lattices, strict=True):
        assert (ours.words, ours.graph_cost, ours.acoustic_cost) == (
            theirs.words,
            theirs.graph_cost,
            theirs.acoustic_cost,
        )
        np.testing.assert_array_equal(ours.transition_ids, theirs.transition_ids)
    assert same(kept[0], decoder.lattice(*noisy[0]))


def test_an_unfinished_lattice_says_so(toy, decoder):
    lattice = decoder.lattice("u1", toy.log_likes_of(toy.path_of(("A", 3), ("B", 3))[:4]))
    assert not lattice.reached_final


def test_an_utterance_without_a_lattice_counts_as_a_failure(decoder, noisy):
    failed, kept = [], []
    items = [noisy[0], ("empty", np.zeros((0, decoder.hmm.num_pdfs), np.float32))]
    found = list(
        decoder.decode_all(items, on_failure=lambda utterance, _: failed.append(utterance), on_lattice=kept.append)
    )
    assert (len(found), len(kept), failed) == (1, 1, ["empty"])


@given(st.lists(lattices(), max_size=3))
def test_storage_gives_every_number_back(tmp_path_factory, drawn):
    directory = tmp_path_factory.mktemp("lattices")
    named = [dataclasses.replace(lattice, utterance=f"../é {index}") for index, lattice in enumerate(drawn)]
    write_lattices(directory, reversed(named))
    back = read_lattices(directory)
    assert list(back) == [lattice.utterance for lattice in named]
    for lattice in named:
        read = back[lattice.utterance]
        assert same(lattice, read)
        assert all(
            getattr(lattice, name).dtype == getattr(read, name).dtype
            for name in ("source", "target", "word", "final_cost")
        )


def test_a_lattice_of_the_search_is_small_on_disk(tmp_path, decoder, noisy):
    lattice = decoder.lattice(*noisy[0])
    path = write_lattices(tmp_path, [lattice])
    assert path.stat().st_size < 16 * lattice.num_arcs + 8 * lattice.num_states + 1500
    assert same(read_lattices(tmp_path)[lattice.utterance], lattice)


def test_missing_damaged_and_newer_files_are_refused(tmp_path, decoder, noisy):
    from safetensors.numpy import save_file

    with pytest.raises(DataError, match="no lattices"):
        read_lattices(tmp_path)
    path = write_lattices(tmp_path, [decoder.lattice(*noisy[0])])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        read_lattices(tmp_path)
    save_file({"word": np.zeros(1)}, path, metadata={"format_version": "2"})
    with pytest.raises(DataError, match="format '2'"):
        read_lattices(tmp_path)
