"""Recognisers that make mistakes at random, the same ones for the same seed."""

from __future__ import annotations

import random

import pytest

WORDS = ["ALPHA", "BRAVO", "CHARLIE", "DELTA", "ECHO", "FOXTROT"]


class RandomSystems:
    """Many utterances of a few speakers, and systems that mishear them."""

    def __init__(self, seed: int, *, num_utterances: int = 120, num_speakers: int = 6) -> None:
        self.random = random.Random(seed)
        names = [f"speaker{index}" for index in range(num_speakers)]
        self.speaker_of = {f"u{index:03d}": names[index % num_speakers] for index in range(num_utterances)}
        self.references = {utterance: self.sentence(self.random.randint(1, 12)) for utterance in self.speaker_of}

    def sentence(self, length: int) -> str:
        return " ".join(self.random.choices(WORDS, k=length))

    def system(self, error_rate: float) -> dict[str, str]:
        return {utterance: self._misheard(text, error_rate) for utterance, text in self.references.items()}

    def _misheard(self, text: str, error_rate: float) -> str:
        heard = []
        for word in text.split():
            chance = self.random.random() / error_rate * 3
            heard += (
                [] if chance < 1 else [self.sentence(1)] if chance < 2 else [word, *self.sentence(chance < 3).split()]
            )
        return " ".join(heard)


@pytest.fixture
def random_systems():
    return RandomSystems
