"""Minimum Bayes risk: the words with the fewest expected errors, and how likely each of them is.

Source: Xu, Povey, Mangu & Zhu 2011, "Minimum Bayes Risk decoding and system combination based on a recursion for edit
distance", Computer Speech and Language 25(4), section 4 and appendix (algorithms 1 to 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import kaldialign
import numba
import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.lattices.nbest import Sentence, sentence_posteriors
from lhuc_asr.decoding.lattices.posteriors import ArcPosteriors

if TYPE_CHECKING:
    from lhuc_asr.decoding.lattices.lattice import Lattice

_DELTA = (
    1e-5  # a deletion costs that much more, so that of equal alignments one is chosen (Xu et al. 2011, section 4.3)
)
_MAX_ITERATIONS = 100


@dataclass(frozen=True, slots=True)
class Slot:
    """One column of the confusion network: what may have been said in one place.

    Attributes:
        word: the word of the hypothesis, 0 where it has none.
        posteriors: (word, probability), most likely first; word 0 is nothing; they sum to 1.
        frame: where the hypothesis' word is, as the frames at which the lattice puts it out, averaged; a label may
            stand some frames from the beginning of its word. Without lattice times it is -1.
    """

    word: int
    posteriors: tuple[tuple[int, float], ...]
    frame: float

    @property
    def confidence(self) -> float:
        """Probability of the hypothesis' word in this place."""
        return next((value for word, value in self.posteriors if word == self.word), 0.0)


@dataclass(frozen=True, slots=True)
class ConfusionNetwork:
    """A hypothesis, and what the lattice says in each place of it.

    Attributes:
        slots: places of words and, between them, places where a word may be missing; in order.
        risk: expected number of word errors of the hypothesis.
    """

    slots: tuple[Slot, ...]
    risk: float

    @property
    def words(self) -> tuple[int, ...]:
        """The word ids of the hypothesis."""
        return tuple(slot.word for slot in self.slots if slot.word)

    @property
    def confidences(self) -> tuple[float, ...]:
        """Probability of each word of the hypothesis."""
        return tuple(slot.confidence for slot in self.slots if slot.word)


@dataclass(frozen=True, eq=False)
class _Paths:
    """Arcs in topological order, each with its chance when its target is reached; states that end lead to the last."""

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    label: NDArray[np.int32]
    chance: NDArray[np.float64]
    frame: NDArray[np.float64]
    num_states: int
    vocabulary: NDArray[np.int32]


def confusion_network(lattice: Lattice, arcs: ArcPosteriors, words: Sequence[int]) -> ConfusionNetwork:
    """Align every path with a hypothesis that stays as it is: confidences of the 1-best.

    Args:
        lattice: of one utterance.
        arcs: its arcs' probabilities.
        words: word ids of the hypothesis; they need not be a path of the lattice.
    """
    paths = _paths_of_lattice(lattice, arcs)
    return _network(paths, _with_gaps(words))


def mbr(lattice: Lattice, arcs: ArcPosteriors, words: Sequence[int]) -> ConfusionNetwork:
    """Change a hypothesis until its expected number of word errors falls no further.

    When not to use it: where whole sentences must be right, or posteriors of the lattice are far from calibrated.

    Args:
        lattice: of one utterance.
        arcs: its arcs' probabilities.
        words: word ids to begin with, the 1-best.

    Returns:
        The hypothesis of (locally) least risk; its risk is never above that of ``words``.
    """
    return _improved(_paths_of_lattice(lattice, arcs), words)


def mbr_of_nbest(sentences: tuple[Sentence, ...]) -> ConfusionNetwork:
    """The same from an n-best list, where the expected errors are exact; begins with the first sentence."""
    return _improved(_paths_of_sentences(sentences), sentences[0].words)


def least_risk(sentences: tuple[Sentence, ...]) -> Sentence:
    """The sentence of a list with the fewest expected errors, as the list sees it; always a path of the lattice."""
    chances = sentence_posteriors(sentences)

    def risk(sentence: Sentence) -> float:
        spoken = list(sentence.words)
        errors = [int(kaldialign.edit_distance(list(other.words), spoken)["total"]) for other in sentences]
        return float(np.dot(chances, errors))

    return min(sentences, key=risk)


