"""The search finds the favoured path, with exact words, times and costs, in one process or many."""

from __future__ import annotations

import logging

import kaldifst
import numpy as np
import pytest

from lhuc_asr.decoding.beam_search import BeamSearch
from lhuc_asr.decoding.graph import DecodingGraph
from lhuc_asr.decoding.settings import DecodingConfig, Search
from lhuc_asr.decoding.speed import SpeedMeter
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.errors import ConfigError, DecodingError


@pytest.fixture(scope="module")
def decoder(toy, tmp_path_factory):
    graph = toy.write_graph(tmp_path_factory.mktemp("graph") / "HCLG.fst")
    return WfstDecoder(graph, toy.HMM, toy.LEXICON, DecodingConfig())


def test_words_times_and_path_are_exact(toy, decoder, path):
    hypothesis = decoder.decode("u1", toy.log_likes_of(path))
    assert hypothesis.text == "AB A BB"
    times = [(round(word.start, 3), round(word.duration, 3)) for word in hypothesis.words]
    assert times == [(0.05, 0.07), (0.12, 0.06), (0.21, 0.06)]
    assert hypothesis.transition_ids.dtype == np.int32
    np.testing.assert_array_equal(hypothesis.transition_ids, path)
    assert hypothesis.reached_final


def test_costs_are_those_of_the_path(toy, decoder, path):
    hypothesis = decoder.decode("u1", toy.log_likes_of(path, contrast=50.0))
    assert hypothesis.graph_cost == pytest.approx(3.0)  # three words at cost 1
    assert hypothesis.acoustic_cost == pytest.approx(-0.1 * 50.0 * len(path))


def test_both_searches_agree(toy, decoder, path):
    lattice = decoder.with_config(DecodingConfig(search=Search.lattice))
    for seed in range(5):
        scores = toy.log_likes_of(path, contrast=30.0, noise=5.0, seed=seed)
        ours, theirs = decoder.decode("u", scores), lattice.decode("u", scores)
        np.testing.assert_array_equal(ours.transition_ids, theirs.transition_ids)
        assert ours.text == theirs.text
        assert ours.graph_cost + ours.acoustic_cost == pytest.approx(theirs.graph_cost + theirs.acoustic_cost, abs=1e-3)


def test_best_path_of_the_lattice_is_the_hypothesis(toy, decoder, path):
    scores = toy.log_likes_of(path, contrast=30.0, noise=5.0)
    of_transitions = np.ascontiguousarray(0.1 * scores[:, decoder.hmm.transitions.pdf_of[1:]], dtype=np.float32)
    lattice, complete = BeamSearch(decoder.graph.fst(), decoder.config).raw_lattice(of_transitions)
    assert complete
    _, ilabels, _, cost = kaldifst.get_linear_symbol_sequence(kaldifst.lattice_to_nbest(lattice, n=1)[0])
    hypothesis = decoder.decode("u", scores)
    assert ilabels == hypothesis.transition_ids.tolist()
    assert cost.value1 + cost.value2 == pytest.approx(hypothesis.graph_cost + hypothesis.acoustic_cost, abs=1e-3)


def test_insertion_penalty_is_charged_once_a_word_and_changes_the_words(toy, decoder, path):
    dearer = decoder.with_config(DecodingConfig(insertion_penalty=2.5))
    scores = toy.log_likes_of(path)
    assert dearer.decode("u", scores).text == "AB A BB"
    assert dearer.decode("u", scores).graph_cost == pytest.approx(3.0 + 3 * 2.5)
    assert decoder.decode("u", scores).graph_cost == pytest.approx(3.0)  # the graph of the other is untouched
    prohibitive = decoder.with_config(DecodingConfig(insertion_penalty=200.0, beam=300.0))
    assert prohibitive.decode("u", scores).text == ""


def test_a_penalty_in_the_configuration_from_the_start_is_the_same(toy, decoder, path):
    config = DecodingConfig(insertion_penalty=2.5)
    fresh = WfstDecoder(decoder.graph, toy.HMM, toy.LEXICON, config).decode("u", toy.log_likes_of(path))
    assert fresh.graph_cost == decoder.with_config(config).decode("u", toy.log_likes_of(path)).graph_cost


def test_processes_give_the_same_in_order_and_are_timed(toy, decoder):
    words = [("A", 4), ("B", 5), ("A", 3), ("SIL", 3)]
    items = [
        (f"u{number}", toy.log_likes_of(toy.path_of(*words[: number % 3 + 2]), noise=2.0, seed=number))
        for number in range(12)
    ]
    alone, together = SpeedMeter(), SpeedMeter()
    one = list(decoder.decode_all(iter(items), meter=alone))
    two = list(decoder.decode_all(iter(items), num_jobs=2, meter=together))
    assert [hypothesis.utterance for hypothesis in two] == [utterance for utterance, _ in items]
    assert [hypothesis.text for hypothesis in one] == [hypothesis.text for hypothesis in two]
    for left, right in zip(one, two, strict=True):
        np.testing.assert_array_equal(left.transition_ids, right.transition_ids)
    num_frames = sum(len(scores) for _, scores in items)
    assert alone.speed.audio == together.speed.audio == pytest.approx(num_frames / 100)
    assert together.speed.wall > 0 and together.speed.cpu > 0 and alone.speed.real_time_factor > 0
    assert "real-time factor" in str(together.speed)


