"""Tables divided among processes: the same rows at the start, the same training, a part of the memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.ranking import embedding
from lhuc_asr.ranking.embedding import Embeddings
from lhuc_asr.ranking.evaluation import share_of_rows
from lhuc_asr.tensors import load_tensors
from lhuc_asr.training.processes.shares import Share


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def results(directory: Path, processes: int) -> list[dict[str, torch.Tensor]]:
    directory.mkdir()
    common = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "helpers.ranking_processes", str(directory)],
            env={**os.environ, **common, "RANK": str(number), "LOCAL_RANK": str(number)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for process in running:
        said = process.communicate(timeout=250)[1]
        assert process.returncode == 0, said
    return [load_tensors(directory / f"{number}.safetensors") for number in range(processes)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    directory = tmp_path_factory.mktemp("processes")
    return results(directory / "one", 1)[0], results(directory / "two", 2)


def test_tables_begin_as_in_one_process_bit_for_bit(runs) -> None:
    alone, together = runs
    for name in (name for name in alone if name.startswith("begin.")):
        assert all(torch.equal(process[name], alone[name]) for process in together), name


def test_training_follows_that_of_one_process(runs) -> None:
    alone, together = runs
    for name in (name for name in alone if name.startswith("end.") or name == "probabilities"):
        for process in together:
            torch.testing.assert_close(process[name], alone[name], rtol=1e-3, atol=1e-5)


def test_every_process_has_a_part_of_every_table(runs) -> None:
    alone, together = runs
    parts = torch.stack([process["own_rows"] for process in together])
    assert torch.equal(parts.sum(dim=0), alone["own_rows"])
    assert (parts < alone["own_rows"]).all()


@given(st.integers(1, 40), st.integers(1, 39))
def test_rows_are_filled_the_same_however_a_table_is_divided(num_rows, cut):
    torch.manual_seed(0)
    embeddings = Embeddings({"a": num_rows}, ["a"], dim=2)
    parts, cut = torch.empty(num_rows, 2), min(cut, num_rows)
    embeddings.fill(0, parts[:cut], first_row=0)
    embeddings.fill(0, parts[cut:], first_row=cut)
    assert torch.equal(parts, next(embeddings.each_table()).weight)


def test_blocks_join_without_a_seam(monkeypatch):
    monkeypatch.setattr(embedding, "_BLOCK", 4)
    torch.manual_seed(0)
    embeddings = Embeddings({"a": 11}, ["a"], dim=2)
    whole = next(embeddings.each_table()).weight
    part = torch.empty(5, 2)
    embeddings.fill(0, part, first_row=3)
    assert torch.equal(part, whole[3:8]) and len(whole.unique(dim=0)) == 11


@given(st.integers(1, 20), st.integers(1, 6))
def test_shares_hold_every_row_once_and_are_alike_in_size(num_rows, of):
    shares = [share_of_rows(torch.arange(num_rows), Share(number, of)) for number in range(of)]
    taken = torch.cat([rows[weights > 0] for rows, weights in shares])
    assert taken.sort().values.tolist() == list(range(num_rows))
    assert len({len(rows) for rows, _ in shares}) == 1