def _improved(paths: _Paths, words: Sequence[int]) -> ConfusionNetwork:
    current = _network(paths, _with_gaps(words))
    for _ in range(_MAX_ITERATIONS):
        likeliest = [slot.posteriors[0][0] for slot in current.slots]
        candidate = _network(paths, _with_gaps([word for word in likeliest if word]))
        if candidate.risk >= current.risk - _DELTA:
            break
        current = candidate
    return current


def _with_gaps(words: Sequence[int]) -> NDArray[np.int32]:
    """Places for missing words before, between and after the words."""
    places = np.zeros(2 * len(words) + 1, np.int32)
    places[1::2] = words
    return places


def _network(paths: _Paths, places: NDArray[np.int32]) -> ConfusionNetwork:
    """Statistics of algorithm 2 for one hypothesis with gaps."""
    vocabulary = np.unique(np.concatenate([[0], paths.vocabulary, places])).astype(np.int32)
    label, hypothesis = np.searchsorted(vocabulary, paths.label), np.searchsorted(vocabulary, places)
    gamma = np.zeros((len(places), len(vocabulary)))
    frame = np.zeros_like(gamma)
    expected = np.zeros((paths.num_states, len(places) + 1))
    arcs = np.stack([paths.source, paths.target, label])
    _expected_distance(arcs, paths.chance, hypothesis, expected)
    _accumulate(arcs, paths.chance, paths.frame, hypothesis, expected, gamma, frame)
    slots = [_slot(vocabulary, int(own), gamma[place], frame[place]) for place, own in enumerate(hypothesis)]
    return ConfusionNetwork(tuple(slots), float(expected[-1, -1]))


def _slot(vocabulary: NDArray[np.int32], own: int, gamma: NDArray[np.float64], frame: NDArray[np.float64]) -> Slot:
    order = np.argsort(-gamma, kind="stable")
    order = order[gamma[order] > 0]
    total = gamma.sum()
    posteriors = tuple((int(vocabulary[word]), float(gamma[word] / total)) for word in order)
    when = float(frame[own] / gamma[own]) if own and gamma[own] > 0 else -1.0
    return Slot(int(vocabulary[own]), posteriors, when)


def _paths_of_lattice(lattice: Lattice, arcs: ArcPosteriors) -> _Paths:
    """Ends become arcs to one last state; probability of a path backwards from it is a product of chances."""
    outgoing = np.bincount(lattice.source, weights=arcs.arc, minlength=lattice.num_states)
    incoming = np.bincount(lattice.target, weights=arcs.arc, minlength=lattice.num_states)
    incoming[0] = 1.0
    ends = np.flatnonzero(np.isfinite(lattice.final_cost))
    ending = np.maximum(incoming[ends] - outgoing[ends], 0.0)
    last = lattice.num_states
    source = np.concatenate([lattice.source, ends]).astype(np.int32)
    target = np.concatenate([lattice.target, np.full(len(ends), last)]).astype(np.int32)
    label = np.concatenate([lattice.word, np.zeros(len(ends), np.int32)])
    mass = np.concatenate([arcs.arc, ending])
    return _paths(source, target, label, mass, lattice.frame[source], last + 1)


def _paths_of_sentences(sentences: tuple[Sentence, ...]) -> _Paths:
    """One chain of arcs a sentence, from the first state to the last."""
    last = 1 + sum(len(sentence.words) for sentence in sentences)
    rows, state = [], 1
    for sentence, chance in zip(sentences, sentence_posteriors(sentences).tolist(), strict=True):
        before = 0
        for word in sentence.words:
            rows.append((before, state, word, chance))
            before, state = state, state + 1
        rows.append((before, last, 0, chance))
    rows.sort(key=lambda row: row[1])
    source, target, label, mass = (np.array(column) for column in zip(*rows, strict=True))
    return _paths(source, target, label, mass, np.full(len(rows), -1), last + 1)


