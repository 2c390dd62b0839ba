"""What lhuc-score finds: errors of every system, what lies between them, what confidences and verdicts are worth."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lhuc_asr.cli._scored_texts import References, System, read_texts

if TYPE_CHECKING:
    from lhuc_asr.scoring.comparison import Comparison
    from lhuc_asr.scoring.confidence import ConfidenceScore
    from lhuc_asr.scoring.curve import Curve
    from lhuc_asr.scoring.edit import ErrorCounts
    from lhuc_asr.scoring.verdicts import VerdictScore
    from lhuc_asr.scoring.wer import Score


@dataclass(frozen=True)
class Results:
    """All that was counted.

    Attributes:
        scores: system -> its errors.
        comparisons: every other system with the first.
        confidences: system -> what they are worth, for the systems that have them.
        groups: system -> group -> errors, where ``--groups`` is given.
        verdicts: how often a guard was right, where ``--verdicts`` is given.
        curve: error rates against a number, where ``--curve`` is given.
    """

    scores: dict[str, Score]
    comparisons: dict[tuple[str, str], Comparison]
    confidences: dict[str, ConfidenceScore]
    groups: dict[str, dict[str, ErrorCounts]] = field(default_factory=dict)
    verdicts: VerdictScore | None = None
    curve: Curve | None = None


def results_of(args: argparse.Namespace, references: References, systems: Mapping[str, System]) -> Results:
    """Count everything that the command line asks for.

    Raises:
        DataError: references, systems, groups or verdicts do not fit together.
    """
    scores = _scores(references, systems, characters=args.cer)
    return Results(
        scores,
        _comparisons(scores),
        _confidences(references, systems),
        groups=_groups(args, scores),
        verdicts=_verdicts(args, scores),
        curve=_curve(args, scores),
    )


def _scores(references: References, systems: Mapping[str, System], *, characters: bool) -> dict[str, Score]:
    from lhuc_asr.errors import DataError
    from lhuc_asr.scoring.wer import Unit, score

    unit = Unit.character if characters else Unit.word
    scores = {}
    for name, system in systems.items():
        try:
            scores[name] = score(references.texts, system.texts, references.speaker_of, unit=unit)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    return scores


def _comparisons(scores: Mapping[str, Score]) -> dict[tuple[str, str], Comparison]:
    """Every system against the first."""
    from lhuc_asr.scoring.comparison import compare

    first, *others = scores
    return {(first, other): compare(scores[first], scores[other]) for other in others}


def _confidences(references: References, systems: Mapping[str, System]) -> dict[str, ConfidenceScore]:
    """What confidences are worth, for the systems that have them."""
    from lhuc_asr.scoring.confidence import score_confidences

    found = {}
    for name, system in systems.items():
        words = {utterance: hypothesis.words for utterance, hypothesis in system.hypotheses.items()}
        if (worth := score_confidences(references.texts, words)) is not None:
            found[name] = worth
    return found


def _groups(args: argparse.Namespace, scores: Mapping[str, Score]) -> dict[str, dict[str, ErrorCounts]]:
    from lhuc_asr.scoring.groups import group_errors

    if args.groups is None:
        return {}
    group_of = read_texts(args.groups)
    return {name: group_errors(score, group_of) for name, score in scores.items()}


def _verdicts(args: argparse.Namespace, scores: Mapping[str, Score]) -> VerdictScore | None:
    from lhuc_asr.scoring.verdicts import read_verdicts, score_verdicts

    return score_verdicts(read_verdicts(args.verdicts), *scores.values()) if args.verdicts else None


def _curve(args: argparse.Namespace, scores: Mapping[str, Score]) -> Curve | None:
    from lhuc_asr.scoring.curve import curve_of

    return curve_of(scores) if args.curve else None
