"""How a hypothesis differs from what was said: alignments and counts of insertions, deletions and substitutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import kaldialign

_NOTHING = "\0"
_SCLITE_SUBSTITUTION, _SCLITE_INSERTION, _SCLITE_DELETION = 4, 3, 3


class Edit(Enum):
    """What happened to one word, with the letter that sclite uses."""

    correct = "C"
    substitution = "S"
    deletion = "D"
    insertion = "I"


@dataclass(frozen=True, slots=True)
class AlignedPair:
    """One column of an alignment; None stands for no word."""

    reference: str | None
    hypothesis: str | None

    @property
    def edit(self) -> Edit:
        """Correct, or which kind of error."""
        if self.reference is None:
            return Edit.insertion
        if self.hypothesis is None:
            return Edit.deletion
        return Edit.correct if self.reference == self.hypothesis else Edit.substitution


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Errors against a number of reference words (or characters).

    Example:
        >>> counts = ErrorCounts(insertions=359, deletions=269, substitutions=2232, num_words=52576)
        >>> print(counts)
        %WER 5.44 [ 2860 / 52576, 359 ins, 269 del, 2232 sub ]
    """

    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    num_words: int = 0

    @property
    def errors(self) -> int:
        """Insertions, deletions and substitutions together."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def correct(self) -> int:
        """Reference words that were recognised."""
        return self.num_words - self.deletions - self.substitutions

    @property
    def wer(self) -> float:
        """Errors in percent of the reference words; infinite when words were invented where nothing was said."""
        if self.num_words == 0:
            return float("inf") if self.errors else 0.0
        return 100.0 * self.errors / self.num_words

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
            self.num_words + other.num_words,
        )

    def line(self, name: str = "WER") -> str:
        """The line that Kaldi's ``compute-wer`` prints."""
        return (
            f"%{name} {self.wer:.2f} [ {self.errors} / {self.num_words}, "
            f"{self.insertions} ins, {self.deletions} del, {self.substitutions} sub ]"
        )

    def __str__(self) -> str:
        return self.line()


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """The fewest insertions, deletions and substitutions that turn the reference into the hypothesis.

    Example:
        >>> count_errors("THE CAT SAT".split(), "THE BAT SAT DOWN".split()).errors
        2
    """
    counts = kaldialign.edit_distance(list(reference), list(hypothesis))
    return ErrorCounts(counts["ins"], counts["del"], counts["sub"], len(reference))


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[AlignedPair, ...]:
    """An alignment with the fewest errors.

    Example:
        >>> "".join(pair.edit.value for pair in align("THE CAT SAT".split(), "THE BAT SAT DOWN".split()))
        'CSCI'
    """
    pairs = kaldialign.align(list(reference), list(hypothesis), _NOTHING)
    return tuple(
        AlignedPair(None if word == _NOTHING else word, None if heard == _NOTHING else heard) for word, heard in pairs
    )


def align_like_sclite(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[AlignedPair, ...]:
    """The very alignment that NIST's sclite chooses, also among alignments of equal cost.

    sclite weighs a substitution 4, an insertion or deletion 3; where costs tie it prefers a substitution (or match),
    then an insertion, looking from the end.
    """
    back = _sclite_table(reference, hypothesis)
    pairs = []
    row, column = len(reference), len(hypothesis)
    while row or column:
        edit = back[row][column]
        word = heard = None
        if edit is not Edit.insertion:
            row -= 1
            word = reference[row]
        if edit is not Edit.deletion:
            column -= 1
            heard = hypothesis[column]
        pairs.append(AlignedPair(word, heard))
    return tuple(reversed(pairs))


def _sclite_table(reference: Sequence[str], hypothesis: Sequence[str]) -> list[list[Edit]]:
    """Last edit of the cheapest alignment of every beginning of the one with every beginning of the other."""
    above = [_SCLITE_INSERTION * column for column in range(len(hypothesis) + 1)]
    back = [[Edit.insertion] * (len(hypothesis) + 1)]
    for row, word in enumerate(reference, start=1):
        costs, edits = [_SCLITE_DELETION * row], [Edit.deletion]
        for column, heard in enumerate(hypothesis, start=1):
            substitute = above[column - 1] + (0 if word == heard else _SCLITE_SUBSTITUTION)
            delete, insert = above[column] + _SCLITE_DELETION, costs[-1] + _SCLITE_INSERTION
            best = min(substitute, delete, insert)
            costs.append(best)
            edits.append(
                Edit.substitution if best == substitute else Edit.insertion if best == insert else Edit.deletion
            )
        above = costs
        back.append(edits)
    return back


def format_alignment(pairs: Sequence[AlignedPair]) -> str:
    """Three lines: what was said, what was recognised, and the letter of each error, in columns.

    Example:
        >>> print(format_alignment(align("THE CAT SAT".split(), "THE BAT SAT DOWN".split())))
        REF:  THE CAT SAT ****
        HYP:  THE BAT SAT DOWN
        Eval:     S       I
    """
    columns = []
    for pair in pairs:
        width = max(len(pair.reference or ""), len(pair.hypothesis or ""))
        letter = "" if pair.edit is Edit.correct else pair.edit.value
        said = pair.reference if pair.reference is not None else "*" * width
        heard = pair.hypothesis if pair.hypothesis is not None else "*" * width
        columns.append((said.ljust(width), heard.ljust(width), letter.ljust(width)))
    rows = [" ".join(column[row] for column in columns) for row in range(3)]
    labels = ("REF:  ", "HYP:  ", "Eval: ")
    return "\n".join((label + row).rstrip() for label, row in zip(labels, rows, strict=True))
