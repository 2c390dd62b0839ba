"""Word and character error rates, of every utterance, every speaker and all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from lhuc_asr.errors import DataError
from lhuc_asr.scoring.edit import ErrorCounts, align, count_errors, format_alignment

if TYPE_CHECKING:
    from lhuc_asr.decoding.words.hypothesis import Hypothesis

_SHOWN = 5


class Unit(Enum):
    """What is counted."""

    word = "WER"
    character = "CER"


@dataclass(frozen=True, eq=False)
class Score:
    """How many errors a system made, and where.

    Attributes:
        unit: words or characters.
        references: utterance id -> what was said.
        hypotheses: utterance id -> what was recognised.
        speaker_of: utterance id -> speaker.
        utterances: utterance id -> its errors, in the order of the ids.
        speakers: speaker -> errors in all of his utterances, in the order of the ids.
        total: all errors.
    """

    unit: Unit
    references: Mapping[str, str]
    hypotheses: Mapping[str, str]
    speaker_of: Mapping[str, str]
    utterances: Mapping[str, ErrorCounts]
    speakers: Mapping[str, ErrorCounts]
    total: ErrorCounts

    @property
    def wer(self) -> float:
        """Error rate over everything, in percent."""
        return self.total.wer

    def __str__(self) -> str:
        return self.total.line(self.unit.value)


def score(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    speaker_of: Mapping[str, str],
    *,
    unit: Unit = Unit.word,
) -> Score:
    """Count the errors of a system.

    Args:
        references: utterance id -> words that were said.
        hypotheses: the same ids -> words that were recognised; an empty text counts as deletions.
        speaker_of: utterance id -> speaker.
        unit: count words, or characters (blanks between words do not count).

    Raises:
        DataError: the ids differ, there are none, or an utterance has no speaker.

    Example:
        >>> print(score({"a-1": "ONE TWO"}, {"a-1": "ONE"}, {"a-1": "a"}))
        %WER 50.00 [ 1 / 2, 0 ins, 1 del, 0 sub ]
    """
    check_ids(references, hypotheses, speaker_of)
    utterances = {
        utterance: count_errors(units(references[utterance], unit), units(hypotheses[utterance], unit))
        for utterance in sorted(references)
    }
    speakers = dict.fromkeys(sorted({speaker_of[utterance] for utterance in references}), ErrorCounts())
    for utterance, counts in utterances.items():
        speakers[speaker_of[utterance]] += counts
    total = sum(utterances.values(), ErrorCounts())
    speaker_of = {utterance: speaker_of[utterance] for utterance in utterances}
    return Score(unit, dict(references), dict(hypotheses), speaker_of, utterances, speakers, total)


def score_hypotheses(
    references: Mapping[str, str], hypotheses: Mapping[str, Hypothesis], speaker_of: Mapping[str, str]
) -> Score:
    """Count the word errors of a search; an utterance without a path counts as recognised without words.

    Args:
        references: utterance id -> words that were said.
        hypotheses: utterance id -> best path; those of other utterances do not count.
        speaker_of: utterance id -> speaker.

    Raises:
        DataError: there are no references, or an utterance has no speaker.
    """
    texts = {name: hypotheses[name].text if name in hypotheses else "" for name in references}
    return score(references, texts, speaker_of)


def units(text: str, unit: Unit) -> Sequence[str]:
    """The words or the characters of a text."""
    return text.split() if unit is Unit.word else "".join(text.split())


def check_ids(references: Mapping[str, str], hypotheses: Mapping[str, str], speaker_of: Mapping[str, str]) -> None:
    """Make sure that both sides speak of the same utterances.

    Raises:
        DataError: they do not; the text names ids.
    """
    if not references:
        raise DataError("there is nothing to score: no utterance has a reference transcript")
    missing = sorted(set(references) - set(hypotheses))
    foreign = sorted(set(hypotheses) - set(references))
    if missing or foreign:
        parts = [f"{len(missing)} of {len(references)} are not in the hypotheses ({_some(missing)})"] if missing else []
        parts += [f"{len(foreign)} hypotheses have no reference ({_some(foreign)})"] if foreign else []
        raise DataError(f"reference and hypotheses cover different utterances: {' and '.join(parts)}")
    if nameless := sorted(set(references) - set(speaker_of)):
        raise DataError(f"{len(nameless)} of {len(references)} utterances have no speaker ({_some(nameless)})")


def alignments_text(result: Score) -> str:
    """All utterances with their alignments, to be read by people."""
    blocks = []
    for utterance, counts in result.utterances.items():
        said = units(result.references[utterance], result.unit)
        heard = units(result.hypotheses[utterance], result.unit)
        title = f"{utterance} (speaker {result.speaker_of[utterance]}) {counts.line(result.unit.value)}"
        blocks.append(f"{title}\n{format_alignment(align(said, heard))}\n")
    return "\n".join(blocks)


def _some(ids: Sequence[str]) -> str:
    quoted = ", ".join(repr(identifier) for identifier in ids[:_SHOWN])
    return quoted + (", ..." if len(ids) > _SHOWN else "")
