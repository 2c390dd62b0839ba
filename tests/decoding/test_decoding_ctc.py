"""CTC with lexicon and n-gram: against every output sequence written out; times; greedy; what is refused."""

from __future__ import annotations

import logging
import math
from itertools import groupby, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.decoding.ctc import GreedyCtcDecoder
from lhuc_asr.decoding.ctc_graph import build_ctc_graph, ctc_hmm, is_ctc, spelt, transition_ids_of
from lhuc_asr.decoding.graph import DecodingGraph
from lhuc_asr.decoding.lattices.posteriors import arc_posteriors
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.errors import DataError, DecodingError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.arpa import ArpaModel
from lhuc_asr.lang.kneser_ney import estimate_ngram
from lhuc_asr.lang.lexicon import Lexicon

BLANK, SPACE = "<blank>", "<space>"
PHONES = Lexicon({"AB": (("A", "B"),), "A": (("A",), ("A", "A")), "BEE": (("B",),), "BE": (("B",),)})
TEXTS = ["AB A", "BEE AB", "A A BE", "BE", "AB BEE BEE"]
SCALE, PENALTY = 0.8, 0.3
ROUNDED = 5e-3
"""What the weights of a graph may lose: every determinisation rounds the weight of a state to 1/1024."""


def search(hmm: HmmModel, lexicon: Lexicon, lm: ArpaModel, **changes) -> WfstDecoder:
    graph = DecodingGraph.of(build_ctc_graph(hmm, lexicon, lm))
    config = {"acoustic_scale": SCALE, "insertion_penalty": PENALTY, "beam": 80.0, "lattice_beam": 80.0} | changes
    return WfstDecoder(graph, hmm, lexicon, DecodingConfig(**config))


BIGRAM = estimate_ngram([text.split() for text in TEXTS], order=2)
PHONE_HMM = ctc_hmm([BLANK, "SPN", "A", "B"], "SIL")
PHONE_DECODER = search(PHONE_HMM, PHONES, BIGRAM)
LETTERS = Lexicon({"AB": (("EY", "B"),), "A": (("EY",),), "BB": (("B",),)})
LETTER_LM = estimate_ngram([["AB", "A"], ["BB", "AB"], ["A", "A", "BB"]], order=2)
LETTER_HMM = ctc_hmm([BLANK, SPACE, "A", "B"], SPACE)
LETTER_DECODER = search(LETTER_HMM, spelt(LETTERS, [BLANK, SPACE, "A", "B"], space=SPACE), LETTER_LM)


def log_probs_of(num_frames: int, seed: int, num_outputs: int = 4) -> np.ndarray:
    scores = 3 * np.random.default_rng(seed).standard_normal((num_frames, num_outputs))
    return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)


def labels_of(path) -> tuple[int, ...]:
    return tuple(label for label, _ in groupby(path) if label)


def said_by_phones(labels: tuple[int, ...]) -> list[tuple[str, ...]]:
    """Every way to read phones as words."""
    names = tuple(PHONE_HMM.phones[label] for label in labels)
    if not names:
        return [()]
    return [
        (word, *others)
        for word, pronunciations in PHONES.pronunciations.items()
        for pronunciation in pronunciations
        if names[: len(pronunciation)] == pronunciation
        for others in said_by_phones(labels[len(pronunciation) :])
    ]


def said_by_letters(labels: tuple[int, ...]) -> list[tuple[str, ...]]:
    """The words between spaces; one space at the end is no word."""
    text = "".join(" AB"[label - 1] for label in labels)
    words = tuple(text.removesuffix(" ").split(" ")) if text.strip() else ()
    legal = not text.startswith(" ") and all(word in LETTERS for word in words)
    return [words] if legal and (words or not text) else []


def all_costs(log_probs, said, lm) -> dict[tuple[str, ...], list[float]]:
    """Words -> costs of all frame by frame ways to say them."""
    found: dict[tuple[str, ...], list[float]] = {}
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        acoustic = -SCALE * float(log_probs[np.arange(len(path)), path].sum(dtype=np.float64))
        for words in said(labels_of(path)):
            found.setdefault(words, []).append(acoustic + lm_cost(words, lm) + PENALTY * len(words))
    return found


