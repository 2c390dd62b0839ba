"""TensorBoard scalars of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lhuc_asr.training.checkpoint import EpochReport


class ScalarBoard:
    """Writes the figures of every epoch where ``tensorboard --logdir`` finds them."""

    def __init__(self, directory: Path) -> None:
        """Nothing is written before the first epoch ends."""
        self.directory = directory
        self._writer: Any = None

    def write(self, report: EpochReport) -> None:
        """Add one epoch; one that is written twice, before and after a kill, counts once."""
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(str(self.directory), purge_step=report.epoch)
        scalars = {
            "learning_rate": report.lr,
            "loss/training": report.train_loss,
            "loss/held_out": report.valid_loss,
            "accuracy/training": report.train_accuracy,
            "accuracy/held_out": report.valid_accuracy,
        }
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, report.epoch)
        self._writer.flush()

    def close(self) -> None:
        """All is on disk."""
        if self._writer is not None:
            self._writer.close()
