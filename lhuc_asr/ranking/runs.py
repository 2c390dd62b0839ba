"""Several runs of one system that differ in the seed alone: each is a folder, and a finished one is not run again.

Where torchrun started several processes (`lhuc_asr.training.processes.distributed.joined`), all of them train each run
together, with the embedding tables divided among them, and the first one writes: the whole tables must find room there
once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.files import read_json, write_json
from lhuc_asr.parallel import map_in_processes, one_thread
from lhuc_asr.ranking.encoding import Encoder
from lhuc_asr.ranking.model_folder import TrainedRanker, load_ranker, save_ranker
from lhuc_asr.ranking.ranker import Ranker
from lhuc_asr.ranking.ranker_config import RankerConfig
from lhuc_asr.ranking.schema import ClickLog
from lhuc_asr.ranking.sharding import shard_tables, whole_state
from lhuc_asr.ranking.training import RankerTrainingConfig, train_ranker
from lhuc_asr.training.processes.distributed import is_first, own_share
from lhuc_asr.units import Seconds

RUN_FILE = "run.json"
"""It is written last: a folder with it is finished."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a system is trained on, and how.

    Attributes:
        train: impressions to learn from.
        dev: later impressions, which tell the best epoch.
        ranker: the model.
        training: how it learns.
        data: name of the data set, to tell runs on others apart.
    """

    train: ClickLog
    dev: ClickLog
    ranker: RankerConfig
    training: RankerTrainingConfig
    data: str


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a run tells of itself.

    Attributes:
        seed: of weights and of the order of impressions.
        best_epoch: whose weights it has.
        num_epochs: that it took.
        gauc: task -> order within users on dev.
        seconds: of training; 0 where it was finished before.
        is_new: whether it was trained now.
    """

    seed: int
    best_epoch: int
    num_epochs: int
    gauc: Mapping[str, float]
    seconds: Seconds
    is_new: bool


def run_folder(system: Path, seed: int) -> Path:
    """Where a system's run with this seed lies."""
    return system / f"seed-{seed}"


def train_seeds(system: Path, lesson: Lesson, seeds: Sequence[int], *, num_jobs: int = 1) -> Iterator[FinishedRun]:
    """Train a system once with every seed; runs that are finished are only told.

    Args:
        system: folder of the system.
        lesson: equal for all its runs.
        seeds: of the runs.
        num_jobs: runs at a time, one thread each, where there is one process; results do not depend on it.

    Raises:
        ConfigError: a finished run was made with other settings.
        DataError: the log cannot be learnt from.
    """
    for seed in seeds:
        _require_equal(run_folder(system, seed) / RUN_FILE, lesson)
    encoder = Encoder.of(lesson.train)
    if any(not (run_folder(system, seed) / RUN_FILE).is_file() for seed in seeds):
        encoder.tell_unknown(lesson.dev, part="dev")
    if own_share().of > 1:
        yield from (_train_seed(system, lesson, encoder, seed) for seed in seeds)
        return
    work = partial(_train_seed, system, lesson, encoder)
    yield from map_in_processes(work, seeds, num_jobs=min(num_jobs, len(seeds)))


def finished_seeds(system: Path) -> list[int]:
    """Seeds of the finished runs of a system.

    Raises:
        ModelError: there is none.
    """
    names = [path.parent.name.removeprefix("seed-") for path in system.glob(f"seed-*/{RUN_FILE}")]
    if not names:
        raise ModelError(f"'{system}' has no finished run: lhuc-rank train makes them")
    return sorted(int(name) for name in names if name.isdecimal())


def load_run(system: Path, seed: int, config: RankerConfig) -> TrainedRanker:
    """The model of a finished run."""
    return load_ranker(run_folder(system, seed), config)


def _train_seed(system: Path, lesson: Lesson, encoder: Encoder, seed: int) -> FinishedRun:
    folder = run_folder(system, seed)
    if (folder / RUN_FILE).is_file():
        return _read(folder / RUN_FILE)
    with one_thread():
        return _train(folder, lesson, encoder, seed)


def _train(folder: Path, lesson: Lesson, encoder: Encoder, seed: int) -> FinishedRun:
    began = time.perf_counter()
    torch.manual_seed(seed)
    ranker = _fresh(encoder, lesson.ranker)
    report = train_ranker(ranker, encoder, lesson.train, lesson.dev, lesson.training, seed=seed)
    whole = _whole(ranker, encoder, lesson.ranker)
    run = FinishedRun(
        seed=seed,
        best_epoch=report.best_epoch,
        num_epochs=len(report.history),
        gauc={task: score.gauc.value for task, score in report.best.held_out.items()},
        seconds=time.perf_counter() - began,
        is_new=True,
    )
    if not is_first():
        return run
    save_ranker(folder, TrainedRanker(whole, encoder))
    history = [{task: score.gauc.value for task, score in epoch.held_out.items()} for epoch in report.history]
    write_json(folder / RUN_FILE, {**asdict(run), "history": history, "settings": _settings(lesson)})
    return run


def _fresh(encoder: Encoder, config: RankerConfig) -> Ranker:
    """A model that has learnt nothing; its tables are divided where there are several processes."""
    if own_share().of == 1:
        return Ranker(encoder, config)
    ranker = Ranker(encoder, config, deferred=True)
    shard_tables(ranker)
    return ranker


def _whole(ranker: Ranker, encoder: Encoder, config: RankerConfig) -> Ranker:
    """The model as one process has it, in the first process; all others help to gather it."""
    if own_share().of == 1:
        return ranker
    state = whole_state(ranker)
    if not is_first():
        return ranker
    whole = Ranker(encoder, config)
    whole.load_state_dict(state)
    return whole


def _settings(lesson: Lesson) -> dict[str, Any]:
    """Everything that a run depends on but its seed, as values for JSON."""
    settings = {"data": lesson.data, "ranker": asdict(lesson.ranker), "ranker_training": asdict(lesson.training)}
    plain: dict[str, Any] = _plain(settings)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return getattr(value, "name", value)  # members of enumerations by name


def _read(path: Path) -> FinishedRun:
    page = _page(path)
    found = {name: page[name] for name in ("seed", "best_epoch", "num_epochs", "gauc")}
    return FinishedRun(**found, seconds=0.0, is_new=False)


def _require_equal(path: Path, lesson: Lesson) -> None:
    if not path.is_file():
        return
    asked, found = _flat(_settings(lesson)), _flat(_page(path)["settings"])
    for name in sorted(asked.keys() | found.keys()):
        if asked.get(name) != found.get(name):
            raise ConfigError(
                f"'{path.parent}' was trained with {name}={found.get(name)!r}, now asked {asked.get(name)!r}: "
                "take another --out, or remove the folder"
            )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _page(path: Path) -> dict[str, Any]:
    try:
        page: dict[str, Any] = read_json(path)
        return {**page, "settings": page["settings"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"'{path}' does not tell of a run: {error}; remove its folder to run again") from error
