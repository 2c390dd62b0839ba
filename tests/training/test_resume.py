"""A run that was broken off and resumed ends with the same bits as one that ran through."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers.interruption import Interrupted, Interruption, jitter, same_bits
from helpers.toy_speech import toy_config, toy_data, toy_network, toy_train
from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.files import read_json, write_json
from lhuc_asr.tensors import load_tensors
from lhuc_asr.training.loop import train
from lhuc_asr.training.optimiser import OptimiserConfig, OptimiserKind
from lhuc_asr.training.schedule.newbob import NewbobConfig
from lhuc_asr.training.tasks.frame_task import FrameTask


@pytest.mark.parametrize("kind", list(OptimiserKind))
@pytest.mark.parametrize(("stops", "batch_norm"), [((1,), False), ((8,), False), ((13,), True), ((3, 9, 1), True)])
def test_interrupted_runs_end_with_the_same_bits(
    tmp_path: Path, kind: OptimiserKind, stops: tuple[int, ...], batch_norm: bool
) -> None:
    config = toy_config(optimiser=OptimiserConfig(kind=kind), newbob=NewbobConfig(initial_lr=0.05, max_epochs=3))
    whole, pieces = toy_network(batch_norm=batch_norm), toy_network(batch_norm=batch_norm)
    report = toy_train(tmp_path / "whole", whole, config)
    for at in stops:
        pieces = toy_network(batch_norm=batch_norm)
        torch.manual_seed(at)
        with pytest.raises(Interruption):
            toy_train(tmp_path / "pieces", pieces, config, augment=Interrupted(at))
    pieces = toy_network(batch_norm=batch_norm)
    resumed = toy_train(tmp_path / "pieces", pieces, config)
    assert same_bits(whole, pieces)
    assert resumed.history == report.history


@pytest.mark.parametrize("at", [2, 7, 12])
def test_accumulated_minibatches_are_resumed_between_steps(tmp_path: Path, at: int) -> None:
    config = toy_config(num_accumulated=3)
    whole, pieces = toy_network(batch_norm=True), toy_network(batch_norm=True)
    report = toy_train(tmp_path / "whole", whole, config)
    with pytest.raises(Interruption):
        toy_train(tmp_path / "pieces", toy_network(batch_norm=True), config, augment=Interrupted(at))
    if (index := tmp_path / "pieces" / "checkpoint.json").exists():
        assert read_json(index)["progress"]["batch"] % 3 == 0
    assert toy_train(tmp_path / "pieces", pieces, config).history == report.history
    assert same_bits(whole, pieces)


def test_checkpoints_without_the_later_settings_are_resumed(tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        toy_train(tmp_path, toy_network(), augment=Interrupted(11))
    assert (
        not {"num_accumulated", "num_averaged"} & read_json(tmp_path / "checkpoint.json")["settings"]["training"].keys()
    )
    toy_train(tmp_path, toy_network())


def test_checkpoints_between_epochs_are_enough(tmp_path: Path) -> None:
    config = toy_config(checkpoint_minutes=60.0)
    whole, pieces = toy_network(), toy_network()
    toy_train(tmp_path / "whole", whole, config)
    with pytest.raises(Interruption):
        toy_train(tmp_path / "pieces", toy_network(), config, augment=Interrupted(11))
    toy_train(tmp_path / "pieces", pieces, config)
    assert same_bits(whole, pieces)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the program that is killed."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.mark.usefixtures("one_thread")
def test_a_killed_process_is_resumed_with_the_same_bits(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "helpers.toy_speech"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([*program, str(tmp_path / "killed")], env=environment)
    index = tmp_path / "killed" / "run" / "checkpoint.json"
    while child.poll() is None and not index.exists():
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it was killed before it ended"
    subprocess.run([*program, str(tmp_path / "killed")], env=environment, check=True)
    killed = load_tensors(tmp_path / "killed" / "weights.safetensors")
    whole = toy_network()
    toy_train(tmp_path / "whole", whole)
    assert all(torch.equal(killed[name], tensor) for name, tensor in whole.state_dict().items())


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    first, second = toy_network(), toy_network()
    report = toy_train(tmp_path, first)
    again = toy_train(tmp_path, second, augment=Interrupted(0))
    assert same_bits(first, second)
    assert (again.history, again.best_epoch) == (report.history, report.best_epoch)


def test_only_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    report = toy_train(tmp_path, toy_network())
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    last = f"last-{len(report.history):04d}-0000000.safetensors"
    assert names == [f"best-{report.best_epoch:04d}.safetensors", "checkpoint.json", last]


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    toy_train(tmp_path, toy_network())
    for change, name in (({"batch_size": 16}, "batch_size"), ({"num_accumulated": 2}, "training")):
        with pytest.raises(ConfigError, match=rf"other settings \(.*{name} was .*start anew"):
            toy_train(tmp_path, toy_network(), toy_config(**change))
    with pytest.raises(ConfigError, match="seed was 5, now 6"):
        toy_train(tmp_path, toy_network(), seed=6)
    toy_train(tmp_path, toy_network(), toy_config(checkpoint_minutes=1.0))


def test_other_features_and_another_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        toy_train(tmp_path, toy_network(), augment=Interrupted(5))
    louder = toy_data()
    louder.validation.frames.padded[-1] *= 2
    for data, order, name in ((louder, 5, "feats"), (toy_data(), 6, "order")):
        task = FrameTask(data, batch_size=32, seed=order, augment=jitter)
        with pytest.raises(ConfigError, match=rf"other settings \({name} was .*start anew"):
            train(toy_network(), task, toy_config(), tmp_path, seed=5)


def test_checkpoints_of_versions_that_noted_less_are_resumed(tmp_path: Path) -> None:
    whole, resumed = toy_network(), toy_network()
    toy_train(tmp_path / "whole", whole)
    with pytest.raises(Interruption):
        toy_train(tmp_path / "old", toy_network(), augment=Interrupted(11))
    index = read_json(tmp_path / "old" / "checkpoint.json")
    settings = {name: value for name, value in index["settings"].items() if name not in ("feats", "order")}
    write_json(tmp_path / "old" / "checkpoint.json", {**index, "version": 2, "settings": settings})
    with pytest.raises(ConfigError, match="seed was 5, now 6"):
        toy_train(tmp_path / "old", toy_network(), seed=6)
    toy_train(tmp_path / "old", resumed)
    assert same_bits(whole, resumed)


@pytest.mark.parametrize("which", ["last", "best"])
@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_damaged_checkpoints_are_refused_by_name(tmp_path: Path, which: str, damage: str) -> None:
    toy_train(tmp_path, toy_network())
    path = next(tmp_path.glob(f"{which}-*"))
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match=path.name):
        toy_train(tmp_path, toy_network())


def test_unreadable_and_newer_indexes_are_refused(tmp_path: Path) -> None:
    toy_train(tmp_path, toy_network())
    index = tmp_path / "checkpoint.json"
    write_json(index, {**read_json(index), "version": 99})
    with pytest.raises(ModelError, match="99"):
        toy_train(tmp_path, toy_network())
    for text in ("{", "[]", "{}"):
        index.write_text(text)
        with pytest.raises(ModelError, match="no checkpoint"):
            toy_train(tmp_path, toy_network())


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        toy_train(tmp_path, toy_network(), augment=Interrupted(10))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            toy_train(tmp_path, toy_network())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    whole, resumed = toy_network(), toy_network()
    toy_train(tmp_path / "whole", whole)
    toy_train(tmp_path, resumed)
    assert same_bits(whole, resumed)
