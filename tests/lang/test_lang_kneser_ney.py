"""Modified Kneser-Ney: counts and probabilities by hand, and what must hold for every text."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.lang.arpa import ArpaModel, read_arpa, write_arpa
from lhuc_asr.lang.kneser_ney import Discounts, LmConfig, _adjusted, _count, estimate_ngram

TEXT = [line.split() for line in ("A B", "A B", "A C", "B C")]
SENTENCES = st.lists(st.lists(st.sampled_from(["A", "B", "C", "D"]), max_size=6), min_size=1, max_size=12)


def mass(model: ArpaModel, history: tuple[str, ...]) -> float:
    return sum(10 ** model.log10_prob(word, history) for word in (*model.vocabulary, "</s>"))


def prob(model: ArpaModel, word: str, *history: str) -> float:
    return 10 ** model.log10_prob(word, history)


def test_counts_by_hand() -> None:
    singles, pairs = _count(TEXT, 2)
    assert singles == {("<s>",): 4, ("A",): 3, ("B",): 3, ("C",): 2, ("</s>",): 4}
    assert pairs[("A", "B")] == 2 and pairs[("<s>", "A")] == 3 and pairs[("B", "</s>")] == 2
    adjusted, highest = _adjusted([singles, pairs])
    # A follows <s>; B follows <s> and A; C follows A and B; </s> follows B and C.
    assert adjusted == {("A",): 1, ("B",): 2, ("C",): 2, ("</s>",): 2}
    assert highest == pairs


def test_lower_orders_count_what_comes_before_but_sentence_starts_keep_their_count() -> None:
    adjusted = _adjusted(_count(TEXT, 3))
    assert adjusted[1] == {
        ("<s>", "A"): 3,
        ("<s>", "B"): 1,
        ("A", "B"): 1,
        ("A", "C"): 1,
        ("B", "C"): 1,
        ("B", "</s>"): 1,
        ("C", "</s>"): 2,
    }


def test_three_discounts_by_hand() -> None:
    counts = [1] * 10 + [2] * 4 + [3] * 2 + [4] * 1 + [9] * 3
    share = 10 / (10 + 2 * 4)
    found = Discounts.estimate(counts)
    assert found.once == pytest.approx(1 - 2 * share * 4 / 10)
    assert found.twice == pytest.approx(2 - 3 * share * 2 / 4)
    assert found.more == pytest.approx(3 - 4 * share * 1 / 2)
    assert [found.of(count) for count in (0, 1, 2, 3, 99)] == [0, found.once, found.twice, found.more, found.more]


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ([1, 1, 2], Discounts(0.5, 0.5, 0.5)),
        ([1, 1, 1], Discounts(0.5, 1.0, 1.5)),
        ([2, 3, 4], Discounts(0.5, 1.0, 1.5)),
        ([], Discounts(0.5, 1.0, 1.5)),
        # the formula for three would take 2 - 3 * (1 / 3) * 9 < 0 from a count of two
        ([1] + [2] + [3] * 9 + [4], Discounts(1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_discounts_where_the_text_is_too_small(counts: list[int], wanted: Discounts) -> None:
    assert Discounts.estimate(counts) == wanted


@given(st.lists(st.integers(1, 9), max_size=60))
def test_discounts_lie_between_nothing_and_the_count(counts: list[int]) -> None:
    found = Discounts.estimate(counts)
    assert 0 < found.once <= 1 and 0 < found.twice <= 2 and 0 < found.more <= 3


def test_bigram_probabilities_by_hand() -> None:
    model = estimate_ngram(TEXT, order=2)
    # unigrams: counts A 1, B 2, C 2, </s> 2; n1 = 1, n2 = 3, so one discount of 1 / 7 serves all
    discount = 1 / 7
    left = 4 * discount / 7
    unigram = {word: (count - discount) / 7 + left / 4 for word, count in (("A", 1), ("B", 2), ("C", 2), ("</s>", 2))}
    for word, wanted in unigram.items():
        assert prob(model, word) == pytest.approx(wanted)
    # bigrams: counts 1 (<s> B, A C, B C), 2 (A B, B </s>, C </s>), 3 (<s> A): n1 = 3, n2 = 3, n3 = 1, n4 = 0
    discount = 3 / 9
    assert prob(model, "B", "A") == pytest.approx((2 - discount) / 3 + 2 * discount / 3 * unigram["B"])
    assert prob(model, "C", "A") == pytest.approx((1 - discount) / 3 + 2 * discount / 3 * unigram["C"])
    assert prob(model, "A", "A") == pytest.approx(2 * discount / 3 * unigram["A"])
    assert prob(model, "A", "<s>") == pytest.approx((3 - discount) / 4 + 2 * discount / 4 * unigram["A"])


def test_unigrams_count_words() -> None:
    model = estimate_ngram([["A", "A", "B"]], order=1)
    assert model.order == 1 and prob(model, "A") > prob(model, "B") == prob(model, "</s>")
    assert mass(model, ()) == pytest.approx(1) == mass(model, ("A",))


@settings(max_examples=80, deadline=None)
@given(sentences=SENTENCES, order=st.integers(1, 4), extra=st.booleans(), history=st.data())
def test_probabilities_add_up_to_one_after_every_history(
    sentences: list[list[str]], order: int, extra: bool, history: st.DataObject
) -> None:
    vocabulary = ["A", "B", "C", "D", "<UNK>", "NEVER"] if extra else None
    model = estimate_ngram(sentences, order=order, vocabulary=vocabulary)
    words = [*model.vocabulary, "ELSEWHERE"]
    drawn = [tuple(history.draw(st.lists(st.sampled_from(words), max_size=4))) for _ in range(4)]
    for context in [(), ("<s>",), *model.backoffs, *drawn, *(("<s>", *context) for context in drawn)]:
        assert mass(model, context) == pytest.approx(1, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(sentences=SENTENCES, order=st.integers(2, 4))
def test_backoff_is_consistent(sentences: list[list[str]], order: int) -> None:
    """What longer n-grams leave over is exactly what the shorter history gives to the words they do not list."""
    model = estimate_ngram(sentences, order=order, vocabulary=["A", "B", "C", "D", "E"])
    followers: dict[tuple[str, ...], list[str]] = {}
    for gram in model.log_probs:
        if len(gram) > 1:
            followers.setdefault(gram[:-1], []).append(gram[-1])
    assert followers.keys() == model.backoffs.keys()
    for context, words in followers.items():
        left = 1 - sum(prob(model, word, *context) for word in words)
        shorter = 1 - sum(prob(model, word, *context[1:]) for word in words)
        assert left == pytest.approx(10 ** model.backoffs[context] * shorter, abs=1e-9)
        assert context[:-1] == () or context in model.log_probs


def test_every_word_of_the_vocabulary_can_be_said() -> None:
    model = estimate_ngram(TEXT, vocabulary=["A", "B", "C", "NEVER", "<UNK>"])
    assert model.vocabulary == ("<UNK>", "A", "B", "C", "NEVER")
    for word in model.vocabulary:
        assert -5 < model.log10_prob(word, ("A", "B")) < 0
    assert model.log10_prob("NEVER") < model.log10_prob("A")


def test_words_outside_the_vocabulary_count_as_unknown() -> None:
    model = estimate_ngram([["A", "X"], ["A", "Y"], ["A", "A"]], order=2, vocabulary=["A", "<UNK>"])
    assert prob(model, "<UNK>", "A") > prob(model, "<UNK>", "<s>")
    with pytest.raises(DataError, match="1 words of the text are not in the vocabulary, and <UNK> is not: 'C'"):
        estimate_ngram(TEXT, vocabulary=["A", "B"])


def test_a_longer_memory_predicts_its_text_better() -> None:
    text = [
        line.split() for line in ("WE LIKE THE DOG", "WE LIKE THE CAT", "THE DOG SEES THE CAT", "WE SEE THE DOG") * 3
    ]
    values = [estimate_ngram(text, order=order).perplexity(text).value for order in (1, 2, 3)]
    assert values[0] > values[1] > values[2]
    counts = Counter(word for line in text for word in (*line, "</s>"))
    total = counts.total()
    entropy = -sum(count / total * math.log(count / total) for count in counts.values())
    assert values[0] == pytest.approx(math.exp(entropy), rel=0.05)


@settings(max_examples=20, deadline=None)
@given(sentences=SENTENCES, order=st.integers(1, 3))
def test_an_estimated_model_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[list[str]], order: int
) -> None:
    path: Path = tmp_path_factory.mktemp("lm") / "lm.arpa.gz"
    model = estimate_ngram(sentences, order=order)
    write_arpa(model, path)
    found = read_arpa(path)
    assert found.order == order and found.log_probs.keys() == model.log_probs.keys()
    for gram, wanted in model.log_probs.items():
        assert found.log_probs[gram] == pytest.approx(wanted, abs=1e-7)
    assert found.perplexity(sentences).value == pytest.approx(model.perplexity(sentences).value, rel=1e-5)


def test_impossible_texts_and_settings_are_refused() -> None:
    with pytest.raises(DataError, match="no sentences"):
        estimate_ngram([])
    with pytest.raises(DataError, match="'<s>' is a mark"):
        estimate_ngram([["<s>", "A"]])
    for order in (0, 7):
        with pytest.raises(ConfigError, match=r"lm\.order"):
            LmConfig(order=order)


def test_sentences_without_words_are_sentences() -> None:
    model = estimate_ngram([[], ["A"]], order=2)
    assert prob(model, "</s>", "<s>") > 0.2 and mass(model, ("<s>",)) == pytest.approx(1)