def lm_cost(words: tuple[str, ...], lm: ArpaModel) -> float:
    steps = [*words, "</s>"]
    log10 = sum(lm.log10_prob(word, ("<s>", *words[:index])) for index, word in enumerate(steps))
    return -log10 * math.log(10)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000))
def test_words_of_phones_are_the_best_of_all_output_sequences(num_frames: int, seed: int) -> None:
    check_best(PHONE_DECODER, log_probs_of(num_frames, seed), said_by_phones, BIGRAM)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000))
def test_words_of_letters_are_the_best_of_all_output_sequences(num_frames: int, seed: int) -> None:
    check_best(LETTER_DECODER, log_probs_of(num_frames, seed), said_by_letters, LETTER_LM)


def check_best(decoder, log_probs, said, lm) -> None:
    costs = {words: min(ways) for words, ways in all_costs(log_probs, said, lm).items()}
    found = decoder.decode("u1", log_probs)
    best = min(costs.values())
    assert found.graph_cost + found.acoustic_cost == pytest.approx(best, abs=ROUNDED)
    assert costs[tuple(word.text for word in found.words)] == pytest.approx(best, abs=ROUNDED)
    assert found.reached_final
    outputs = decoder.hmm.pdfs(found.transition_ids)
    assert tuple(word.text for word in found.words) in said(labels_of(outputs.tolist()))
    assert found.acoustic_cost == pytest.approx(-SCALE * log_probs[np.arange(len(outputs)), outputs].sum(), abs=1e-3)


@pytest.mark.parametrize("letters", [False, True])
def test_a_lattice_has_every_way_to_say_a_sentence_once(letters: bool) -> None:
    """With a unigram no sentence is reached twice through back-off, so the sum over paths is that of all ways."""
    words = ["AB", "A", "BB"] if letters else ["AB", "A", "BEE", "BE"]
    lm = ArpaModel(1, {(word,): -0.4 - 0.1 * number for number, word in enumerate([*words, "</s>"])}, {})
    lexicon = spelt(LETTERS, [BLANK, SPACE, "A", "B"], space=SPACE) if letters else PHONES
    hmm, said = (LETTER_HMM, said_by_letters) if letters else (PHONE_HMM, said_by_phones)
    log_probs = log_probs_of(4, seed=5)
    lattice = search(hmm, lexicon, lm).lattice("u1", log_probs)
    ways = [-cost for costs in all_costs(log_probs, said, lm).values() for cost in costs]
    assert arc_posteriors(lattice).log_total == pytest.approx(np.logaddexp.reduce(ways), abs=1e-3)
    assert lattice.num_frames == 4


def test_words_are_found_with_their_times() -> None:
    """Blanks after a label belong to its word, those at the beginning to none."""
    path = np.array([0, 0, 2, 2, 0, 3, 0, 0, 2, 0, 2, 0], np.int32)
    log_probs = np.log(0.97 * np.eye(4)[path] + 0.01).astype(np.float32)
    lm = ArpaModel(1, {("AB",): -0.5, ("A",): -0.4, ("</s>",): -0.7}, {})
    found = search(PHONE_HMM, PHONES, lm, insertion_penalty=0.5).decode("u1", log_probs)
    assert [(word.text, round(word.start, 3), round(word.duration, 3)) for word in found.words] == [
        ("AB", 0.02, 0.06),
        ("A", 0.08, 0.04),
    ]
    assert PHONE_HMM.pdfs(found.transition_ids).tolist() == path.tolist()


