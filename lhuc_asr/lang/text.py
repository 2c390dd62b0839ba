"""Written text -> the words that lexicon, language model and scoring know."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from lhuc_asr.errors import DataError

_APOSTROPHES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u00b4": "'", "`": "'"})
_MARKER = re.compile(r"<[^<>\s]+>")


def normalise(text: str) -> str:
    """Upper-case words, separated by single spaces, without punctuation.

    Apostrophes within and at the edge of a word stay (``DON'T``, ``'TIS``); a word in single quotes loses them. Markers
    such as ``<UNK>`` stay as they are. Letters of every script and digits are kept.

    Example:
        >>> normalise("Well-known: it\u2019s \u2018good\u2019, he said... <UNK>")
        "WELL KNOWN IT'S GOOD HE SAID <UNK>"
    """
    words: list[str] = []
    for token in unicodedata.normalize("NFC", text).translate(_APOSTROPHES).split():
        words.extend([token] if _MARKER.fullmatch(token) else _words_of(token))
    return " ".join(words)


def read_sentences(path: Path) -> tuple[str, ...]:
    """Read a text for a language model: one sentence a line, its words separated by white space, otherwise as it is.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or holds no words.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read text {str(path)!r}: {error}") from error
    sentences = tuple(" ".join(line.split()) for line in lines if line.strip())
    if not sentences:
        raise DataError(f"text {str(path)!r} holds no words; it needs one sentence a line")
    return sentences


def _words_of(token: str) -> list[str]:
    kept = "".join(character if _in_word(character) else " " for character in token.upper())
    words = (_unquoted(word) for word in kept.split())
    return [word for word in words if word]


def _in_word(character: str) -> bool:
    return character == "'" or character.isalnum() or unicodedata.category(character).startswith("M")


def _unquoted(word: str) -> str:
    bare = word.strip("'")
    return bare if not bare or (word[0] == "'" and word[-1] == "'") else word
