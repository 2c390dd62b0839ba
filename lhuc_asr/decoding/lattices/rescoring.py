"""A bigger language model for a lattice: the costs of the one it was made with go out, those of the other come in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.lattices.lattice import Lattice, in_topological_order
from lhuc_asr.errors import DataError
from lhuc_asr.lang.arpa import END, START, ArpaModel, Ngram

_LN10 = math.log(10.0)


@dataclass(frozen=True)
class LanguageModelChange:
    """What each word costs more (or less) in a new language model than in the old one.

    Attributes:
        old: the model in the decoding graph.
        new: the model to use instead, of any order.
        words: of the lexicon; the id of a word is its index + 1.
        weight: 1 replaces the old model; 0.5 leaves half of it (log-linear interpolation).

    Example:
        >>> unigram = ArpaModel(1, {("</s>",): -0.5, ("<s>",): -99.0, ("YES",): -0.5}, {})
        >>> surer = ArpaModel(1, {("</s>",): -0.5, ("<s>",): -99.0, ("YES",): -0.25}, {})
        >>> change = LanguageModelChange(unigram, surer, ("YES",))
        >>> round(change.cost("YES", change.start), 4)
        -0.5756
    """

    old: ArpaModel
    new: ArpaModel
    words: Sequence[str]
    weight: float = 1.0

    @property
    def start(self) -> Ngram:
        """The history at the beginning of a sentence."""
        return self.shortened((START,))

    def cost(self, word: str, history: Ngram) -> float:
        """Cost to add for a word (or ``</s>``) after a history; -inf or nan where a model does not know the word."""
        return self.weight * _LN10 * (self.old.log10_prob(word, history) - self.new.log10_prob(word, history))

    def shortened(self, history: Ngram) -> Ngram:
        """The part of a history that either model looks at."""
        longest = max(self.old.order, self.new.order) - 1
        history = history[max(0, len(history) - longest) :]
        while history and not any(
            tuple(_as_known(model, word) for word in history) in self._histories for model in (self.old, self.new)
        ):
            history = history[1:]
        return history

    def check_vocabulary(self) -> None:
        """Make sure that the new model knows every word that a lattice can hold.

        Raises:
            DataError: it lacks a word of the old one, and has no unknown word.
        """
        reachable = [self.old.unknown_word is not None or self.old.knows(word) for word in self.words]
        self.check((np.flatnonzero(reachable) + 1).astype(np.int32))

    def check(self, word_ids: NDArray[np.int32]) -> None:
        """Make sure that both models know the words.

        Raises:
            DataError: one of them lacks a word and has no unknown word.
        """
        for name, model in (("old", self.old), ("new", self.new)):
            missing = [
                self.words[word - 1]
                for word in np.unique(word_ids[word_ids > 0]).tolist()
                if not model.knows(self.words[word - 1]) and model.unknown_word is None
            ]
            if missing:
                raise DataError(
                    f"the {name} language model lacks {len(missing)} words of the lexicon, e.g. {missing[0]!r}, "
                    "and has no unknown word; estimate it with the lexicon's words"
                )

    @cached_property
    def _histories(self) -> frozenset[Ngram]:
        """What a word can follow in either model."""
        both = (self.old, self.new)
        grams = {gram[:-1] for model in both for gram in model.log_probs}
        return frozenset(grams | {history for model in both for history in model.backoffs})


def _as_known(model: ArpaModel, word: str) -> str:
    """The word, or the one that stands for it in the model."""
    return word if model.unknown_word is None or model.knows(word) else model.unknown_word


def rescored(lattice: Lattice, change: LanguageModelChange) -> Lattice:
    """The lattice with the costs of another language model.

    States split where paths with different histories meet. The costs of back-off are exact, as in the ARPA model. An
    unfinished lattice gets no cost for the end of the sentence.

    Args:
        lattice: of one utterance.
        change: the two models.

    Raises:
        DataError: a model lacks a word of the lattice.
    """
    change.check(lattice.word)
    copies = _Copies(lattice, change)
    arcs = np.array(copies.arcs, np.int64).reshape(-1, 3)
    origin = arcs[:, 0]
    split = replace(
        lattice,
        source=arcs[:, 1].astype(np.int32),
        target=arcs[:, 2].astype(np.int32),
        transition_id=lattice.transition_id[origin],
        word=lattice.word[origin],
        graph_cost=lattice.graph_cost[origin] + np.array(copies.added, np.float32),
        acoustic_cost=lattice.acoustic_cost[origin],
        final_cost=np.array(copies.final_cost, np.float32),
    )
    return in_topological_order(split)


class _Copies:
    """One copy of a state for every history with which it can be reached."""

    def __init__(self, lattice: Lattice, change: LanguageModelChange) -> None:
        self.arcs: list[tuple[int, int, int]] = []
        self.added: list[float] = []
        self.final_cost: list[float] = []
        self._change, self._lattice = change, lattice
        self._known: dict[tuple[Ngram, int], tuple[Ngram, float]] = {}
        self._copies: list[dict[Ngram, int]] = [{} for _ in range(lattice.num_states)]
        self._final = lattice.final_cost.tolist()
        self._copy_of(0, change.start)
        rows = zip(lattice.source.tolist(), lattice.target.tolist(), lattice.word.tolist(), strict=True)
        for arc, (source, target, word) in enumerate(rows):
            for history, copy in self._copies[source].items():
                following, cost = self._after(history, word) if word else (history, 0.0)
                self.arcs.append((arc, copy, self._copy_of(target, following)))
                self.added.append(cost)

    def _copy_of(self, state: int, history: Ngram) -> int:
        copies = self._copies[state]
        if history not in copies:
            copies[history] = len(self.final_cost)
            end = self._change.cost(END, history) if self._lattice.reached_final else 0.0
            self.final_cost.append(self._final[state] + end if math.isfinite(self._final[state]) else math.inf)
        return copies[history]

    def _after(self, history: Ngram, word: int) -> tuple[Ngram, float]:
        """The history after a word, and what the word costs more."""
        key = (history, word)
        if key not in self._known:
            text = self._change.words[word - 1]
            self._known[key] = self._change.shortened((*history, text)), self._change.cost(text, history)
        return self._known[key]
