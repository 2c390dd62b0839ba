"""Connectionist temporal classification: labels of a transcript, and their probability whatever the alignment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from lhuc_asr.errors import AlignmentError, DataError, first_few
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.lang.pieces import WordPieces
from lhuc_asr.ranges import require_at_least

BLANK = "<blank>"
SPACE = "<space>"


class CtcUnits(Enum):
    """What the labels are."""

    phones = "phones"
    characters = "characters"
    pieces = "pieces"


@dataclass(kw_only=True, slots=True)
class CtcConfig:
    """What a CTC network learns to write.

    Attributes:
        units: phones of each word's first pronunciation, the characters of the transcripts, or pieces of their words.
        num_pieces: how many word pieces; few pieces are learnt well from little speech, many make short sequences.
    """

    units: CtcUnits = CtcUnits.phones
    num_pieces: int = 200

    def __post_init__(self) -> None:
        require_at_least(2, self, "criterion.ctc", "num_pieces")


# B utterances, T frames, L labels of an utterance, V labels that exist


@dataclass(frozen=True)
class CtcLabels:
    """What a CTC model writes, and how words are spelt with it.

    Attributes:
        symbols: (V) names of the outputs; the blank is the first.
        spell: a transcript -> the names of its labels.

    Example:
        >>> labels = character_labels(["AB BA"])
        >>> labels.symbols, labels.encode("B A").tolist()
        (('<blank>', '<space>', 'A', 'B'), [3, 1, 2])
    """

    symbols: tuple[str, ...]
    spell: Callable[[str], Sequence[str]]

    @cached_property
    def number_of(self) -> dict[str, int]:
        """Name of a label -> its output."""
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    def encode(self, transcript: str) -> Tensor:
        """(L,) int64 the labels of a transcript.

        Raises:
            DataError: the transcript is empty, or needs a label that the model does not have.
        """
        names = self.spell(transcript)
        unknown = sorted(set(names) - self.number_of.keys())
        if unknown:
            raise DataError(
                f"{transcript!r} needs labels that the model does not have: {', '.join(map(repr, unknown))}"
            )
        if not names:
            raise DataError("the transcript is empty")
        return torch.tensor([self.number_of[name] for name in names])


def phone_labels(lexicon: Lexicon) -> CtcLabels:
    """Phones as labels: every word by its first pronunciation, unknown words by the unknown phone, no silence.

    Example:
        >>> labels = phone_labels(Lexicon({"A": (("AH",), ("EY",)), "BE": (("B", "IY"),)}))
        >>> labels.symbols
        ('<blank>', 'SPN', 'AH', 'B', 'EY', 'IY')
        >>> labels.encode("BE A CEE").tolist()
        [3, 5, 2, 1]
    """

    def spell(transcript: str) -> list[str]:
        return [phone for word in transcript.split() for phone in lexicon.pronunciations_of(word)[0]]

    return CtcLabels((BLANK, *(phone for phone in lexicon.phones if phone != lexicon.silence)), spell)


def character_labels(transcripts: Iterable[str]) -> CtcLabels:
    """Characters as labels: all that occur in some transcripts, and the space between words.

    Raises:
        DataError: the transcripts hold no characters.
    """
    found = sorted({character for transcript in transcripts for character in transcript} - {" "})
    if not found:
        raise DataError("there are no characters in the transcripts to make labels of")
    return CtcLabels((BLANK, SPACE, *found), _characters)


def piece_labels(pieces: WordPieces) -> CtcLabels:
    """Word pieces as labels.

    Example:
        >>> labels = piece_labels(WordPieces.learn(["A CAT", "A HAT"], 8))
        >>> labels.spell("A HAT")
        ['▁A', '▁', 'H', 'AT']
    """

    def spell(transcript: str) -> list[str]:
        return [piece for word in transcript.split() for piece in pieces.spell(word)]

    return CtcLabels((BLANK, *pieces.symbols), spell)


def _characters(transcript: str) -> list[str]:
    return [SPACE if character == " " else character for character in " ".join(transcript.split())]


def frames_needed(labels: Tensor) -> int:
    """The fewest frames that hold these labels (L,): one for each, and a blank between two that are alike.

    Example:
        >>> frames_needed(torch.tensor([3, 3, 5]))
        4
    """
    return len(labels) + int((labels[1:] == labels[:-1]).sum())


def check_lengths(labels: Mapping[str, Tensor], num_frames: Mapping[str, int]) -> None:
    """Refuse utterances that are too short for their labels, all of them by name, before training begins.

    Args:
        labels: utterance id -> (L,).
        num_frames: utterance id -> frames of the network's output, so after sub-sampling.

    Raises:
        AlignmentError: some are too short.
    """
    faults = [
        f"{utterance!r} ({num_frames[utterance]} frames, {frames_needed(one)} needed)"
        for utterance, one in labels.items()
        if num_frames[utterance] < frames_needed(one)
    ]
    if faults:
        raise AlignmentError(f"utterances too short for their labels: {first_few(faults)}")


def ctc_objective(log_probs: Tensor, lens: Tensor, labels: Sequence[Tensor], utterances: Sequence[str]) -> Tensor:
    """Mean negative log-probability of the labels, over all alignments.

    Args:
        log_probs: (B, T, V) natural logarithms of posteriors; label 0 is the blank. They must come
            out of a log-softmax: torch's gradient is right for what goes into it.
        lens: (B,) frames of each utterance; what lies beyond is not looked at.
        labels: B times (L,), without blanks.
        utterances: B ids, for error messages.

    Returns:
        () nats a frame: the sum over the utterances, divided by their frames.

    Raises:
        AlignmentError: an utterance is too short for its labels.
        DataError: a label is none of the network's outputs, or the objective is not finite; the text names the
            utterances.

    Source: Graves et al. 2006, "Connectionist temporal classification", equations 6-8 and 13; through torch.
    """
    by_name = dict(zip(utterances, labels, strict=True))
    check_lengths(by_name, dict(zip(utterances, lens.tolist(), strict=True)))
    num_outputs = log_probs.shape[2]
    wrong = [repr(name) for name, one in by_name.items() if not bool(((one >= 1) & (one < num_outputs)).all())]
    if wrong:
        raise DataError(f"labels must be 1 to {num_outputs - 1}; others were found in {first_few(wrong)}")
    losses = functional.ctc_loss(
        log_probs.float().transpose(0, 1),
        torch.cat(list(labels)).to(log_probs.device),
        lens.cpu(),
        torch.tensor([len(one) for one in labels]),
        reduction="none",
    )
    if not bool(torch.isfinite(losses).all()):
        bad = [repr(name) for name, loss in zip(utterances, losses.tolist(), strict=True) if not math.isfinite(loss)]
        raise DataError(f"the CTC objective is not finite for {first_few(bad)}")
    return losses.sum() / lens.sum()
