"""Files for NIST's sclite: trn (words and utterance id), ctm (words and times) and stm (reference for a ctm)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from lhuc_asr.files import write_text
from lhuc_asr.units import Seconds

_NOT_IN_SPEAKERS = re.compile(r"[^\w.]|_")
_NOT_IN_IDS = re.compile(r"[\s();%]")
_NOT_IN_WORDS = re.compile(r"[(){}@;%]")


class TimedWord(Protocol):
    """A word with its times, such as `lhuc_asr.decoding.words.hypothesis.Word`."""

    @property
    def text(self) -> str:
        """The word."""

    @property
    def start(self) -> Seconds:
        """When it begins, from the beginning of the utterance."""

    @property
    def duration(self) -> Seconds:
        """How long it lasts."""

    @property
    def confidence(self) -> float | None:
        """The chance that it is right, where it is known."""


def write_trn(path: Path, texts: Mapping[str, str], speaker_of: Mapping[str, str]) -> None:
    """Write ``WORDS (speaker-utterance)`` lines, which ``sclite -i spu_id ... trn`` reads.

    Characters that mean something to sclite are percent-encoded, in words and in ids, so any id works.
    """
    lines = [
        f"{_words(texts[utterance])} ({trn_id(speaker_of[utterance], utterance)})".strip() + "\n"
        for utterance in sorted(texts)
    ]
    write_text(path, "".join(lines))


def trn_id(speaker: str, utterance: str) -> str:
    """An id from which sclite finds the speaker: all that stands before the first hyphen.

    Example:
        >>> trn_id("12_3", "12_3-a (1)")
        '12%5F3-12_3-a%20%281%29'
    """
    return f"{_encode(_NOT_IN_SPEAKERS, speaker)}-{_encode(_NOT_IN_IDS, utterance)}"


def write_ctm(path: Path, words: Mapping[str, Iterable[TimedWord]]) -> None:
    """Write ``utterance 1 start duration WORD`` lines, which ``sclite -h hyp.ctm ctm`` reads.

    Every utterance counts as a recording of its own. A word with a confidence has it at the end of its line.
    """
    lines = [
        f"{_encode(_NOT_IN_IDS, utterance)} 1 {word.start:.2f} {word.duration:.2f} {_words(word.text)}"
        + ("\n" if word.confidence is None else f" {word.confidence:.6f}\n")
        for utterance in _in_file_order(words)
        for word in words[utterance]
    ]
    write_text(path, "".join(lines))


def write_stm(
    path: Path, references: Mapping[str, str], speaker_of: Mapping[str, str], durations: Mapping[str, Seconds]
) -> None:
    """Write ``utterance 1 speaker 0.00 end WORDS`` lines, which ``sclite -r ref.stm stm`` reads beside a ctm."""
    lines = [
        f"{_encode(_NOT_IN_IDS, utterance)} 1 {_encode(_NOT_IN_SPEAKERS, speaker_of[utterance])} "
        f"0.00 {durations[utterance]:.2f} {_words(references[utterance])}".rstrip()
        + "\n"
        for utterance in _in_file_order(references)
    ]
    write_text(path, "".join(lines))


def _in_file_order(utterances: Iterable[str]) -> list[str]:
    """sclite wants ctm and stm sorted by the bytes of the recording's name."""
    return sorted(utterances, key=lambda utterance: _encode(_NOT_IN_IDS, utterance).encode())


def _words(text: str) -> str:
    return " ".join(_encode(_NOT_IN_WORDS, word) for word in text.split())


def _encode(pattern: re.Pattern[str], text: str) -> str:
    """The text with every match as percent signs and hexadecimal bytes."""
    return pattern.sub(lambda match: "".join(f"%{byte:02X}" for byte in match.group().encode()), text)
