"""Word pieces: strings of characters that are frequent in a text, as labels between phones and words."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lhuc_asr.errors import DataError
from lhuc_asr.lang.lexicon import Lexicon

_LOG = logging.getLogger(__name__)
_SHOWN = 5

WORD_START = "▁"
"""Begins the first piece of every word."""


@dataclass(frozen=True)
class WordPieces:
    """What byte pair encoding found in a text.

    Attributes:
        symbols: all pieces, in order; every character of the text is one.
        tokenizer: of the package tokenizers.

    Example:
        >>> pieces = WordPieces.learn(["THE CAT SAT ON THE MAT", "A CAT"], 15)
        >>> pieces.spell("CAT"), pieces.spell("SAT")
        (('▁CAT',), ('▁', 'S', 'AT'))
    """

    symbols: tuple[str, ...]
    tokenizer: Any

    @staticmethod
    def learn(text: Iterable[str], num_pieces: int) -> WordPieces:
        """Join the most frequent neighbours until there are so many pieces, or nothing is left to join.

        Args:
            text: sentences of words.
            num_pieces: characters and the mark of a word's start included.

        Raises:
            DataError: the text has no words, or more different characters than pieces are wanted.

        Source: Sennrich et al. 2016, "Neural machine translation of rare words with subword units", ACL, algorithm 1.
        """
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        words = [word for sentence in text for word in sentence.split()]
        characters = {WORD_START, *"".join(words)}
        if not words:
            raise DataError("there are no words in the transcripts to make pieces of")
        if num_pieces < len(characters):
            raise DataError(
                f"{num_pieces} word pieces were asked for; the characters of the text and the mark of a word's start "
                f"are {len(characters)} already"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=WORD_START)
        tokenizer.train_from_iterator(words, trainers.BpeTrainer(vocab_size=num_pieces, show_progress=False))
        return WordPieces(tuple(sorted(tokenizer.get_vocab())), tokenizer)

    def spell(self, word: str) -> tuple[str, ...]:
        """The pieces of a word.

        Raises:
            DataError: the word has a character that the text did not have.
        """
        pieces = tuple(self.tokenizer.encode(word).tokens)
        if "".join(pieces) != WORD_START + word:
            unknown = sorted(set(word) - set(self.symbols))
            raise DataError(f"{word!r} needs characters that no piece has: {', '.join(map(repr, unknown))}")
        return pieces

    def lexicon(self, lexicon: Lexicon) -> Lexicon:
        """The same words as pieces.

        Args:
            lexicon: words; those with other characters are left out and reported in the log.

        Raises:
            DataError: no word can be spelt.
        """
        words = [word for word in lexicon.words if word != lexicon.unknown_word]
        spelling = {word: (self.spell(word),) for word in words if set(word) <= set(self.symbols)}
        lost = [repr(word) for word in words if word not in spelling]
        if not spelling:
            raise DataError(f"none of {len(words)} words can be spelt with the characters of the text")
        if lost:
            _LOG.warning("%d words cannot be spelt with pieces, e.g. %s", len(lost), ", ".join(lost[:_SHOWN]))
        return Lexicon(spelling, lexicon.silence, lexicon.unknown_word, unknown_phone=WORD_START)