def test_log_likelihoods_are_asked_for_lazily(toy, decoder, path):
    asked = []

    def items():
        for number in range(100):
            asked.append(number)
            yield f"u{number}", toy.log_likes_of(path)

    stream = decoder.decode_all(items())
    next(stream)
    assert asked == [0]


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_an_utterance_that_fails_is_named_or_handed_over(toy, decoder, path, num_jobs):
    good = toy.log_likes_of(path)
    items = [("good", good), ("bad/1", good[:0]), ("fine", good)]
    with pytest.raises(DecodingError, match="'bad/1' has no frames"):
        list(decoder.decode_all(items, num_jobs=num_jobs))
    failures = []
    kept = list(decoder.decode_all(items, num_jobs=num_jobs, on_failure=lambda *failure: failures.append(failure)))
    assert [hypothesis.utterance for hypothesis in kept] == ["good", "fine"]
    assert [utterance for utterance, _ in failures] == ["bad/1"]


def test_wrong_scores_are_refused(toy, decoder, path):
    scores = toy.log_likes_of(path)
    with pytest.raises(DecodingError, match=r"'u'.*tied states"):
        decoder.decode("u", scores[:, :-1])
    scores[3, 2] = np.nan
    with pytest.raises(DecodingError, match=r"'u'.*not finite"):
        decoder.decode("u", scores)


@pytest.mark.parametrize("search", list(Search))
def test_too_short_speech_gives_the_best_unfinished_path_and_a_warning(toy, decoder, caplog, search):
    with caplog.at_level(logging.WARNING):
        hypothesis = decoder.with_config(DecodingConfig(search=search)).decode(
            "short", toy.log_likes_of(toy.path_of(("SIL", 3))[:2])
        )
    assert not hypothesis.reached_final
    assert hypothesis.words == ()
    assert len(hypothesis.transition_ids) == 2
    assert "'short'" in caplog.text and "unfinished" in caplog.text


def test_a_word_that_is_cut_off_keeps_the_phones_that_were_heard(toy, tmp_path):
    lexicon = toy.LEXICON.__class__({"AB": (("A", "B"),)})
    hmm = toy.HMM.monophone(lexicon.phones)
    fst = kaldifst.StdVectorFst()
    labels = [2 * (3 * lexicon.phones.index(phone) + state) + 2 for phone in "AB" for state in range(3)]
    for position in range(7):
        fst.add_state()
        if position:
            fst.add_arc(position - 1, kaldifst.StdArc(labels[position - 1], int(position == 1) * 2, 0.0, position))
    fst.start = 0
    fst.set_final(6, 0.0)
    assert lexicon.words[1] == "AB"
    decoder = WfstDecoder(DecodingGraph.of(fst), hmm, lexicon, DecodingConfig())
    (word,) = decoder.decode("u", np.zeros((4, hmm.num_pdfs), np.float32)).words
    assert (word.text, word.start, word.duration) == ("AB", 0.0, 0.04)


def test_a_narrow_beam_is_widened_before_the_search_gives_up(toy, decoder):
    path = toy.path_of(("A", 3), ("B", 3))
    scores = toy.log_likes_of(path, contrast=50.0)
    scores[-1] = 0.0
    scores[-1, toy.HMM.pdfs(path)[-2]] = 50.0  # staying in the last state but one looks 5 better than ending
    narrow = decoder.with_config(DecodingConfig(beam=3.0))
    assert narrow.decode("u", scores).reached_final


def test_a_graph_of_another_model_is_refused(toy, tmp_path):
    graph = toy.write_graph(tmp_path / "HCLG.fst")
    smaller = toy.HMM.monophone(toy.LEXICON.phones[:-1])
    with pytest.raises(DecodingError, match=r"ilabel 24.*only 18 transition ids"):
        WfstDecoder(graph, smaller, toy.LEXICON, DecodingConfig())
    fewer_words = toy.LEXICON.__class__({"A": (("A",),)})
    with pytest.raises(DecodingError, match=r"olabel 4.*only 2 words"):
        WfstDecoder(graph, toy.HMM, fewer_words, DecodingConfig())


def test_a_missing_or_damaged_graph_is_refused(toy, tmp_path):
    with pytest.raises(DecodingError, match=r"no decoding graph at .*nowhere"):
        DecodingGraph.read(tmp_path / "nowhere.fst")
    (tmp_path / "text.fst").write_text("0 1 2 3\n" * 100)
    with pytest.raises(DecodingError, match="is not a decoding graph"):
        DecodingGraph.read(tmp_path / "text.fst")


def test_the_table_of_arcs_is_the_graph(toy):
    fst = toy.word_loop()
    arcs = DecodingGraph.of(fst).arcs
    expected = [
        (arc.ilabel, arc.olabel, arc.weight.value, arc.nextstate)
        for state in range(fst.num_states)
        for arc in kaldifst.ArcIterator(fst, state)
    ]
    assert [tuple(arc) for arc in arcs.tolist()] == expected


@pytest.mark.parametrize(
    "setting", [{"acoustic_scale": 0.0}, {"beam": -1.0}, {"max_active": 0}, {"insertion_penalty": float("nan")}]
)
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        DecodingConfig(**setting)
