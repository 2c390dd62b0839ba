"""How often a guard was right: its verdicts on speakers against what adaptation did to their errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhuc_asr.errors import DataError
from lhuc_asr.files import read_json
from lhuc_asr.scoring.table import table
from lhuc_asr.scoring.wer import Score

ACCEPTED = "accepted"
OUTCOMES = ("helped", "same", "harmed")


@dataclass(frozen=True, kw_only=True)
class VerdictScore:
    """Verdicts against the truth.

    Attributes:
        margin: a speaker is helped or harmed when the error rate changes by more than so many in a hundred words.
        confusion: verdict -> outcome without the guard (helped, same, harmed) -> speakers.
        without_guard: outcome -> speakers.
        with_guard: the same with the guard; None where its words are not given.
    """

    margin: float
    confusion: Mapping[str, Mapping[str, int]]
    without_guard: Mapping[str, int]
    with_guard: Mapping[str, int] | None

    @property
    def num_speakers(self) -> int:
        """Speakers who have a verdict."""
        return sum(self.without_guard.values())

    @property
    def num_right(self) -> int:
        """Speakers who were accepted and not harmed, or weakened or refused and would have been harmed."""
        accepted = self.confusion.get(ACCEPTED, {})
        right = sum(count for outcome, count in accepted.items() if outcome != "harmed")
        return right + sum(own["harmed"] for verdict, own in self.confusion.items() if verdict != ACCEPTED)

    def __str__(self) -> str:
        title = ("verdict", *(f"{outcome} without guard" for outcome in OUTCOMES))
        rows = [(verdict, *(str(own[outcome]) for outcome in OUTCOMES)) for verdict, own in self.confusion.items()]
        lines = [table([title, *rows]), f"right: {self.num_right} of {self.num_speakers} speakers"]
        for name, counts in (("without guard", self.without_guard), ("with guard", self.with_guard)):
            if counts is not None:
                told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES)
                lines.append(f"{name}: {told} (by more than {self.margin:g} % of the words)")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "margin": self.margin,
            "confusion": {verdict: dict(own) for verdict, own in self.confusion.items()},
            "without_guard": dict(self.without_guard),
            "with_guard": None if self.with_guard is None else dict(self.with_guard),
            "num_right": self.num_right,
            "num_speakers": self.num_speakers,
        }


def score_verdicts(
    verdicts: Mapping[str, str], first: Score, unguarded: Score, guarded: Score | None = None, *, margin: float = 1.0
) -> VerdictScore:
    """Compare verdicts with transcripts.

    Args:
        verdicts: speaker -> what the guard said, ``accepted`` or another word.
        first: errors of the first pass.
        unguarded: errors with scales that no guard has judged.
        guarded: errors with the scales that it let pass.
        margin: changes up to so many errors in a hundred words are no change.

    Raises:
        DataError: no speaker has a verdict, or one with a verdict is not scored.

    Example:
        >>> from lhuc_asr.scoring.wer import score
        >>> said, speaker_of = {"a-1": "ONE TWO", "b-1": "SIX"}, {"a-1": "a", "b-1": "b"}
        >>> before, after = ({"a-1": "ONE", "b-1": "SIX"}, {"a-1": "ONE TWO", "b-1": "TEN"})
        >>> scores = [score(said, heard, speaker_of) for heard in (before, after)]
        >>> found = score_verdicts({"a": "accepted", "b": "fell back"}, *scores)
        >>> found.num_right, found.without_guard
        (2, {'helped': 1, 'same': 0, 'harmed': 1})
    """
    strangers = sorted(set(verdicts) - set(first.speakers))
    if strangers or not verdicts:
        found = f"{len(strangers)} of them are not scored, such as {strangers[0]!r}" if strangers else "there is none"
        raise DataError(f"verdicts are compared speaker by speaker, and {found}")
    truth = _outcomes(first, unguarded, verdicts, margin)
    kinds = sorted(set(verdicts.values()), key=lambda verdict: (verdict != ACCEPTED, verdict))
    confusion = {
        kind: _counts(truth[speaker] for speaker, verdict in verdicts.items() if verdict == kind) for kind in kinds
    }
    after = None if guarded is None else _counts(_outcomes(first, guarded, verdicts, margin).values())
    return VerdictScore(margin=margin, confusion=confusion, without_guard=_counts(truth.values()), with_guard=after)


def read_verdicts(directory: Path) -> dict[str, str]:
    """Speaker -> verdict, of what ``lhuc-adapt`` wrote with a guard, or with held-out speech.

    Args:
        directory: its ``--out``.

    Raises:
        DataError: there are no verdicts in it.
    """
    pages = [read_json(path) for path in sorted((directory / "status").glob("*.json"))]
    found = {page["speaker"]: page.get("guard") or page.get("held_out") for page in pages}
    verdicts = {speaker: verdict["verdict"] for speaker, verdict in found.items() if verdict}
    if not verdicts:
        raise DataError(
            f"no speaker in '{directory}' has a verdict: it must be the --out of lhuc-adapt with guard=decoded or "
            "adapt=held_out"
        )
    return verdicts


def _outcomes(first: Score, second: Score, speakers: Mapping[str, Any], margin: float) -> dict[str, str]:
    changes = {speaker: second.speakers[speaker].wer - first.speakers[speaker].wer for speaker in speakers}
    return {
        speaker: "harmed" if change > margin else "helped" if change < -margin else "same"
        for speaker, change in changes.items()
    }


def _counts(outcomes: Any) -> dict[str, int]:
    counted = Counter(outcomes)
    return {outcome: counted[outcome] for outcome in OUTCOMES}
