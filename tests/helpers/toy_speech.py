"""A small task that a network can learn, for the tests of this room; also a program that trains until it is killed.

python toy_speech.py DIRECTORY        trains into DIRECTORY/run, then writes DIRECTORY/weights.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helpers.interruption import jitter
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.tensors import save_tensors
from lhuc_asr.training.examples.frame_data import FrameData, TrainingData
from lhuc_asr.training.loop import TrainingConfig, TrainingReport, train
from lhuc_asr.training.optimiser import OptimiserConfig
from lhuc_asr.training.precision import Precision
from lhuc_asr.training.schedule.newbob import NewbobConfig
from lhuc_asr.training.tasks.frame_task import Augment, FrameTask

NUM_STATES = 6


def toy_data() -> TrainingData:
    """Frames whose state is the direction that they point in, from six speakers, two of them held out."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(5, NUM_STATES))
    feats = {f"u{number}": rng.normal(size=(60, 5)).astype(np.float32) for number in range(6)}
    targets = {name: (matrix @ directions).argmax(axis=1) for name, matrix in feats.items()}
    gathered = [FrameData.gather(feats, targets, names, context=1) for names in (sorted(feats)[:4], sorted(feats)[4:])]
    return TrainingData(*gathered)


def toy_network(**settings: Any) -> Dnn:
    """Two narrow layers, with dropout so that randomness matters."""
    config = DnnConfig(**{"num_layers": 2, "hidden_dim": 16, "context": 1, "dropout": 0.1, **settings})
    return Dnn(config, feat_dim=5, num_outputs=NUM_STATES, seed=1)


def toy_config(**settings: Any) -> TrainingConfig:
    """Four epochs of eight minibatches, a checkpoint after every minibatch."""
    defaults = {
        "batch_size": 32,
        "checkpoint_minutes": 0.0,
        "precision": Precision.float32,
        "optimiser": OptimiserConfig(momentum=0.9, weight_decay=1e-4),
        "newbob": NewbobConfig(initial_lr=0.3, max_epochs=4, min_epochs=2),
    }
    return TrainingConfig(**{**defaults, **settings})


def toy_train(
    directory: Path,
    network: Dnn,
    config: TrainingConfig | None = None,
    *,
    seed: int = 5,
    augment: Augment | None = jitter,
) -> TrainingReport:
    """Train on the toy task."""
    config = config or toy_config()
    task = FrameTask(
        toy_data(),
        batch_size=config.batch_size,
        label_smoothing=config.label_smoothing,
        seed=seed,
        augment=augment,
    )
    return train(network, task, config, directory, seed=seed)


if __name__ == "__main__":
    torch.set_num_threads(1)
    trained = toy_network()
    toy_train(Path(sys.argv[1]) / "run", trained)
    save_tensors(trained.state_dict(), Path(sys.argv[1]) / "weights.safetensors")
