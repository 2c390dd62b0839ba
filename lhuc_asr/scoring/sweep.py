"""What a sweep of settings gave: one point for each combination, kept on disk, side by side in a table.

DIRECTORY/points/<name>/results.json   a point: all scores, and the settings that it was made with
DIRECTORY/sweep.json                   the figures of all points that lie there
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lhuc_asr.errors import DataError
from lhuc_asr.files import read_json, write_json
from lhuc_asr.scoring.comparison import Comparison
from lhuc_asr.scoring.edit import ErrorCounts
from lhuc_asr.scoring.report import counts_json, write_results
from lhuc_asr.scoring.table import table
from lhuc_asr.units import Seconds

FORMAT_VERSION = 1
POINTS = "points"
RESULTS_FILE = "results.json"
SWEEP_FILE = "sweep.json"
BEFORE, AFTER = "SI", "LHUC"

Settings = Mapping[str, Any]
"""Dotted name of a setting -> its value, ready for JSON."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What the updates of one point's speakers did.

    Attributes:
        objective_before: mean cross-entropy per frame of all speakers, with the scales at the start.
        objective_after: the same with the scales at the end.
        update_seconds: time that all updates together took.
        audio_seconds: speech that was learnt from.
    """

    objective_before: float
    objective_after: float
    update_seconds: Seconds
    audio_seconds: Seconds


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """The figures of one combination of settings.

    Attributes:
        name: of its directory.
        settings: all that an adaptation depends on.
        before: errors of the speaker-independent model.
        after: errors of the adapted model on the same words.
        p_value: of MAPSSWE, two-sided.
        num_better: speakers with fewer errors.
        num_same: speakers with as many.
        num_worse: speakers with more.
        learning: what the updates did.
        failed: speaker -> why there is no profile; such a speaker counts with the speaker-independent words.
        source: what the points of one directory must have in common, such as the model and the speech.
    """

    name: str
    settings: Settings
    before: ErrorCounts
    after: ErrorCounts
    p_value: float
    num_better: int
    num_same: int
    num_worse: int
    learning: Learning
    failed: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)

    @property
    def relative_change(self) -> float | None:
        """Change of the errors in percent; negative is an improvement. None where there was no error to begin with."""
        return 100.0 * (self.after.errors / self.before.errors - 1.0) if self.before.errors else None

    def as_json(self) -> dict[str, Any]:
        """The point as values for JSON."""
        return {
            "name": self.name,
            "settings": dict(self.settings),
            BEFORE: counts_json(self.before),
            AFTER: counts_json(self.after),
            "relative_change": self.relative_change,
            "mapsswe_p_value": self.p_value,
            "num_speakers_better": self.num_better,
            "num_speakers_same": self.num_same,
            "num_speakers_worse": self.num_worse,
            **_learning_json(self.learning),
            "failed_speakers": dict(self.failed),
        }


def write_point(
    directory: Path,
    comparison: Comparison,
    learning: Learning,
    *,
    settings: Settings,
    failed: Mapping[str, str],
    source: Mapping[str, str],
) -> SweepPoint:
    """Keep a point in a directory of its own, and return its figures."""
    write_results(
        directory / RESULTS_FILE,
        {BEFORE: comparison.first, AFTER: comparison.second},
        {(BEFORE, AFTER): comparison},
        settings=dict(settings),
        **_learning_json(learning),
        failed_speakers=dict(failed),
        source=dict(source),
    )
    return read_point(directory)


def read_point(directory: Path) -> SweepPoint:
    """The figures of a point.

    Raises:
        DataError: it is damaged, or of another version.
    """
    path = directory / RESULTS_FILE
    try:
        page: dict[str, Any] = read_json(path)
        comparison = page["comparisons"][0]
        return SweepPoint(
            name=directory.name,
            settings=page["settings"],
            before=_counts(page["systems"][BEFORE]["total"]),
            after=_counts(page["systems"][AFTER]["total"]),
            p_value=comparison["mapsswe"]["p_value"],
            num_better=len(comparison["speakers_better"]),
            num_same=len(comparison["speakers_same"]),
            num_worse=len(comparison["speakers_worse"]),
            learning=Learning(**{name: page[name] for name in Learning.__dataclass_fields__}),
            failed=page["failed_speakers"],
            source=page["source"],
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"'{path}' is not a point of a sweep ({error}); remove its directory") from error


def read_points(directory: Path) -> list[SweepPoint]:
    """All points of a sweep's directory, ordered by their settings.

    Raises:
        DataError: one of them is damaged.
    """
    points = [read_point(path.parent) for path in (directory / POINTS).glob(f"*/{RESULTS_FILE}")]
    return sorted(points, key=lambda point: [_rank(value) for _, value in sorted(point.settings.items())])


def check_source(directory: Path, points: Iterable[SweepPoint], source: Mapping[str, str]) -> None:
    """Make sure that new points may stand beside those that lie there.

    Raises:
        DataError: those were made with another model or of other speech.
    """
    for point in points:
        for what, value in source.items():
            if point.source.get(what) != value:
                raise DataError(
                    f"'{directory}' holds points that are not comparable, such as {point.name!r}: they were made with "
                    f"another {what}; choose another --out, or remove it"
                )


def write_sweep(directory: Path, points: Sequence[SweepPoint], **more: Any) -> None:
    """Write the figures of points into one file, with further entries."""
    write_json(
        directory / SWEEP_FILE,
        {"format_version": FORMAT_VERSION, **more, "points": [point.as_json() for point in points]},
    )


def swept_settings(points: Sequence[SweepPoint]) -> dict[str, list[Any]]:
    """Settings that differ between points -> their values in the order in which they appear, the slowest first."""
    values: dict[str, list[Any]] = {}
    changes: dict[str, int] = {}
    for number, point in enumerate(points):
        for key, value in point.settings.items():
            known = values.setdefault(key, [])
            if value not in known:
                known.append(value)
                if len(known) > 1:
                    changes.setdefault(key, number)
    return {key: values[key] for key in sorted(changes, key=lambda key: -changes[key])}


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Dotted name -> its last part, where no other ends alike.

    Example:
        >>> short_names(["adapt.lr", "protocol.name"])
        {'adapt.lr': 'lr', 'protocol.name': 'protocol'}
    """
    keys = list(keys)
    short = {key: key.rpartition(".")[2] if not key.endswith(".name") else key.split(".")[-2] for key in keys}
    return {key: name if list(short.values()).count(name) == 1 else key for key, name in short.items()}


