"""Mixtures of n-gram models: what must hold for any texts, and weights against brute force."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from lhuc_asr.errors import DataError
from lhuc_asr.lang.arpa import ArpaModel, read_arpa, write_arpa
from lhuc_asr.lang.kneser_ney import estimate_ngram
from lhuc_asr.lang.mixture import mixture, mixture_weights

WORDS = ("A", "B", "C", "D")
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=5), min_size=1, max_size=8)
HISTORIES = [("<s>",), *((word,) for word in WORDS), *itertools.product(("<s>", *WORDS), WORDS)]


def model_of(text: list[list[str]], order: int = 3) -> ArpaModel:
    return estimate_ngram(text, order=order, vocabulary=WORDS)


def prob(model: ArpaModel, word: str, history: tuple[str, ...]) -> float:
    return 10 ** model.log10_prob(word, history)


@settings(max_examples=40, deadline=None)
@given(one=TEXTS, other=TEXTS, weight=st.floats(0.01, 0.99), order=st.integers(1, 3))
def test_probabilities_add_up_and_listed_ones_are_means(
    one: list[list[str]], other: list[list[str]], weight: float, order: int
) -> None:
    models = [model_of(one), model_of(other, order)]
    mixed = mixture(models, [weight, 1 - weight])
    for history in HISTORIES:
        assert sum(prob(mixed, word, history) for word in (*WORDS, "</s>")) == pytest.approx(1.0, abs=1e-9)
    for gram in {gram for model in models for gram in model.log_probs} - {("<s>",)}:
        mean = sum(w * prob(m, gram[-1], gram[:-1]) for w, m in zip((weight, 1 - weight), models, strict=True))
        assert prob(mixed, gram[-1], gram[:-1]) == pytest.approx(mean, rel=1e-9)
    assert mixed.order == 3 and mixed.vocabulary == WORDS


@settings(max_examples=20, deadline=None)
@given(text=TEXTS)
def test_a_model_mixed_with_itself_is_itself(text: list[list[str]]) -> None:
    model = model_of(text)
    mixed = mixture([model, model], [0.3, 0.7])
    for history in HISTORIES:
        for word in (*WORDS, "</s>"):
            assert prob(mixed, word, history) == pytest.approx(prob(model, word, history), rel=1e-9)


def test_weights_are_those_of_brute_force() -> None:
    models = [model_of([["A", "B", "A", "B"], ["A", "B"]]), model_of([["C", "D"], ["D", "C", "D"], ["B"]])]
    text = [["A", "B", "C", "D"], ["A", "B", "A"], ["D", "C"]]

    def loss(weight: float) -> float:
        total = 0.0
        for sentence in text:
            words = ["<s>", *sentence, "</s>"]
            for place in range(1, len(words)):
                one, other = (prob(model, words[place], tuple(words[:place])) for model in models)
                total -= math.log(weight * one + (1 - weight) * other)
        return total

    brute = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-8})
    found = mixture_weights(models, text)
    assert found[0] == pytest.approx(brute.x, abs=2e-3) and sum(found) == pytest.approx(1.0, abs=1e-12)
    assert 0.1 < found[0] < 0.9


def test_the_mixture_predicts_the_text_better_than_either_model() -> None:
    models = [model_of([["A", "B", "A", "B"]] * 3), model_of([["C", "D", "C"]] * 3)]
    text = [["A", "B", "C", "D"], ["C", "D", "A", "B"]]
    mixed = mixture(models, mixture_weights(models, text))
    assert mixed.perplexity(text).value < 0.8 * min(model.perplexity(text).value for model in models)


def test_words_that_one_model_lacks_come_from_the_other(tmp_path: Path) -> None:
    models = [estimate_ngram([["A", "B"]], order=2), estimate_ngram([["A", "E"]], order=2)]
    mixed = mixture(models, [0.5, 0.5])
    assert mixed.vocabulary == ("A", "B", "E")
    assert prob(mixed, "E", ("A",)) == pytest.approx(0.5 * prob(models[1], "E", ("A",)))
    for history in (("<s>",), ("A",), ("B",), ("E",)):
        assert sum(prob(mixed, word, history) for word in ("A", "B", "E", "</s>")) == pytest.approx(1.0)
    write_arpa(mixed, tmp_path / "mixed.arpa")
    again = read_arpa(tmp_path / "mixed.arpa")
    assert prob(again, "E", ("A",)) == pytest.approx(prob(mixed, "E", ("A",)), rel=1e-6)


def test_a_text_of_unknown_words_decides_nothing() -> None:
    closed = ArpaModel(1, {("<s>",): -99.0, ("A",): 0.0}, {})
    with pytest.raises(DataError, match="no word of the text that shall decide the weights is known"):
        mixture_weights([closed, closed], [["X", "Y"]])
