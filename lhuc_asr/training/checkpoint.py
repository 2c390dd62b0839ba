"""Where training stands, on disk: enough to go on as if nothing had happened.

checkpoint.json              progress, settings of the run, names and SHA-256 of the two files below
last-<epoch>-<batch>.safetensors   weights and memory of the optimiser
best-<epoch>.safetensors     weights of the epoch with the lowest held-out loss
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
from lhuc_asr.training.newbob import NewbobState
from lhuc_asr.training.step import Tally

VERSION = 1

_INDEX = "checkpoint.json"


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


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands between two minibatches.

    Attributes:
        newbob: the schedule; ``newbob.num_epochs`` epochs are done.
        batch: minibatches of the current epoch that are done.
        tally: what the network made of them.
        history: the epochs that are done.
        best_epoch: epoch with the lowest held-out loss; 0 before the first.
    """

    newbob: NewbobState
    batch: int = 0
    tally: Tally = field(default=Tally())
    history: tuple[EpochReport, ...] = field(default=())
    best_epoch: int = 0

    @staticmethod
    def from_json(value: dict[str, Any]) -> Progress:
        """What ``dataclasses.asdict`` made of a progress."""
        history = tuple(EpochReport(**report) for report in value["history"])
        tally = Tally(*(value.pop(name) for name in ("loss_sum", "num_correct", "num_frames")))
        return Progress(**{**value, "newbob": NewbobState(**value["newbob"]), "tally": tally, "history": history})

    def to_json(self) -> dict[str, Any]:
        """JSON values, the tally unfolded."""
        value = asdict(self)
        tally = value.pop("tally")
        return {**value, **tally}


class CheckpointStore:
    """The checkpoint of one run in a directory of its own: the last one and the best weights."""

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """Nothing is read or written yet.

        Args:
            directory: may be missing.
            settings: JSON values that must be the same when a run is resumed.
        """
        self.directory = directory
        self._settings = dict(settings)
        self._files: dict[str, dict[str, str]] = {}

    def save(self, progress: Progress, last: Mapping[str, Tensor], best: Mapping[str, Tensor] | None = None) -> None:
        """Write a checkpoint; until its last byte is on disk the one before stays valid.

        Args:
            progress: where training stands.
            last: weights and memory of the optimiser.
            best: weights of the best epoch, where it is a new one.
        """
        files = dict(self._files)
        if best is not None:
            files["best"] = self._write(f"best-{progress.best_epoch:04d}.safetensors", best)
        name = f"last-{progress.newbob.num_epochs:04d}-{progress.batch:07d}.safetensors"
        files["last"] = self._write(name, last)
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
            self._compare(index["settings"])
            progress, files = Progress.from_json(index["progress"]), index["files"]
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, (ModelError, ConfigError)):
                raise
            raise ModelError(f"'{path}' is no checkpoint: {error}; delete '{self.directory}' to start anew") from error
        self._files = files
        return progress

    def last(self) -> dict[str, Tensor]:
        """Weights and memory of the optimiser at the checkpoint."""
        return self._read("last")

    def best(self) -> dict[str, Tensor]:
        """Weights of the best epoch."""
        return self._read("best")

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

    def _compare(self, found: Mapping[str, Any]) -> None:
        changed = [
            f"{name} was {found.get(name)!r}, now {self._settings.get(name)!r}"
            for name in sorted(found.keys() | self._settings.keys())
            if found.get(name) != self._settings.get(name)
        ]
        if changed:
            raise ConfigError(
                f"the training in '{self.directory}' began with other settings ({'; '.join(changed)}); "
                "use these again, or delete it or choose another directory to start anew"
            )