def value_text(key: str, value: Any) -> str:
    """A setting's value for people.

    Example:
        >>> value_text("lhuc.layers", []), value_text("lhuc.layers", [1, 2]), value_text("adapt.lr", 0.8)
        ('all', '1,2', '0.8')
    """
    if isinstance(value, list):
        return ",".join(map(str, value)) or ("all" if key.endswith(".layers") else "none")
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:g}"


def sweep_table(points: Sequence[SweepPoint]) -> str:
    """One line for each point: what was swept, error counts, the change and its p, speakers, objective, time."""
    names = short_names(swept_settings(points))
    failed = any(point.failed for point in points)
    titles = [*names.values(), BEFORE, AFTER, "errors", "change", "p", "better/same/worse", "objective", "seconds"]
    rows = [[*(value_text(key, point.settings[key]) for key in names), *_cells(point)] for point in points]
    if failed:
        titles.append("failed")
        rows = [[*row, str(len(point.failed))] for row, point in zip(rows, points, strict=True)]
    return table([titles, *rows], num_left=len(names))


def _cells(point: SweepPoint) -> list[str]:
    change = point.relative_change
    return [
        f"{point.before.wer:.2f}",
        f"{point.after.wer:.2f}",
        f"{point.before.errors} -> {point.after.errors}",
        "-" if change is None else f"{change:+.2f} %",
        "<0.001" if point.p_value < 0.001 else f"{point.p_value:.3f}",
        f"{point.num_better}/{point.num_same}/{point.num_worse}",
        f"{point.learning.objective_before:.3f} -> {point.learning.objective_after:.3f}",
        f"{point.learning.update_seconds:.1f}",
    ]


def _rank(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then all else by its text."""
    if isinstance(value, (int, float)):
        return (1, float(value), "")
    return (0, 0.0, "") if value is None else (2, 0.0, json.dumps(value))


def _counts(page: Mapping[str, Any]) -> ErrorCounts:
    return ErrorCounts(page["insertions"], page["deletions"], page["substitutions"], page["num_words"])


def _learning_json(learning: Learning) -> dict[str, float]:
    return {name: getattr(learning, name) for name in Learning.__dataclass_fields__}
