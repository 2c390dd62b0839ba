"""One random stream for every utterance and purpose, so that neither order nor number of jobs changes what is drawn."""

from __future__ import annotations

import hashlib

import numpy as np


def number_of(name: str) -> int:
    """A number (64 bits) that stands for a name; the same in every process and on every machine.

    Example:
        >>> number_of("anna-1")
        7297596181268839971
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def random_stream(seed: int, utterance: str, purpose: str) -> np.random.Generator:
    """A random stream that depends on its arguments and on nothing else.

    Args:
        seed: of the whole corpus, from 0.
        utterance: id of the utterance that is changed.
        purpose: what is drawn; what one purpose draws does not change what another does.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, number_of(utterance), number_of(purpose)]))
