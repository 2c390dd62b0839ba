"""Where training stands, on disk: enough to go on as if nothing had happened.

checkpoint.json              progress, settings of the run, names and SHA-256 of the files below
last-<epoch>-<batch>.safetensors   weights and memory of the optimiser
best-<epoch>.safetensors     weights of an epoch that did best on the held-out speakers, one or several
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.files import read_json, sha256, write_json
from lhuc_asr.tensors import load_tensors, save_tensors
from lhuc_asr.training.schedule.newbob import NewbobState
from lhuc_asr.training.step import Tally
from lhuc_asr.training.tasks.evaluation import FrameScore

VERSION = 3

_INDEX = "checkpoint.json"
_LAST = "last"


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One epoch in figures.

    Attributes:
        epoch: from 1.
        lr: learning rate.
        train_loss: mean of the minibatch objectives, nats a frame.
        train_accuracy: share of frames right, on the way.
        valid_loss: cross-entropy of the held-out speakers afterwards, nats a frame.
        valid_accuracy: share of their frames right, 0 to 1.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float

    @property
    def score(self) -> FrameScore:
        """How the held-out speakers were recognised afterwards."""
        return FrameScore(loss=self.valid_loss, accuracy=self.valid_accuracy)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands between two minibatches.

    Attributes:
        newbob: the schedule; ``newbob.num_epochs`` epochs are done.
        batch: minibatches of the current epoch that are done.
        tally: what the network made of them.
        history: the epochs that are done.
        kept: epochs whose weights are kept, those that did best on the held-out speakers, the best one first.
    """

    newbob: NewbobState
    batch: int = 0
    tally: Tally = field(default=Tally())
    history: tuple[EpochReport, ...] = field(default=())
    kept: tuple[int, ...] = ()

    @property
    def best_epoch(self) -> int:
        """The epoch that did best on the held-out speakers; 0 before the first."""
        return self.kept[0] if self.kept else 0

    @staticmethod
    def from_json(value: dict[str, Any]) -> Progress:
        """What `to_json` made of a progress."""
        history = tuple(EpochReport(**report) for report in value["history"])
        tally = Tally(*(value.pop(name) for name in ("loss_sum", "num_correct", "num_frames")))
        newbob, kept = NewbobState(**value.pop("newbob")), tuple(value.pop("kept"))
        return Progress(**{**value, "newbob": newbob, "tally": tally, "history": history, "kept": kept})

    def to_json(self) -> dict[str, Any]:
        """JSON values, the tally unfolded."""
        value = asdict(self)
        tally = value.pop("tally")
        return {**value, **tally}


class CheckpointStore:
    """The checkpoint of one run in a directory of its own: the last one and the weights of the best epochs."""

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """Nothing is read or written yet.

        Args:
            directory: may be missing.
            settings: JSON values that must be the same when a run is resumed.
        """
        self.directory = directory
        self._settings = dict(settings)
        self._files: dict[str, dict[str, str]] = {}

    def save(self, progress: Progress, last: Mapping[str, Tensor], epoch: Mapping[str, Tensor] | None = None) -> None:
        """Write a checkpoint; until its last byte is on disk the one before stays valid.

        Args:
            progress: where training stands.
            last: weights and memory of the optimiser.
            epoch: weights of the epoch that has just ended, where it is one of those to keep.
        """
        files = {key: entry for key, entry in self._files.items() if key in map(str, progress.kept)}
        if epoch is not None:
            number = progress.newbob.num_epochs
            files[str(number)] = self._write(f"best-{number:04d}.safetensors", epoch)
        name = f"last-{progress.newbob.num_epochs:04d}-{progress.batch:07d}.safetensors"
        files[_LAST] = self._write(name, last)
        index = {"version": VERSION, "settings": self._settings, "progress": progress.to_json(), "files": files}
        write_json(self.directory / _INDEX, index)
        self._files = files
        self._remove_others()

    def load(self) -> Progress | None:
        """Where the run stands; None when it has not begun.

        Raises:
            ConfigError: the run began with other settings; the text names them.
            ModelError: the checkpoint is damaged or of a newer format.
        """
        path = self.directory / _INDEX
        if not path.is_file():
            return None
        try:
            index = read_json(path)
            if index["version"] > VERSION:
                raise ModelError(f"'{path}' has format version {index['version']}; update lhuc_asr")
            if index["version"] == 1:
                _renew(index)
            self._compare(index["settings"], index["version"])
            progress, files = Progress.from_json(index["progress"]), index["files"]
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, (ModelError, ConfigError)):
                raise
            raise ModelError(f"'{path}' is no checkpoint: {error}; delete '{self.directory}' to start anew") from error
        self._files = files
        return progress

    def last(self) -> dict[str, Tensor]:
        """Weights and memory of the optimiser at the checkpoint."""
        return self._read(_LAST)

    def epoch(self, number: int) -> dict[str, Tensor]:
        """Weights of an epoch that was kept."""
        return self._read(str(number))

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        save_tensors(tensors, self.directory / name)
        return {"name": name, "sha256": sha256(self.directory / name)}

    def _read(self, which: str) -> dict[str, Tensor]:
        path = self.directory / self._files[which]["name"]
        if not path.is_file() or sha256(path) != self._files[which]["sha256"]:
            raise ModelError(f"'{path}' is missing or damaged; delete '{self.directory}' to start training anew")
        return load_tensors(path)

    def _remove_others(self) -> None:
        kept = {entry["name"] for entry in self._files.values()}
        for pattern in ("last-*.safetensors", "best-*.safetensors"):
            for path in self.directory.glob(pattern):
                if path.name not in kept:
                    path.unlink(missing_ok=True)

    def _compare(self, found: Mapping[str, Any], version: int) -> None:
        """Refuse other settings; versions before 3 noted fewer, and those that they did not are taken on trust."""
        noted = found.keys() | self._settings.keys() if version >= 3 else found.keys() & self._settings.keys()
        changed = [
            f"{name} was {found.get(name)!r}, now {self._settings.get(name)!r}"
            for name in sorted(noted)
            if found.get(name) != self._settings.get(name)
        ]
        if changed:
            raise ConfigError(
                f"the training in '{self.directory}' began with other settings ({'; '.join(changed)}); "
                "use these again, or delete it or choose another directory to start anew"
            )


def _renew(index: dict[str, Any]) -> None:
    """Make an index of version 1, which knew one best epoch, one of version 2."""
    best = index["progress"].pop("best_epoch")
    index["progress"]["kept"] = [best] if best else []
    if best:
        index["files"][str(best)] = index["files"].pop("best")
