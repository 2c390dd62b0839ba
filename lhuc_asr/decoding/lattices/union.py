"""A lattice and one more path: the best of a wider search, where the narrower search for the lattice has lost it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.lattices.lattice import Lattice, best_after, in_topological_order

if TYPE_CHECKING:
    from lhuc_asr.decoding.words.hypothesis import Hypothesis

_TOLERANCE = 0.01


def holds(lattice: Lattice, hypothesis: Hypothesis) -> bool:
    """Whether a path of the lattice is as good as the hypothesis; a complete one is better than any other."""
    if lattice.reached_final is not hypothesis.reached_final:
        return lattice.reached_final
    after = best_after(lattice.source, lattice.target, lattice.costs(), lattice.final_costs())
    return bool(after[0] <= hypothesis.graph_cost + hypothesis.acoustic_cost + _TOLERANCE)


def with_path(
    lattice: Lattice, hypothesis: Hypothesis, words: Sequence[int], acoustic_costs: NDArray[np.float32]
) -> Lattice:
    """The lattice with the hypothesis as a path of its own from start to end.

    Args:
        lattice: of the same utterance; where its paths are unfinished, so is what comes back.
        hypothesis: its path.
        words: ids of its words.
        acoustic_costs: (T,) of its frames.
    """
    num_frames, last = len(hypothesis.transition_ids), lattice.num_states
    states = np.arange(last, last + num_frames, dtype=np.int32)
    labels, graph_costs = np.zeros(num_frames, np.int32), np.zeros(num_frames, np.float32)
    labels[_frames_of_words(hypothesis)] = words
    graph_costs[0] = hypothesis.graph_cost
    ends = np.full(num_frames, np.inf, np.float32)
    ends[-1] = 0.0
    joined = replace(
        lattice,
        source=np.concatenate([lattice.source, np.zeros(1, np.int32), states[:-1]]),
        target=np.concatenate([lattice.target, states]),
        transition_id=np.concatenate([lattice.transition_id, hypothesis.transition_ids.astype(np.int32)]),
        word=np.concatenate([lattice.word, labels]),
        graph_cost=np.concatenate([lattice.graph_cost, graph_costs]),
        acoustic_cost=np.concatenate([lattice.acoustic_cost, acoustic_costs.astype(np.float32)]),
        final_cost=np.concatenate([lattice.final_cost, ends]),
    )
    return in_topological_order(joined)


def _frames_of_words(hypothesis: Hypothesis) -> list[int]:
    """A frame for the label of each word, no two in one: its first, or the next that is free."""
    frames: list[int] = []
    for start, _ in hypothesis.word_frames:
        frames.append(max(start, frames[-1] + 1 if frames else 0))
    num_frames = len(hypothesis.transition_ids)
    return [min(frame, num_frames - len(frames) + place) for place, frame in enumerate(frames)]
