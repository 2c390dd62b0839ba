"""Phone graphs, phone model, denominator and numerators: what they allow, and with which probability."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.tree import DecisionTree, Leaf, Node, Side, Split, monophone_tree
from lhuc_asr.training.criteria.lfmmi.chain_topology import ChainTopology
from lhuc_asr.training.criteria.lfmmi.denominator import Extent, denominator_graph
from lhuc_asr.training.criteria.lfmmi.forward_backward import denominator_occupancy, numerator_occupancy
from lhuc_asr.training.criteria.lfmmi.graph import ChainGraph
from lhuc_asr.training.criteria.lfmmi.numerator import NumeratorCompiler, PhoneSegments
from lhuc_asr.training.criteria.lfmmi.phone_graph import PhoneGraph
from lhuc_asr.training.criteria.lfmmi.phone_lm import START, PhoneLm, PhoneLmConfig

NUM_PHONES = 5
phone_sequences = st.lists(st.integers(1, NUM_PHONES), min_size=1, max_size=6)
transcripts = st.lists(
    st.lists(st.lists(st.integers(2, NUM_PHONES), min_size=1, max_size=3), min_size=1, max_size=2, unique_by=tuple),
    max_size=3,
)


def path_probability(graph: PhoneGraph) -> float:
    """The summed probability of all ways through the graph."""
    reached = [0.0] * len(graph.arcs)
    reached[0] = 1.0
    for node, arcs in enumerate(graph.arcs):
        for arc in arcs:
            assert arc.target > node
            reached[arc.target] += reached[node] * arc.probability
    return sum(reached[node] * share for node, share in graph.final.items())


@given(words=transcripts, silence=st.floats(0.1, 0.9))
def test_a_transcript_has_every_pronunciation_and_optional_silence(
    words: list[list[list[int]]], silence: float
) -> None:
    graph = PhoneGraph.of_words(words, silence_probability=silence)
    expected = {()} if words else {(1,)}
    for pronunciations in words:
        starts = {said + gap for said in expected for gap in ((), (1,))}
        expected = {said + tuple(one) for said in starts for one in pronunciations}
    if words:
        expected = {said + gap for said in expected for gap in ((), (1,))}
    assert {tuple(said) for said in graph.sequences()} == expected
    assert path_probability(graph) == pytest.approx(1)


@given(texts=st.lists(phone_sequences, min_size=1, max_size=8), extra=st.integers(0, 10))
def test_after_every_history_the_phones_add_up_to_one(texts: list[list[int]], extra: int) -> None:
    config = PhoneLmConfig(order=4, kept_order=2, num_extra_histories=extra)
    lm = PhoneLm.estimate(map(PhoneGraph.of_phones, texts), config)
    for following in lm.log_probs.values():
        assert sum(map(math.exp, following.values())) == pytest.approx(1)
    for text in texts:
        history = START
        for phone in [*text, 0]:
            assert phone in lm.log_probs[history]
            history = lm.step(history, phone).history


def test_the_phone_model_counts_by_hand() -> None:
    lm = PhoneLm.estimate(map(PhoneGraph.of_phones, ([2, 3], [2, 3], [4, 3, 2])), PhoneLmConfig(order=2, kept_order=2))
    assert math.exp(lm.step((0,), 2).log_prob) == pytest.approx(2 / 3)
    assert math.exp(lm.step((3,), 0).log_prob) == pytest.approx(2 / 3)
    assert math.exp(lm.step((2,), 3).log_prob) == pytest.approx(2 / 3)
    assert lm.step((2,), 4).log_prob == lm.unseen_log_prob
    half = PhoneLm.estimate([PhoneGraph.of_words([[[2], [3, 4]]], silence_probability=0.25)])
    assert math.exp(half.step((0,), 1).log_prob) == pytest.approx(0.25)
    assert math.exp(half.step((0, 1), 3).log_prob) == pytest.approx(0.5)


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        PhoneLm.estimate([])
    with pytest.raises(ConfigError, match="kept_order"):
        PhoneLmConfig(order=3, kept_order=4)


def test_a_tree_of_left_biphones_gives_a_topology() -> None:
    split = Split(Side.left, frozenset({2}), Leaf(2), Leaf(3))
    topology = ChainTopology.of_tree(DecisionTree(((Leaf(0), Leaf(1)), (split, Leaf(4)))))
    assert topology.enter[1:, 2].tolist() == [3, 2]
    assert topology.loop[0, 2] == 4
    assert topology.num_pdfs == 5
    with pytest.raises(ConfigError, match="follows"):
        ChainTopology.of_tree(DecisionTree(((Leaf(0),), (Split(Side.right, frozenset({2}), Leaf(1), Leaf(2)),))))
    with pytest.raises(ConfigError, match="has 3"):
        ChainTopology.of_tree(monophone_tree(2, 3))


def left_biphone_tree(num_phones: int, *, num_states: int = 2) -> DecisionTree:
    """The tree in which every phone has tied states of its own after every phone; nothing is shared.

    Source: Hadian et al. 2018, "End-to-end speech recognition using lattice-free MMI", Interspeech, section 3.2.
    """

    def after(left: int, first: int) -> Node:
        leaf = Leaf(first + (left - 1) * num_states)
        return leaf if left == num_phones else Split(Side.left, frozenset({left}), leaf, after(left + 1, first))

    per_phone = num_phones * num_states
    return DecisionTree(
        tuple(tuple(after(1, phone * per_phone + state) for state in range(num_states)) for phone in range(num_phones))
    )


def test_full_biphones_have_tied_states_of_their_own() -> None:
    topology = ChainTopology.of_tree(left_biphone_tree(3))
    assert topology.num_pdfs == 3 * 3 * 2
    pdfs = np.concatenate([topology.enter[1:, 1:].ravel(), topology.loop[1:, 1:].ravel()])
    assert sorted(pdfs.tolist()) == list(range(18))
    assert topology.enter[0, 1:].tolist() == topology.enter[1, 1:].tolist()


def both_graphs(words: list[list[list[int]]], extent: Extent, order: int) -> tuple[ChainGraph, ChainGraph]:
    said = PhoneGraph.of_words(words)
    lm = PhoneLm.estimate([said, PhoneGraph.of_phones([1, 2, 3])], PhoneLmConfig(order=order, kept_order=2))
    topology = ChainTopology.of_tree(left_biphone_tree(NUM_PHONES))
    denominator = denominator_graph(lm, topology, extent=extent)
    compiler = NumeratorCompiler(lm, topology, extent, float(denominator.start[0]))
    return denominator, compiler.of_phones(said)


@settings(deadline=None, max_examples=25)
@given(words=transcripts, extent=st.sampled_from(Extent), order=st.integers(2, 4), seed=st.integers(0, 999))
def test_what_was_said_is_part_of_what_could_be_said(
    words: list[list[list[int]]], extent: Extent, order: int, seed: int
) -> None:
    denominator, numerator = both_graphs(words, extent, order)
    outputs = 3 * torch.randn(1, 20, 2 * NUM_PHONES**2, generator=torch.Generator().manual_seed(seed)).double()
    lens = torch.tensor([20])
    said = numerator_occupancy(outputs, lens, [numerator]).log_like
    could = denominator_occupancy(outputs, lens, denominator, leak=0.0).log_like
    assert float(said) <= float(could) + 1e-9


def test_the_denominator_of_utterances_is_a_distribution_over_everything() -> None:
    """Summed over all lengths, its paths have probability 1 when every tied state has likelihood 1."""
    graph, _ = both_graphs([[[2, 3], [4]], [[5]]], Extent.utterance, 3)
    lens = torch.arange(1, 121)
    outputs = torch.zeros(120, 120, 2 * NUM_PHONES**2, dtype=torch.float64)
    total = denominator_occupancy(outputs, lens, graph, leak=0.0).log_like.exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-9)


def test_the_stationary_start_is_a_distribution_and_holds_state_0() -> None:
    graph, _ = both_graphs([[[2, 3], [4]], [[5]]], Extent.stationary, 3)
    assert np.exp(graph.start).sum() == pytest.approx(1)
    assert math.exp(graph.start[0]) == pytest.approx(0.01)
    assert not graph.final.any()


def test_a_transcript_needs_one_output_a_phone() -> None:
    _, numerator = both_graphs([[[2, 3, 4], [4, 5]], [[5]]], Extent.utterance, 3)
    assert numerator.min_frames() == 3


def compiler_of(phones: list[int]) -> NumeratorCompiler:
    return NumeratorCompiler(PhoneLm.estimate([PhoneGraph.of_phones(phones)]), ChainTopology.monophone(NUM_PHONES))


@given(lengths=st.lists(st.integers(3, 12), min_size=1, max_size=6), tolerance=st.integers(0, 12))
def test_an_alignment_with_tolerance_always_fits_and_stays_within_it(lengths: list[int], tolerance: int) -> None:
    starts, num_frames = np.cumsum([0, *lengths])[:-1].tolist(), sum(lengths)
    phones = [2 + position % 4 for position in range(len(lengths))]
    segments = PhoneSegments(phones, starts, num_frames)
    graph = compiler_of(phones).of_segments(segments, tolerance=tolerance)
    num_outputs = -(-num_frames // 3)
    outputs = torch.zeros(1, num_outputs, 2 * NUM_PHONES, dtype=torch.float64)
    occupancy = numerator_occupancy(outputs, torch.tensor([num_outputs]), [graph])
    assert occupancy.log_like.isfinite().all()
    of_phone = occupancy.posteriors[0].view(num_outputs, NUM_PHONES, 2).sum(2)
    ends = [*starts[1:], num_frames]
    for frame, phone in of_phone.nonzero().tolist():
        near = [
            begin - tolerance < 3 * (frame + 1) and 3 * frame < end + tolerance
            for said, begin, end in zip(phones, starts, ends, strict=True)
            if said == phone + 1
        ]
        assert any(near)


def test_boundless_tolerance_equals_the_transcript() -> None:
    phones, outputs = [2, 3, 4], torch.randn(1, 8, 2 * NUM_PHONES).double()
    compiler = compiler_of(phones)
    free = compiler.of_phones(PhoneGraph.of_phones(phones))
    aligned = compiler.of_segments(PhoneSegments(phones, [0, 9, 15], 24), tolerance=100)
    found = [numerator_occupancy(outputs, torch.tensor([8]), [graph]) for graph in (free, aligned)]
    torch.testing.assert_close(found[0].log_like, found[1].log_like)
    torch.testing.assert_close(found[0].posteriors, found[1].posteriors)


def test_segments_are_read_from_an_alignment() -> None:
    hmm = HmmModel.monophone(("SIL", "SPN", "AH"))
    alignment = np.array([2, 1, 4, 6, 14, 13, 16, 18, 14, 16, 18], np.int32)
    segments = PhoneSegments.of_alignment(hmm, alignment)
    assert (segments.phones, segments.starts, segments.num_outputs) == ([1, 3, 3], [0, 4, 8], 4)
