"""Trained systems, each with its seeds, on one part of a log: all scores, also by domain, and what ids were unknown."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lhuc_asr.errors import DataError
from lhuc_asr.files import write_json
from lhuc_asr.ranking.comparison import Compared, Scores, comparison_json, optimum
from lhuc_asr.ranking.evaluation import probabilities, score_tasks
from lhuc_asr.ranking.model_folder import TrainedRanker
from lhuc_asr.ranking.ranker_config import RankerConfig
from lhuc_asr.ranking.runs import finished_seeds, load_run
from lhuc_asr.ranking.schema import DOMAIN, ClickLog
from lhuc_asr.ranking.vocabulary import UnknownIds

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class System:
    """A system by name: where its runs lie, and the settings with which they were made."""

    name: str
    folder: Path
    ranker: RankerConfig


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """One run on a log.

    Attributes:
        seed: of the run.
        scores: task -> score over all impressions.
        domains: domain -> task -> score; None where the log has no impressions of a domain that training had.
        unknown: id column -> impressions that took the default row.
    """

    seed: int
    scores: Scores
    domains: Mapping[int, Scores | None]
    unknown: Mapping[str, UnknownIds]


def judge_systems(systems: Sequence[System], log: ClickLog) -> dict[str, list[JudgedRun]]:
    """System -> its runs on a log.

    Raises:
        ModelError: a system has no finished run, or one that is damaged.
        DataError: the log has other columns than a system was trained with.
    """
    judged = {
        system.name: [_judge(load_run(system.folder, seed, system.ranker), log, seed) for seed in seeds]
        for system in systems
        for seeds in [finished_seeds(system.folder)]
    }
    empty = sorted({name for runs in judged.values() for name, scores in runs[0].domains.items() if scores is None})
    if empty:
        _log.warning("domains that were trained on but have no impressions here: %s", ", ".join(map(str, empty)))
    return judged


def compare_task(task: str, judged: Mapping[str, Sequence[JudgedRun]], log: ClickLog) -> Compared:
    """All systems on one task.

    Raises:
        DataError: a system was not trained for it.
    """
    for name, runs in judged.items():
        if task not in runs[0].scores:
            raise DataError(f"system {name!r} was trained for {', '.join(runs[0].scores)}, not for {task!r}")
    scores = {name: [run.scores[task] for run in runs] for name, runs in judged.items()}
    return Compared(task, scores, optimum(log, task))


def unknown_text(judged: Mapping[str, Sequence[JudgedRun]]) -> str:
    """A line for every id column with unknown ids; where runs differ, for every run that has such."""
    counted = {f" ({name}, seed {run.seed})": run.unknown for name, runs in judged.items() for run in runs}
    lines = []
    for column in dict.fromkeys(column for unknown in counted.values() for column in unknown):
        found = {run: unknown.get(column) for run, unknown in counted.items()}
        if len(set(found.values())) == 1:
            found = {"": next(iter(found.values()))}
        lines += [f"unknown {column}{run}: {one}; they take the default row" for run, one in found.items() if one]
    return "\n".join(lines)


def domain_gauc(task: str, judged: Mapping[str, Sequence[JudgedRun]]) -> dict[str, dict[int, float | None]]:
    """System -> domain -> GAUC, the mean over seeds; None where the log has no impressions of the domain."""
    found: dict[str, dict[int, float | None]] = {}
    for name, runs in judged.items():
        found[name] = {}
        for domain in runs[0].domains:
            scores = [scores[task].gauc.value for run in runs if (scores := run.domains[domain]) is not None]
            found[name][domain] = float(np.mean(scores)) if scores else None
    return found


def write_results(
    path: Path, comparisons: Sequence[Compared], judged: Mapping[str, Sequence[JudgedRun]], **more: Any
) -> None:
    """Write all figures as JSON.

    Args:
        path: the file.
        comparisons: one for each task.
        judged: what they were made of.
        more: further entries, such as the part of the log and the commit.
    """
    tasks = {
        compared.task: {**comparison_json(compared), "gauc_by_domain": domain_gauc(compared.task, judged)}
        for compared in comparisons
    }
    write_json(
        path,
        {"format": 1, **more, "seeds": {n: [run.seed for run in runs] for n, runs in judged.items()}, "tasks": tasks},
    )


def _judge(trained: TrainedRanker, log: ClickLog, seed: int) -> JudgedRun:
    ranker, encoder = trained.ranker, trained.encoder
    if not len(log):
        raise DataError("the log to be judged has no impressions")
    chances_NT = probabilities(ranker, encoder.encode(log))
    words = dict(zip(encoder.schema.sparse, encoder.vocabularies, strict=True))[DOMAIN]
    domains: dict[int, Scores | None] = {}
    for domain in sorted({*words.known.tolist(), *np.unique(log.domain).tolist()}):
        inside = log.domain == domain
        domains[domain] = score_tasks(chances_NT[inside], ranker.tasks, log.rows(inside)) if inside.any() else None
    return JudgedRun(seed, score_tasks(chances_NT, ranker.tasks, log), domains, encoder.unknown(log))
