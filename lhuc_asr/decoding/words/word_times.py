"""When each word was said: the phones of the state path, divided among the words by their pronunciations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.words.hypothesis import Word
from lhuc_asr.errors import DecodingError
from lhuc_asr.units import Milliseconds, frames_to_seconds

if TYPE_CHECKING:
    from lhuc_asr.hmm.states.model import HmmModel
    from lhuc_asr.lang.lexicon import Lexicon


@dataclass(frozen=True, slots=True)
class PhoneSegment:
    """One phone of the path: frames ``start`` up to but not including ``end``."""

    phone: str
    start: int
    end: int


def phone_segments(transition_ids: NDArray[np.int32], hmm: HmmModel) -> list[PhoneSegment]:
    """Cut a state path into phones, also where a phone follows itself.

    Args:
        transition_ids: (T,) one per frame.
        hmm: tells the phone of each id and which ids enter a phone.

    Returns:
        The phones in order; together they cover all T frames.
    """
    if len(transition_ids) == 0:
        return []
    starts = np.flatnonzero(hmm.phone_starts(transition_ids))
    phones = hmm.phones_of(transition_ids)[starts]
    ends = np.append(starts[1:], len(transition_ids))
    return [
        PhoneSegment(hmm.phones[phone - 1], start, end)
        for phone, start, end in zip(phones.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]


def time_words(
    words: Sequence[str],
    segments: Sequence[PhoneSegment],
    lexicon: Lexicon,
    *,
    complete: bool = True,
    frame_shift_ms: Milliseconds = 10.0,
) -> tuple[Word, ...]:
    """Give every word its phones.

    The phones are read as the words' pronunciations in order, with silence allowed between words. Dynamic programming
    finds a division wherever there is one; of several, silence goes between the words where it can.

    Args:
        words: in order.
        segments: the phones of the whole utterance.
        lexicon: pronunciations, and the silence phone.
        complete: False when the path was cut off, so that the last words may have lost phones.
        frame_shift_ms: from one frame of the path to the next.

    Raises:
        DecodingError: the phones are not those of the words, so the graph was built from another lexicon.
    """
    spans = _divide([segment.phone for segment in segments], words, lexicon, complete)
    timed = []
    for word, (first, last) in zip(words, spans, strict=True):
        start = segments[first].start if first < len(segments) else segments[-1].end if segments else 0
        end = segments[last - 1].end if last > first else start
        start_time, duration = (frames_to_seconds(frames, frame_shift_ms) for frames in (start, end - start))
        timed.append(Word(word, start_time, duration))
    return tuple(timed)


def _divide(phones: Sequence[str], words: Sequence[str], lexicon: Lexicon, complete: bool) -> list[tuple[int, int]]:
    """First and one past the last phone of each word."""
    reached = _reachable(phones, words, lexicon, complete)
    position = next((end for end in range(len(phones), -1, -1) if (len(words), end) in reached), -1)
    if position < 0 or (complete and position < len(phones)):
        raise DecodingError(
            f"the words {' '.join(words)!r} cannot be pronounced as {' '.join(phones)!r}; "
            "the decoding graph was built from another lexicon: build it again"
        )
    spans = []
    index = len(words)
    while (index, position) != (0, 0):
        before_index, before = reached[index, position]
        if before_index < index:
            spans.append((before, position))
        index, position = before_index, before
    return spans[::-1]


def _reachable(
    phones: Sequence[str], words: Sequence[str], lexicon: Lexicon, complete: bool
) -> dict[tuple[int, int], tuple[int, int]]:
    """(words read, phones read) -> the pair before it, for every pair that can be reached from (0, 0)."""
    reached = {(0, 0): (0, 0)}
    positions = [0]
    for index in range(len(words) + 1):
        for position in positions:  # grows while it is read: silence after silence
            after = (index, position + 1)
            if position < len(phones) and phones[position] == lexicon.silence and after not in reached:
                reached[after] = (index, position)
                positions.append(position + 1)
        if index == len(words):
            break
        following = []
        for position in sorted(positions, reverse=True):
            for end in _word_ends(words[index], phones, position, lexicon, complete):
                if (index + 1, end) not in reached:
                    reached[index + 1, end] = (index, position)
                    following.append(end)
        positions = following
    return reached


def _word_ends(word: str, phones: Sequence[str], position: int, lexicon: Lexicon, complete: bool) -> list[int]:
    """Where a word that begins at this phone can end."""
    ends = []
    for pronunciation in lexicon.pronunciations_of(word):
        heard = tuple(phones[position : position + len(pronunciation)])
        cut_off = not complete and position + len(heard) == len(phones)
        if heard == tuple(pronunciation) or (cut_off and heard == tuple(pronunciation[: len(heard)])):
            ends.append(position + len(heard))
    return ends
