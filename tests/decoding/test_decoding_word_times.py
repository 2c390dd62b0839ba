"""Phones are divided among words exactly, whatever the pronunciations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.decoding.words.word_times import PhoneSegment, phone_segments, time_words
from lhuc_asr.errors import DecodingError
from lhuc_asr.lang.lexicon import Lexicon

LEXICON = Lexicon({"A": (("A",), ("A", "B")), "BA": (("B", "A"), ("A",)), "B": (("B",),), "AAA": (("A", "A", "A"),)})


def segments_of(phones):
    return [PhoneSegment(phone, 10 * index, 10 * index + 10) for index, phone in enumerate(phones)]


@given(
    st.lists(st.tuples(st.sampled_from(sorted(LEXICON.pronunciations)), st.integers(0, 1), st.booleans()), max_size=8)
)
def test_every_division_covers_all_that_is_not_silence(choices):
    phones, words = [], []
    for word, variant, pause in choices:
        variants = LEXICON.pronunciations_of(word)
        phones += ["SIL"] * pause + list(variants[variant % len(variants)])
        words.append(word)
    segments = segments_of(phones)
    timed = time_words(words, segments, LEXICON)
    assert [word.text for word in timed] == words
    covered = []
    for word in timed:
        first, last = round(word.start * 10), round((word.start + word.duration) * 10)
        heard = tuple(phones[first:last])
        assert heard in LEXICON.pronunciations_of(word.text)
        covered += range(first, last)
    assert covered == [index for index, phone in enumerate(phones) if phone != "SIL"]


def test_greedy_division_would_fail_where_ours_does_not():
    timed = time_words(["A", "BA"], segments_of(["A", "B", "A"]), LEXICON)
    assert [(round(word.start, 2), round(word.duration, 2)) for word in timed] in (
        [(0.0, 0.1), (0.1, 0.2)],
        [(0.0, 0.2), (0.2, 0.1)],
    )
    with pytest.raises(DecodingError, match=r"'A B'.*'B A'"):
        time_words(["A", "B"], segments_of(["B", "A"]), LEXICON)


def test_nothing_said():
    assert time_words([], segments_of(["SIL"]), LEXICON) == ()
    assert time_words([], [], LEXICON) == ()


def test_a_phone_that_follows_itself_is_two_phones(toy):
    path = toy.path_of(("A", 5), ("A", 3), ("SIL", 4))
    segments = phone_segments(path, toy.HMM)
    assert segments == [PhoneSegment("A", 0, 5), PhoneSegment("A", 5, 8), PhoneSegment("SIL", 8, 12)]
    assert phone_segments(np.zeros(0, np.int32), toy.HMM) == []