def test_many_utterances_are_decoded_in_order_and_failures_told() -> None:
    items = [(f"u{number}", log_probs_of(6, number)) for number in range(4)]
    items.insert(1, ("bad", np.zeros((3, 7), np.float32)))
    failed = []
    found = list(PHONE_DECODER.decode_all(items, num_jobs=2, on_failure=lambda name, error: failed.append(name)))
    assert [one.utterance for one in found] == ["u0", "u1", "u2", "u3"]
    assert failed == ["bad"]
    assert [one.text for one in found] == [PHONE_DECODER.decode(*item).text for item in items if item[0] != "bad"]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_greedy_gives_the_collapsed_outputs(outputs: list[int]) -> None:
    path = np.array(outputs, np.int32)
    log_probs = np.log(0.97 * np.eye(4)[path] + 0.01).astype(np.float32)
    ids = transition_ids_of(path, PHONE_HMM)
    assert PHONE_HMM.pdfs(ids).tolist() == outputs
    found = GreedyCtcDecoder(PHONE_HMM).decode("u1", log_probs)
    assert [word.text for word in found.words] == [PHONE_HMM.phones[label] for label in labels_of(outputs)]
    text = "".join(LETTER_HMM.phones[label] for label in labels_of(outputs)).replace(SPACE, " ")
    letters = list(GreedyCtcDecoder(LETTER_HMM, output_shift_ms=30.0).decode_all([("u1", log_probs)]))
    assert letters[0].text == " ".join(text.split())
    assert all(word.start + word.duration <= 0.03 * len(path) + 1e-9 for word in letters[0].words)


def test_greedy_joins_word_pieces_where_a_word_starts() -> None:
    symbols = [BLANK, "▁", "▁A", "BE", "D"]
    path = [2, 3, 0, 3, 1, 1, 3, 4, 2, 0, 2]
    log_probs = np.log(0.95 * np.eye(5)[path] + 0.01).astype(np.float32)
    found = GreedyCtcDecoder(ctc_hmm(symbols, "SIL")).decode("u1", log_probs)
    assert found.text == "ABEBE BED A A"
    assert [word.start for word in found.words] == pytest.approx([0.0, 0.04, 0.08, 0.1])


def test_the_states_of_a_path_are_those_that_the_search_gives() -> None:
    found = PHONE_DECODER.decode("u1", log_probs_of(12, seed=8))
    ids = transition_ids_of(PHONE_HMM.pdfs(found.transition_ids), PHONE_HMM)
    assert ids.tolist() == found.transition_ids.tolist()
    assert PHONE_HMM.phones == PHONES.phones


def test_the_model_survives_its_file(tmp_path) -> None:
    PHONE_HMM.save(tmp_path / "hmm.json")
    again = HmmModel.load(tmp_path / "hmm.json")
    assert again.transitions.pdf.tolist() == PHONE_HMM.transitions.pdf.tolist()
    assert again.phones == PHONE_HMM.phones


def test_words_with_other_letters_are_left_out_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        lexicon = spelt(LETTERS, [BLANK, SPACE, "A"], space=SPACE)
    assert list(lexicon.pronunciations) == ["A"]
    assert "2 words cannot be spelt" in caplog.text


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"labels that the network does not have: 'AB' \(B\), 'BE' \(B\)"):
        build_ctc_graph(ctc_hmm([BLANK, "SPN", "A"], "SIL"), PHONES, BIGRAM)
    with pytest.raises(DataError, match="'<space>', but the lexicon's silence is 'SIL'"):
        build_ctc_graph(LETTER_HMM, PHONES, BIGRAM)
    with pytest.raises(DataError, match="none of the 1 words"):
        build_ctc_graph(PHONE_HMM, PHONES, ArpaModel(1, {("HI",): -0.5, ("</s>",): -0.5}, {}))
    with pytest.raises(DataError, match="different labels"):
        ctc_hmm([BLANK, "A", "A"], "SIL")
    with pytest.raises(DataError, match="none of 3 words can be spelt"):
        spelt(LETTERS, [BLANK, SPACE, "C"], space=SPACE)
    with pytest.raises(DecodingError, match=r"'anna': log-probabilities of shape \(2, 3\)"):
        GreedyCtcDecoder(PHONE_HMM).decode("anna", np.zeros((2, 3), np.float32))
    with pytest.raises(DecodingError, match="'anna': log-probabilities are not finite"):
        GreedyCtcDecoder(PHONE_HMM).decode("anna", np.full((2, 4), np.nan, np.float32))


def test_models_of_ctc_are_told_from_others() -> None:
    assert is_ctc(PHONE_HMM) and is_ctc(LETTER_HMM)
    assert not any(is_ctc(HmmModel.monophone(PHONES.phones, num_states=number)) for number in (1, 2, 3))
