"""Several processes: the curve of one, the same weights in all, resumed after a kill, and one clear line at the end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.toy_processes import SCENARIOS
from lhuc_asr.errors import ConfigError
from lhuc_asr.files import read_json
from lhuc_asr.tensors import load_tensors
from lhuc_asr.training.processes.distributed import (
    Device,
    by_first,
    first_alone,
    is_first,
    joined,
    own_device,
    own_share,
)
from lhuc_asr.training.processes.shares import ALL, Share

CURVES = ["dnn", "accumulated", "noisy", "tdnn", "normalised"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def started(directory: Path, *scenarios: str, processes: int = 2) -> list[subprocess.Popen[str]]:
    """The program in several processes, as torchrun starts them."""
    program = [sys.executable, "-m", "helpers.toy_processes", str(directory), *scenarios]
    common = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    return [
        subprocess.Popen(
            program,
            env={**os.environ, **common, "RANK": str(number), "LOCAL_RANK": str(number)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit codes and what was said."""
    said = [process.communicate(timeout=250)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes gave."""
    directory = tmp_path_factory.mktemp("together")
    results = ended(started(directory, *CURVES, "stages"))
    assert [code for code, _ in results] == [0, 0], results
    return directory


def curve(page: Any) -> list[tuple[float, float]]:
    return [(epoch["train_loss"], epoch["valid_loss"]) for epoch in page["history"]]


@pytest.mark.parametrize(
    ("scenario", "tolerance"), [("dnn", 1e-5), ("accumulated", 1e-5), ("tdnn", 1e-5), ("normalised", 0.05)]
)
def test_two_processes_follow_the_curve_of_one(together: Path, tmp_path: Path, scenario: str, tolerance: float) -> None:
    _, report = SCENARIOS[scenario](tmp_path)
    alone = [(epoch.train_loss, epoch.valid_loss) for epoch in report.history]
    page = read_json(together / f"{scenario}.json")
    for ours, theirs in zip(curve(page), alone, strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance)
    assert tuple(page["averaged"]) == report.averaged


def test_what_is_drawn_is_only_drawn_otherwise(together: Path, tmp_path: Path) -> None:
    _, report = SCENARIOS["noisy"](tmp_path)
    (*_, (_, valid_loss)) = curve(read_json(together / "noisy.json"))
    assert valid_loss == pytest.approx(report.history[-1].valid_loss, rel=0.15)


@pytest.mark.parametrize("scenario", CURVES)
def test_all_processes_have_the_same_weights(together: Path, scenario: str) -> None:
    first, second = (load_tensors(together / f"{scenario}-{number}.safetensors") for number in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first if not name.endswith("num_batches_tracked"))


def test_only_the_first_process_writes(together: Path) -> None:
    assert len(list((together / "dnn" / "tensorboard").iterdir())) == 1
    assert len(list((together / "dnn").glob("last-*"))) == 1


def test_stages_are_made_by_the_first_process_or_by_all_together(together: Path) -> None:
    trained, again = (load_tensors(together / f"{name}-1.safetensors") for name in ("dnn", "stages"))
    assert all(torch.equal(trained[name], again[name]) for name in trained)
    assert sorted(path.name for path in (together / "stages").iterdir()) == ["alone", "of_all"]


def test_killed_processes_are_resumed_with_the_same_bits(together: Path, tmp_path: Path) -> None:
    processes = started(tmp_path, "slow")
    index = tmp_path / "slow" / "checkpoint.json"
    while processes[0].poll() is None and not index.exists():
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    assert all(code == -signal.SIGKILL for code, _ in ended(processes))
    shutil.copytree(tmp_path / "slow", tmp_path / "noisy")
    assert [code for code, _ in ended(started(tmp_path, "noisy"))] == [0, 0]
    for number in (0, 1):
        whole, killed = (load_tensors(place / f"noisy-{number}.safetensors") for place in (together, tmp_path))
        counted = {name for name in whole if name.endswith("num_batches_tracked")}
        assert all(torch.equal(whole[name], killed[name]) for name in whole.keys() - counted)


def test_a_failing_process_ends_all_with_a_clear_line(tmp_path: Path) -> None:
    (first, said), (second, named) = ended(started(tmp_path, "broken"))
    assert first and second
    assert "DataError: the objective is nan in minibatch 1 of epoch 1" in named
    assert "WorkerError: another of the 2 processes has ended" in said
    assert "Traceback" not in said + named


def test_alone_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as share, first_alone():
        assert share == own_share() == ALL
        assert is_first()
        assert by_first(lambda: 3) == 3


def test_incomplete_variables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match=r"no process of torchrun's.*RANK"), joined():
        pass


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ConfigError, match=r"finds 1 GPUs.*training\.device=cpu"):
        own_device(Device.cuda)
    assert own_device(Device.cpu) == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert own_device(Device.cuda) == torch.device("cuda", 0)


@given(st.lists(st.integers(1, 1000)), st.integers(1, 5))
def test_shares_are_even_and_whole(costs: list[int], num_processes: int) -> None:
    shares = [Share(number, num_processes).among(costs) for number in range(num_processes)]
    assert sorted(index for share in shares for index in share) == list(range(len(costs)))
    sums = [sum(costs[index] for index in share) for share in shares]
    assert max(sums) - min(sums) <= max(costs, default=0)
    assert all(share == sorted(share) for share in shares)
