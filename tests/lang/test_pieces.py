"""Word pieces: against byte pair encoding written out; every word comes back; what is refused."""

from __future__ import annotations

import itertools
import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.errors import DataError
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.lang.pieces import WORD_START, WordPieces

TEXT = ["LOW LOW LOW LOW LOW", "LOWER LOWER", "NEWEST NEWEST NEWEST NEWEST NEWEST NEWEST", "WIDEST WIDEST WIDEST"]
WORDS = st.lists(st.text("ABCD", min_size=1, max_size=6), min_size=1, max_size=12)


def merged(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Every neighbourhood of a pair joined, from the left."""
    found: list[str] = []
    for piece in pieces:
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return tuple(found)


def pair_counts(spelling: dict[tuple[str, ...], int]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for pieces, number in spelling.items():
        for pair in itertools.pairwise(pieces):
            counts[pair] += number
    return counts


def test_the_first_joins_are_those_of_the_paper() -> None:
    """Joins while one pair is the most frequent; on ties the algorithm leaves the choice open."""
    words = Counter(word for sentence in TEXT for word in sentence.split())
    spelling = {(WORD_START, *word): number for word, number in words.items()}
    characters = {piece for pieces in spelling for piece in pieces}
    joined: set[str] = set()
    for number in range(1, 10):
        (pair, count), *others = pair_counts(spelling).most_common(2)
        if others and others[0][1] == count:
            # of equally frequent pairs any may be next: take what the package took
            (new,) = set(WordPieces.learn(TEXT, len(characters) + number).symbols) - characters - joined
            pair = next(p for p, c in pair_counts(spelling).items() if c == count and "".join(p) == new)
        spelling = {merged(pieces, pair): number for pieces, number in spelling.items()}
        joined.add("".join(pair))
        pieces = WordPieces.learn(TEXT, len(characters) + number)
        assert set(pieces.symbols) == characters | joined
        assert {pieces.spell(word) for word in words} == set(spelling)


@given(WORDS, st.integers(5, 30))
def test_the_pieces_of_a_word_are_the_word(words: list[str], num_pieces: int) -> None:
    pieces = WordPieces.learn([" ".join(words)], num_pieces)
    assert len(pieces.symbols) <= num_pieces
    for word in words:
        spelt = pieces.spell(word)
        assert "".join(spelt) == WORD_START + word
        assert set(spelt) <= set(pieces.symbols)
        assert not any(WORD_START in piece for piece in spelt[1:])


def test_words_of_other_characters_leave_the_lexicon_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    pieces = WordPieces.learn(TEXT, 20)
    words = Lexicon({"LOW": (("L", "OW"), ("L", "AW")), "ZOO": (("Z", "UW"),)})
    with caplog.at_level(logging.WARNING):
        lexicon = pieces.lexicon(words)
    assert lexicon.pronunciations == {"LOW": (pieces.spell("LOW"),)}
    assert "1 words cannot be spelt with pieces, e.g. 'ZOO'" in caplog.text


def test_what_cannot_be_spelt_is_refused() -> None:
    pieces = WordPieces.learn(TEXT, 20)
    with pytest.raises(DataError, match=r"'ZOO' needs characters that no piece has: 'Z'"):
        pieces.spell("ZOO")
    with pytest.raises(DataError, match="none of 1 words can be spelt"):
        pieces.lexicon(Lexicon({"ZOO": (("Z", "UW"),)}))
    with pytest.raises(DataError, match=r"5 word pieces were asked for; .* are 11 already"):
        WordPieces.learn(TEXT, 5)
    with pytest.raises(DataError, match="no words"):
        WordPieces.learn(["", " "], 5)
