"""The shape of every phone's hidden Markov model: states in a row, each with a loop on itself."""

from __future__ import annotations

from dataclasses import dataclass

from lhuc_asr.errors import ConfigError

EDGE = 0
"""Phone id of the context beyond the ends of an utterance; real phones count from 1."""

SILENCE = 1
"""Phone id of silence, the first phone of every lexicon."""


@dataclass(frozen=True, slots=True)
class Topology:
    """States in a row, left to right, none skipped; silence has the same shape as speech.

    Attributes:
        num_states: states per phone; a phone lasts at least as many frames.
        initial_loop_probability: chance to stay in a state before anything is known.
    """

    num_states: int = 3
    initial_loop_probability: float = 0.75

    def __post_init__(self) -> None:
        if not 1 <= self.num_states <= 9:
            raise ConfigError(f"a phone has 1 to 9 states, got {self.num_states}")
        if not 0 < self.initial_loop_probability < 1:
            raise ConfigError(f"a loop probability lies between 0 and 1, got {self.initial_loop_probability}")

    def min_frames(self, num_phones: int) -> int:
        """Frames that this many phones in a row need at least."""
        return self.num_states * num_phones
