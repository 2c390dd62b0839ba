"""Errors of groups of speakers, such as children and adults."""

from __future__ import annotations

from collections.abc import Mapping

from lhuc_asr.errors import DataError
from lhuc_asr.scoring.edit import ErrorCounts
from lhuc_asr.scoring.table import table
from lhuc_asr.scoring.wer import Score, Unit

_SHOWN = 5


def group_errors(score: Score, group_of: Mapping[str, str]) -> dict[str, ErrorCounts]:
    """Group -> all errors of its speakers, in the order of the groups' names.

    Args:
        score: of a system.
        group_of: speaker -> group; it may name speakers who are not scored.

    Raises:
        DataError: a scored speaker belongs to no group.

    Example:
        >>> from lhuc_asr.scoring.wer import score
        >>> result = score({"a": "ONE TWO", "b": "TWO"}, {"a": "ONE", "b": "TWO"}, {"a": "ann", "b": "ben"})
        >>> [(name, counts.wer) for name, counts in group_errors(result, {"ann": "adults", "ben": "children"}).items()]
        [('adults', 50.0), ('children', 0.0)]
    """
    missing = [speaker for speaker in score.speakers if speaker not in group_of]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DataError(f"no group is named for the speakers {', '.join(map(repr, missing[:_SHOWN]))}{more}")
    totals: dict[str, ErrorCounts] = {}
    for speaker, counts in score.speakers.items():
        group = group_of[speaker]
        totals[group] = totals.get(group, ErrorCounts()) + counts
    return dict(sorted(totals.items()))


def group_table(errors: Mapping[str, Mapping[str, ErrorCounts]], unit: Unit) -> str:
    """Error rates of every group, one line for each system, with the words of each group in the title.

    Args:
        errors: system -> `group_errors`.
        unit: what was counted.
    """
    first = next(iter(errors.values()))
    title = (unit.value, *(f"{group} ({counts.num_words} {unit.name}s)" for group, counts in first.items()))
    rows = [(name, *(f"{counts.wer:.2f}" for counts in found.values())) for name, found in errors.items()]
    return table([title, *rows])