def _paths(source: Any, target: Any, label: Any, mass: Any, frame: Any, num_states: int) -> _Paths:
    """Sort the arcs by their targets, and turn their mass into a chance among the arcs of the same target."""
    order = np.argsort(target, kind="stable")
    order = order[mass[order] > 0]
    source, target, label, mass, frame = source[order], target[order], label[order], mass[order], frame[order]
    chance = mass / np.bincount(target, weights=mass, minlength=num_states)[target]
    words = np.unique(label)
    return _Paths(
        source.astype(np.int32),
        target.astype(np.int32),
        label.astype(np.int32),
        chance,
        frame.astype(np.float64),
        num_states,
        words[words > 0].astype(np.int32),
    )


def _arc_distance_python(before: Any, label: int, hypothesis: Any, distance: Any, choice: Any) -> None:
    """Expected distance after one arc to every beginning of the hypothesis, and which edit gave it (1, 2 or 3)."""
    alone = 0.0 if label == 0 else 1.0
    distance[0], choice[0] = before[0] + alone, 2
    for place in range(len(hypothesis)):
        same = before[place] + (0.0 if label == hypothesis[place] else 1.0)
        extra = before[place + 1] + (0.0 if label == 0 else 1.0 + _DELTA)
        missing = distance[place] + (0.0 if hypothesis[place] == 0 else 1.0)
        if same <= extra and same <= missing:
            distance[place + 1], choice[place + 1] = same, 1
        elif extra <= missing:
            distance[place + 1], choice[place + 1] = extra, 2
        else:
            distance[place + 1], choice[place + 1] = missing, 3


_arc_distance: Any = numba.njit(cache=True)(_arc_distance_python)


def _expected_distance_python(arcs: Any, chance: Any, hypothesis: Any, expected: Any) -> None:
    """``expected`` (S, Q + 1): mean distance between paths into a state and beginnings of the hypothesis."""
    source, target, label = arcs[0], arcs[1], arcs[2]
    distance, choice = np.empty(expected.shape[1]), np.empty(expected.shape[1], np.int8)
    for place in range(len(hypothesis)):
        expected[0, place + 1] = expected[0, place] + (0.0 if hypothesis[place] == 0 else 1.0)
    for arc in range(len(source)):
        _arc_distance(expected[source[arc]], label[arc], hypothesis, distance, choice)
        for place in range(len(distance)):
            expected[target[arc], place] += chance[arc] * distance[place]


def _accumulate_python(
    arcs: Any, chance: Any, arc_frame: Any, hypothesis: Any, expected: Any, gamma: Any, frame: Any
) -> None:
    """Trace the expected alignment back from the end; ``gamma`` (Q, V) collects what stands in each place."""
    source, target, label = arcs[0], arcs[1], arcs[2]
    num_states, width = expected.shape
    share = np.zeros((num_states, width))
    share[num_states - 1, width - 1] = 1.0
    distance, choice = np.empty(width), np.empty(width, np.int8)
    here = np.empty(width)
    for arc in range(len(source) - 1, -1, -1):
        _arc_distance(expected[source[arc]], label[arc], hypothesis, distance, choice)
        for place in range(width):
            here[place] = chance[arc] * share[target[arc], place]
        for place in range(width - 1, 0, -1):
            if choice[place] == 1:
                share[source[arc], place - 1] += here[place]
                gamma[place - 1, label[arc]] += here[place]
                frame[place - 1, label[arc]] += here[place] * arc_frame[arc]
            elif choice[place] == 2:
                share[source[arc], place] += here[place]
            else:
                here[place - 1] += here[place]
                gamma[place - 1, 0] += here[place]
        share[source[arc], 0] += here[0]
    for place in range(width - 1, 0, -1):
        gamma[place - 1, 0] += share[0, place]
        share[0, place - 1] += share[0, place]


_expected_distance: Any = numba.njit(cache=True)(_expected_distance_python)
_accumulate: Any = numba.njit(cache=True)(_accumulate_python)
