"""Words that were chosen in a lattice (rescored, of least risk) as a hypothesis with times and a state path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lhuc_asr.decoding.lattices.paths import best_path
from lhuc_asr.decoding.words.hypothesis import Hypothesis
from lhuc_asr.decoding.words.word_times import phone_segments, time_words
from lhuc_asr.units import Milliseconds

if TYPE_CHECKING:
    from lhuc_asr.decoding.lattices.lattice import Lattice
    from lhuc_asr.hmm.states.model import HmmModel
    from lhuc_asr.lang.lexicon import Lexicon


def hypothesis_of(
    lattice: Lattice,
    hmm: HmmModel,
    lexicon: Lexicon,
    *,
    words: Sequence[int] | None = None,
    frame_shift_ms: Milliseconds = 10.0,
) -> Hypothesis | None:
    """The best path that says the words, at the scales of the search.

    Args:
        lattice: of one utterance; as it is or rescored.
        hmm: cuts the path into phones.
        lexicon: what the word ids stand for.
        words: their ids; without it those of the best path.
        frame_shift_ms: from one frame to the next.

    Returns:
        The hypothesis, or None when no path says these words: a hypothesis of least risk can join words of different
        paths (`lhuc_asr.decoding.lattices.mbr.least_risk` always gives a path).

    Raises:
        DecodingError: the lattice was made with another lexicon.
    """
    path = best_path(lattice, words=words)
    if path is None:
        return None
    texts = [lexicon.words[word - 1] for word in path.words]
    segments = phone_segments(path.transition_ids, hmm)
    timed = time_words(texts, segments, lexicon, complete=lattice.reached_final, frame_shift_ms=frame_shift_ms)
    return Hypothesis(
        utterance=lattice.utterance,
        words=timed,
        transition_ids=path.transition_ids,
        graph_cost=path.graph_cost,
        acoustic_cost=path.acoustic_cost,
        reached_final=lattice.reached_final,
        frame_shift_ms=frame_shift_ms,
    )
