"""Several n-gram models as one: linear interpolation, with the weights that suit some other text best.

Source: Jelinek & Mercer 1980; the mixture as one back-off model, as SRILM's ``ngram -mix-lm`` writes it.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lhuc_asr.errors import DataError
from lhuc_asr.lang.arpa import END, NEVER, START, ArpaModel, Ngram

_LOG = logging.getLogger(__name__)
_ENOUGH_GAIN = 1e-7
"""Nats a word that a step must win for another step."""
_MOST_STEPS = 1000
_NOTHING_LEFT = 1e-12
"""Share of the probability below which no word is left that does not follow a history."""


def mixture_weights(models: Sequence[ArpaModel], sentences: Iterable[Sequence[str]]) -> list[float]:
    """The weights under which the mixture predicts a text best, by expectation maximisation.

    Args:
        models: at least one.
        sentences: each a sequence of words that none of the models learnt from; words that no model knows do not count.

    Returns:
        A weight for each model; they add up to 1.

    Raises:
        DataError: no word of the text is known to any model.

    Example:
        >>> yes, no = ({("<s>",): -99.0, ("</s>",): -0.3, (word,): -0.3} for word in ("YES", "NO"))
        >>> models = [ArpaModel(1, yes, {}), ArpaModel(1, no, {})]
        >>> [round(weight, 2) for weight in mixture_weights(models, [["YES", "YES", "NO", "YES"]])]
        [0.75, 0.25]
    """
    probs_NM = np.array([[10.0 ** m.log10_prob(*place) for m in models] for place in _places(sentences)])
    probs_NM = probs_NM.reshape(-1, len(models))
    probs_NM = probs_NM[probs_NM.sum(axis=1) > 0]
    if not len(probs_NM):
        raise DataError("no word of the text that shall decide the weights is known to any of the language models")
    weights_M = np.full(len(models), 1.0 / len(models))
    before = -math.inf
    for _ in range(_MOST_STEPS):
        shares_NM = probs_NM * weights_M
        total_N = shares_NM.sum(axis=1)
        now = float(np.log(total_N).mean())
        if now - before < _ENOUGH_GAIN:
            break
        weights_M, before = (shares_NM / total_N[:, None]).mean(axis=0), now
    found: list[float] = weights_M.tolist()
    _LOG.info("weights of the language models: %s", ", ".join(f"{weight:.3f}" for weight in found))
    return found


def mixture(models: Sequence[ArpaModel], weights: Sequence[float]) -> ArpaModel:
    """One back-off model of several.

    Every n-gram that one of them lists has the weighted mean of their probabilities; after every history the
    probabilities of all words add up to 1, as they do in the models.

    Args:
        models: at least one; words that a model does not know have probability 0 in it.
        weights: of each model, adding up to 1.
    """
    order = max(model.order for model in models)
    log_probs: dict[Ngram, float] = {(START,): NEVER}
    backoffs: dict[Ngram, float] = {}
    mixed = ArpaModel(order, log_probs, backoffs)
    for length in range(1, order + 1):
        listed = sorted({gram for model in models for gram in model.log_probs if len(gram) == length} - {(START,)})
        followers: dict[Ngram, list[str]] = defaultdict(list)
        for gram in listed:
            log_probs[gram] = _log10(_mean_prob(models, weights, gram))
            followers[gram[:-1]].append(gram[-1])
        if length > 1:
            backoffs.update({history: _backoff(mixed, history, words) for history, words in followers.items()})
    return mixed


def _mean_prob(models: Sequence[ArpaModel], weights: Sequence[float], gram: Ngram) -> float:
    pairs = zip(models, weights, strict=True)
    return sum(weight * math.pow(10.0, model.log10_prob(gram[-1], gram[:-1])) for model, weight in pairs)


def _backoff(mixed: ArpaModel, history: Ngram, followers: Sequence[str]) -> float:
    """What the shorter history's probabilities of all other words are multiplied with, log10."""
    left = 1.0 - sum(10.0 ** mixed.log_probs[(*history, word)] for word in followers)
    left_shorter = 1.0 - sum(10.0 ** mixed.log10_prob(word, history[1:]) for word in followers)
    if left < _NOTHING_LEFT or left_shorter < _NOTHING_LEFT:
        return NEVER
    return math.log10(left / left_shorter)


def _log10(prob: float) -> float:
    return math.log10(prob) if prob > 0 else NEVER


def _places(sentences: Iterable[Sequence[str]]) -> Iterator[tuple[str, list[str]]]:
    """Every word and sentence end, with the words before."""
    for sentence in sentences:
        words = [START, *sentence, END]
        for position in range(1, len(words)):
            yield words[position], words[:position]
