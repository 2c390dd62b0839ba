"""Words of several systems put together: aligned into places, and in each place the word that most believe in.

Systems that err in different places gain from it; one that is much worse than the others is better left out. Between
two systems every vote is a tie, and confidences decide alone: these must be calibrated on the same speech.

Source: Fiscus 1997, "A post-processing system to yield reduced word error rates: recognizer output voting error
reduction (ROVER)", ASRU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.ranges import require_share

NOTHING = ""


@dataclass(kw_only=True, slots=True)
class RoverConfig:
    """How words are weighed.

    Attributes:
        votes: share of the number of systems in a word's score, 0 to 1; the rest is their mean confidence.
        nothing: confidence of saying nothing in a place; higher values leave out more words.
    """

    votes: float = 0.3
    nothing: float = 0.5

    def __post_init__(self) -> None:
        require_share(self, "rover", "votes", "nothing")


@dataclass(frozen=True, slots=True)
class Heard:
    """One system's words.

    Attributes:
        words: in order.
        confidences: the chance of each to be right; None takes all for equally sure, as sure as can be.
    """

    words: tuple[str, ...]
    confidences: tuple[float, ...] | None = None

    def pairs(self) -> list[tuple[str, float]]:
        """Each word with its confidence."""
        return list(zip(self.words, self.confidences or (1.0,) * len(self.words), strict=True))


Place = list[tuple[str, float]]
"""What every system says there, in their order: a word, or nothing, and its confidence."""


def rover(systems: Sequence[Heard], config: RoverConfig | None = None) -> Heard:
    """The words that most believe in, each with the mean confidence of the systems that say it.

    Args:
        systems: at least one; of words that are believed in alike, the earlier system's is taken.
        config: weights.

    Example:
        >>> one, two = Heard(("SIX", "TWO"), (0.9, 0.2)), Heard(("SIX", "TEN"), (0.8, 0.7))
        >>> rover([one, two]).words
        ('SIX', 'TEN')
    """
    config = config or RoverConfig()
    places: list[Place] = [[pair] for pair in systems[0].pairs()]
    for number, system in enumerate(systems[1:], start=1):
        places = _with(places, system.pairs(), number, config.nothing)
    chosen = [_best(place, config) for place in places]
    kept = [(word, confidence) for word, confidence in chosen if word != NOTHING]
    return Heard(tuple(word for word, _ in kept), tuple(confidence for _, confidence in kept))


def _best(place: Place, config: RoverConfig) -> tuple[str, float]:
    """The word of a place, and its mean confidence."""
    found = {word: [own for other, own in place if other == word] for word, _ in place}
    means = {word: sum(own) / len(own) for word, own in found.items()}

    def score(word: str) -> float:
        return config.votes * len(found[word]) / len(place) + (1 - config.votes) * means[word]

    best = max(found, key=score)
    return best, means[best]


def _with(places: Sequence[Place], words: Sequence[tuple[str, float]], number: int, nothing: float) -> list[Place]:
    """Places with one more system, of which ``number`` are in them already."""
    joined: list[Place] = []
    for place, word in _alignment(places, words):
        before = [(NOTHING, nothing)] * number if place is None else list(place)
        joined.append([*before, (NOTHING, nothing) if word is None else word])
    return joined


def _alignment(
    places: Sequence[Place], words: Sequence[tuple[str, float]]
) -> list[tuple[Place | None, tuple[str, float] | None]]:
    """The alignment with the fewest differences; a word agrees with a place in which it stands."""
    known = [{word for word, _ in place} for place in places]
    costs = np.zeros((len(places) + 1, len(words) + 1))
    for i in range(len(places) + 1):
        for j in range(len(words) + 1):
            if i or j:
                costs[i, j] = min(_steps(costs, known, words, i, j).values())
    pairs: list[tuple[Place | None, tuple[str, float] | None]] = []
    i, j = len(places), len(words)
    while i or j:
        steps = _steps(costs, known, words, i, j)
        down, right = min(steps, key=steps.__getitem__)
        pairs.append((places[i - 1] if down else None, words[j - 1] if right else None))
        i, j = i - down, j - right
    return pairs[::-1]


def _steps(
    costs: NDArray[np.float64], known: Sequence[set[str]], words: Sequence[tuple[str, float]], i: int, j: int
) -> dict[tuple[int, int], float]:
    """(places taken, words taken) -> cost of arriving by that step; together before alone."""
    steps: dict[tuple[int, int], float] = {}
    if i and j:
        steps[1, 1] = costs[i - 1, j - 1] + (words[j - 1][0] not in known[i - 1])
    if i:
        steps[1, 0] = costs[i - 1, j] + (NOTHING not in known[i - 1])
    if j:
        steps[0, 1] = costs[i, j - 1] + 1
    return steps
