"""Systems side by side, each with several seeds: mean, interval, and how much of the way to the optimum they went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lhuc_asr.ranking.data.attainable import Attainable, attainable
from lhuc_asr.ranking.evaluation import TaskScore
from lhuc_asr.ranking.metrics import auc, grouped_auc
from lhuc_asr.ranking.schema import ClickLog
from lhuc_asr.scoring.table import table

Scores = Mapping[str, TaskScore]
"""Task -> score, of one run."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds and where the mean of many more seeds would lie (95 %, Student's t); NaN with one seed.

    Example:
        >>> interval = Interval.of([1.0, 2.0, 3.0])
        >>> interval.mean, round(interval.low, 3), round(interval.high, 3)
        (2.0, -0.484, 4.484)
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Of one value for each seed."""
        from scipy.stats import t

        mean, count = float(np.mean(values)), len(values)
        if count < 2:
            return cls(mean, math.nan, math.nan)
        reach = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
        return cls(mean, mean - reach, mean + reach)


@dataclass(frozen=True, slots=True)
class Optimum:
    """What true chances reach as scores on a log.

    Attributes:
        gauc: on the labels that were drawn: what runs are compared with.
        auc: the same, over all impressions.
        expected: without drawn labels, from the chances alone.
    """

    gauc: float
    auc: float
    expected: Attainable


def optimum(log: ClickLog, task: str) -> Optimum | None:
    """The attainable optimum of a task; None where the true chances are not known."""
    if task not in log.chances:
        return None
    chances, labels = log.chances[task], log.labels[task]
    return Optimum(grouped_auc(chances, labels, log.user_id).value, auc(chances, labels), attainable(log, task))


@dataclass(frozen=True, slots=True)
class Compared:
    """Systems on one task of one log.

    Attributes:
        task: the label.
        scores: system -> the scores of its seeds; the first system is what the others are measured against.
        optimum: what could be reached, if it is known.
    """

    task: str
    scores: Mapping[str, Sequence[TaskScore]]
    optimum: Optimum | None

    @property
    def gauc(self) -> dict[str, Interval]:
        """System -> GAUC over its seeds."""
        return {name: Interval.of([one.gauc.value for one in runs]) for name, runs in self.scores.items()}

    @property
    def recovered(self) -> dict[str, float]:
        """System -> which share of the distance in GAUC between the first system and the optimum it covers."""
        means = {name: interval.mean for name, interval in self.gauc.items()}
        first = next(iter(means.values()))
        if self.optimum is None or self.optimum.gauc <= first:
            return {}
        return {name: (mean - first) / (self.optimum.gauc - first) for name, mean in means.items()}


def comparison_text(compared: Compared) -> str:
    """A table: a line for each system."""
    titles = ["system", "seeds", "GAUC", "95 %", "recovered", "AUC", "log loss", "promised/came", "calibration error"]
    recovered = compared.recovered
    rows = [
        _row(name, interval, recovered.get(name), compared.scores[name]) for name, interval in compared.gauc.items()
    ]
    if (best := compared.optimum) is not None:
        rows.append(["true chances", "-", f"{best.gauc:.4f}", "-", "100.0 %", f"{best.auc:.4f}", "-", "-", "-"])
    note = _note(compared.optimum)
    return f"task {compared.task}\n{table([titles, *rows])}{note}"


def _row(name: str, gauc: Interval, recovered: float | None, runs: Sequence[TaskScore]) -> list[str]:
    return [
        name,
        str(len(runs)),
        f"{gauc.mean:.4f}",
        "-" if math.isnan(gauc.low) else f"{gauc.low:.4f} to {gauc.high:.4f}",
        "-" if recovered is None else f"{100 * recovered:.1f} %",
        f"{np.mean([run.auc for run in runs]):.4f}",
        f"{np.mean([run.log_loss for run in runs]):.4f}",
        f"{np.mean([run.predicted_over_observed for run in runs]):.3f}",
        f"{np.mean([run.calibration_error for run in runs]):.4f}",
    ]


def _note(best: Optimum | None) -> str:
    if best is None:
        return ""
    expected = best.expected
    return f"\nexpected of the true chances, before labels are drawn: GAUC {expected.gauc:.4f}, AUC {expected.auc:.4f}"


def domain_text(task: str, domains: Mapping[str, Mapping[int, float | None]]) -> str:
    """A table of GAUC by domain; ``-`` where a domain has no impressions to judge.

    Args:
        task: the label.
        domains: system -> domain -> GAUC.
    """
    known = sorted({domain for found in domains.values() for domain in found})
    rows = []
    for name, found in domains.items():
        values = [found.get(domain) for domain in known]
        rows.append([name, *("-" if value is None else f"{value:.4f}" for value in values)])
    return table([[f"GAUC of {task} by domain", *map(str, known)], *rows])


def comparison_json(compared: Compared) -> dict[str, Any]:
    """Everything of a comparison as values for JSON; what is not a finite number is null."""
    best = compared.optimum
    return {
        "systems": {
            name: {
                "gauc": [_finite(run.gauc.value) for run in runs],
                "auc": [_finite(run.auc) for run in runs],
                "log_loss": [_finite(run.log_loss) for run in runs],
                "calibration_error": [_finite(run.calibration_error) for run in runs],
                "mean_gauc": _finite(compared.gauc[name].mean),
                "interval": [_finite(compared.gauc[name].low), _finite(compared.gauc[name].high)],
                "recovered": compared.recovered.get(name),
            }
            for name, runs in compared.scores.items()
        },
        "optimum": best
        and {
            "gauc": best.gauc,
            "auc": best.auc,
            "expected_gauc": best.expected.gauc,
            "expected_auc": best.expected.auc,
        },
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
