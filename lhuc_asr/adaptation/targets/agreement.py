"""Where two systems recognise the same: words by edit distance, and the frames in which they are said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import kaldialign
import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.words.hypothesis import Hypothesis

_NOTHING = "<nothing>"


def agreed_words(words: Sequence[str], others: Sequence[str]) -> list[bool]:
    """For each word, whether the other system has it in the same place of an alignment with the fewest edits.

    Example:
        >>> agreed_words(["ONE", "TWO", "SIX"], ["ONE", "SIX"])
        [True, False, True]
    """
    pairs = kaldialign.align(list(words), list(others), _NOTHING)
    return [word == other for word, other in pairs if word != _NOTHING]


def share_changed(before: Mapping[str, Hypothesis], after: Mapping[str, Hypothesis]) -> float:
    """Word edits between two passes, per word of the earlier one; an utterance that lacks a path has no words.

    Args:
        before: utterance id -> earlier words.
        after: the same later.
    """
    names = {**before, **after}
    old, new = ({name: _texts(own[name]) if name in own else [] for name in names} for own in (before, after))
    num_edits = sum(int(kaldialign.edit_distance(old[name], new[name])["total"]) for name in names)
    return num_edits / max(1, sum(map(len, old.values())))


def agreed_frames(hypothesis: Hypothesis, other: Hypothesis) -> NDArray[np.float32]:
    """(T',) 1 in words of the hypothesis that the other has as well, and where both are silent; 0 elsewhere.

    Words are compared by their order and not by their times, for two paths put a boundary in different frames.

    Args:
        hypothesis: on T' frames.
        other: of the same utterance, on the same frames.
    """
    words, others = _texts(hypothesis), _texts(other)
    agreed = _silent(hypothesis) & _silent(other)
    for (start, end), right in zip(hypothesis.word_frames, agreed_words(words, others), strict=True):
        agreed[start:end] = right
    return agreed.astype(np.float32)


def _texts(hypothesis: Hypothesis) -> list[str]:
    return [word.text for word in hypothesis.words]


def _silent(hypothesis: Hypothesis) -> NDArray[np.bool_]:
    """(T',) True outside of words."""
    silent = np.ones(len(hypothesis.transition_ids), np.bool_)
    for start, end in hypothesis.word_frames:
        silent[start:end] = False
    return silent
