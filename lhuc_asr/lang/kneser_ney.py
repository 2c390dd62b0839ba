"""Estimate an n-gram language model from text by interpolated modified Kneser-Ney smoothing."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.lang.arpa import END, NEVER, START, ArpaModel, Ngram

_LOG = logging.getLogger(__name__)
UNKNOWN = "<UNK>"
Counts = Mapping[Ngram, int]


@dataclass(kw_only=True, slots=True)
class LmConfig:
    """Settings of the language model that is estimated from the training text.

    Attributes:
        order: longest n-gram.
    """

    order: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 6:
            raise ConfigError(f"lm.order must be from 1 to 6, got {self.order}")


@dataclass(frozen=True, slots=True)
class Discounts:
    """What is taken from the count of an n-gram that was seen once, twice, or more often.

    Each lies above 0 and at or below the count it is taken from, so that every history keeps mass for unseen words.
    """

    once: float
    twice: float
    more: float

    def of(self, count: int) -> float:
        """The discount of one count; 0 for an n-gram that was not seen."""
        return (0.0, self.once, self.twice)[count] if count < 3 else self.more

    @staticmethod
    def estimate(counts: Iterable[int]) -> Discounts:
        """The three discounts that counts of counts suggest.

        Where the text is too small for them, one discount serves all counts (plain Kneser-Ney); where even that has
        no estimate, 1/2, 1 and 3/2.

        Source: Chen & Goodman 1998 (TR-10-98, Harvard), eq. 26; one discount: eq. 23; the last resort: as in KenLM.
        """
        histogram = Counter(counts)
        n1, n2, n3, n4 = (histogram[count] for count in (1, 2, 3, 4))
        if not (n1 and n2):
            return Discounts(0.5, 1.0, 1.5)
        share = n1 / (n1 + 2 * n2)
        if n3 and n4:
            three = Discounts(1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3)
            if min(three.once, three.twice, three.more) > 0:
                return three
        return Discounts(share, share, share)


def estimate_ngram(
    sentences: Iterable[Sequence[str]], *, order: int = 3, vocabulary: Iterable[str] | None = None
) -> ArpaModel:
    """Estimate an n-gram model; after every history the probabilities of all words and ``</s>`` add up to 1.

    Args:
        sentences: each a sequence of words, without marks of start and end.
        order: longest n-gram.
        vocabulary: words that the model shall know, whether they occur or not; a word of the text outside it counts as
            ``<UNK>``, if that is in the vocabulary. None means the words of the text.

    Returns:
        A back-off model whose weights hold the interpolation.

    Raises:
        DataError: there are no sentences, or words outside a vocabulary without ``<UNK>``.

    Source: Chen & Goodman 1998 (TR-10-98, Harvard), section 4.1.

    Example:
        >>> model = estimate_ngram([["YES"], ["YES", "NO"]], order=2, vocabulary=["YES", "NO", "MAYBE"])
        >>> words = ("YES", "NO", "MAYBE", "</s>")
        >>> round(sum(10 ** model.log10_prob(word, ("<s>",)) for word in words), 12)
        1.0
    """
    config = LmConfig(order=order)
    texts, words = _with_vocabulary(sentences, vocabulary)
    counts = _adjusted(_count(texts, config.order))
    model = _Builder(words).build(counts)
    sizes = Counter(map(len, model.log_probs))
    _LOG.info("%d-gram model: %s n-grams", order, " + ".join(str(sizes[length]) for length in sorted(sizes)))
    return model


def _with_vocabulary(
    sentences: Iterable[Sequence[str]], vocabulary: Iterable[str] | None
) -> tuple[list[list[str]], list[str]]:
    """The sentences with unknown words replaced, and the words to predict, ``</s>`` among them."""
    texts = [list(sentence) for sentence in sentences]
    if not texts:
        raise DataError("there are no sentences to estimate a language model from")
    used = {word for text in texts for word in text}
    known = used if vocabulary is None else set(vocabulary)
    if reserved := sorted((used | known) & {START, END}):
        raise DataError(f"{reserved[0]!r} is a mark of the language model and cannot be a word of the text")
    unknown = used - known
    if unknown and UNKNOWN not in known:
        examples = ", ".join(repr(word) for word in sorted(unknown)[:5])
        raise DataError(f"{len(unknown)} words of the text are not in the vocabulary, and {UNKNOWN} is not: {examples}")
    texts = [[word if word in known else UNKNOWN for word in text] for text in texts]
    return texts, sorted({*known, END})


def _count(texts: Iterable[Sequence[str]], order: int) -> list[Counter[Ngram]]:
    """How often each n-gram occurs, one table per order; the first holds single words."""
    counts: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for text in texts:
        words = (START, *text, END)
        for length, table in enumerate(counts, start=1):
            table.update(words[first : first + length] for first in range(len(words) - length + 1))
    return counts


def _adjusted(counts: Sequence[Counter[Ngram]]) -> list[Counter[Ngram]]:
    """Counts for smoothing: below the highest order, in how many different words an n-gram is preceded by.

    N-grams at the start of a sentence have nothing before them and keep their own count.
    """
    adjusted: list[Counter[Ngram]] = []
    for of_order, longer in pairwise(counts):
        table = Counter(gram[1:] for gram in longer)
        table.update({gram: count for gram, count in of_order.items() if gram[0] == START})
        adjusted.append(table)
    adjusted.append(Counter(counts[-1]))
    del adjusted[0][(START,)]
    return adjusted


class _Builder:
    """Turns adjusted counts into interpolated probabilities, shortest n-grams first.

    Args:
        words: every word that can be predicted.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.probs: dict[Ngram, float] = {}
        self.backoffs: dict[Ngram, float] = {}

    def build(self, counts: Sequence[Counts]) -> ArpaModel:
        for order, table in enumerate(counts, start=1):
            discounts = Discounts.estimate(table.values())
            totals, left = _per_history(table, discounts)
            grams = [(word,) for word in self.words] if order == 1 else list(table)
            for gram in grams:
                history = gram[:-1]
                kept = (table[gram] - discounts.of(table[gram])) / totals[history]
                self.probs[gram] = kept + left[history] * self._shorter(gram)
            if order > 1:
                self.backoffs.update(left)
        log_probs = {gram: math.log10(prob) for gram, prob in self.probs.items()}
        log_probs[(START,)] = NEVER
        backoffs = {history: math.log10(weight) for history, weight in self.backoffs.items()}
        return ArpaModel(len(counts), log_probs, backoffs)

    def _shorter(self, gram: Ngram) -> float:
        """Probability of the last word when the history is one word shorter; below single words, all are equal."""
        return self.probs[gram[1:]] if len(gram) > 1 else 1.0 / len(self.words)


def _per_history(table: Counts, discounts: Discounts) -> tuple[dict[Ngram, int], dict[Ngram, float]]:
    """For each history, the sum of its counts, and the share of it that the discounts take away."""
    totals: dict[Ngram, int] = defaultdict(int)
    taken: dict[Ngram, float] = defaultdict(float)
    for gram, count in table.items():
        totals[gram[:-1]] += count
        taken[gram[:-1]] += discounts.of(count)
    return dict(totals), {history: taken[history] / totals[history] for history in totals}
