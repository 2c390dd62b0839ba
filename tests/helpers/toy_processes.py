"""A program that trains toy networks in the processes that torchrun, or a test, has started.

python toy_processes.py DIRECTORY SCENARIO [SCENARIO ...]     trains into DIRECTORY/SCENARIO, then the first process
writes DIRECTORY/SCENARIO.json (the curve) and every process DIRECTORY/SCENARIO-<number>.safetensors (its weights)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from helpers.interruption import jitter
from helpers.toy_speech import NUM_STATES, toy_config, toy_network, toy_train
from lhuc_asr.errors import LhucError
from lhuc_asr.files import read_json, write_json
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig
from lhuc_asr.system.stage import run_once
from lhuc_asr.tensors import load_tensors, save_tensors
from lhuc_asr.training.criteria.criterion import StateCrossEntropy
from lhuc_asr.training.examples.sequence_batches import SequenceConfig
from lhuc_asr.training.examples.sequence_data import SequenceData
from lhuc_asr.training.loop import TrainingReport, train
from lhuc_asr.training.processes.distributed import is_first, joined, own_share
from lhuc_asr.training.schedule.newbob import NewbobConfig
from lhuc_asr.training.utterance_task import UtteranceTask

Trained = tuple[AcousticNetwork, TrainingReport]


def dnn(directory: Path) -> Trained:
    """Frames, without anything that is drawn; the last minibatch of an epoch holds few."""
    network = toy_network(dropout=0.0)
    return network, toy_train(directory, network, toy_config(batch_size=60), augment=None)


def accumulated(directory: Path) -> Trained:
    """Two minibatches a step, the gradient shortened, and the mean of the best epochs."""
    config = toy_config(num_accumulated=3, num_averaged=2)
    config.optimiser.max_gradient_norm = 0.5
    network = toy_network(dropout=0.0)
    return network, toy_train(directory, network, config, augment=None)


def noisy(directory: Path) -> Trained:
    """Dropout, noise and batch normalisation, with a checkpoint after every step."""
    network = toy_network(batch_norm=True)
    return network, toy_train(directory, network)


def tdnn(directory: Path, *, batch_norm: bool = False) -> Trained:
    """Whole utterances of different lengths; some minibatches hold but one."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(5, NUM_STATES))
    feats = {f"u{i:02}": rng.normal(size=(int(n), 5)).astype(np.float32) for i, n in enumerate(rng.integers(9, 60, 24))}
    targets = {name: (matrix @ directions).argmax(axis=1) for name, matrix in feats.items()}
    parts = [SequenceData.gather(feats, names, targets) for names in (sorted(feats)[:18], sorted(feats)[18:])]
    config = toy_config(newbob=NewbobConfig(initial_lr=0.05, max_epochs=3, min_epochs=3))
    config.sequences = SequenceConfig(max_frames=150)
    task = UtteranceTask(*parts, StateCrossEntropy(), config.sequences, seed=5)
    shape = TdnnConfig(hidden_dim=12, dilations=[1, 2], batch_norm=batch_norm)
    network = Tdnn(shape, feat_dim=5, num_outputs=NUM_STATES, seed=1)
    return network, train(network, task, config, directory, seed=5)


def normalised(directory: Path) -> Trained:
    """The same with batch normalisation, whose statistics are those of a share."""
    return tdnn(directory, batch_norm=True)


def slow(directory: Path) -> Trained:
    """As noisy, so slow that somebody can break it off."""

    def waiting(windows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        time.sleep(0.05)
        return jitter(windows, generator)

    network = toy_network(batch_norm=True)
    return network, toy_train(directory, network, augment=waiting)


def stages(directory: Path) -> Trained:
    """A stage of the first process, with one inside it, then one of all processes; then all of it once more."""

    def alone(target: Path) -> None:
        run_once(target / "inner", [], lambda inner: write_json(inner / "made.json", own_share().number))
        time.sleep(0.2)  # so that processes that did not wait would come too early

    def of_all(target: Path) -> None:
        network, _ = dnn(target)
        save_tensors(network.state_dict(), target / "network.safetensors")

    for _ in range(2):
        run_once(directory / "alone", [], alone)
        assert read_json(directory / "alone" / "inner" / "made.json") == 0
        run_once(directory / "of_all", [], of_all, together=True)
    network = toy_network(dropout=0.0)
    network.load_state_dict(load_tensors(directory / "of_all" / "network.safetensors"))
    return network, TrainingReport(history=(), best_epoch=0, seconds=0.0)


def broken(directory: Path) -> Trained:
    """The second process finds something that is no number."""

    def poison(windows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return windows * float("nan") if own_share().number == 1 else windows

    network = toy_network()
    return network, toy_train(directory, network, augment=poison)


SCENARIOS: dict[str, Callable[[Path], Trained]] = {
    function.__name__: function for function in (dnn, accumulated, noisy, tdnn, normalised, stages, slow, broken)
}


def main(directory: Path, scenarios: list[str]) -> None:
    """Train them one after the other."""
    with joined() as share:
        for name in scenarios:
            network, report = SCENARIOS[name](directory / name)
            save_tensors(network.state_dict(), directory / f"{name}-{share.number}.safetensors")
            if is_first():
                page = {"averaged": report.averaged, "history": [asdict(epoch) for epoch in report.history]}
                write_json(directory / f"{name}.json", page)


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        main(Path(sys.argv[1]), sys.argv[2:])
    except LhucError as error:
        sys.exit(f"{type(error).__name__}: {error}")
