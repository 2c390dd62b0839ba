"""The shape of every phone's hidden Markov model: three states in a row, each with a loop on itself, none skipped.

Silence has the same shape as speech. A phone therefore lasts at least three frames.
"""

from __future__ import annotations

EDGE = 0
"""Phone id of the context beyond the ends of an utterance; real phones count from 1."""

SILENCE = 1
"""Phone id of silence, the first phone of every lexicon."""

NUM_STATES = 3
"""States of a phone."""

LOOP_PROBABILITY = 0.75
"""Chance to stay in a state before anything is known."""
