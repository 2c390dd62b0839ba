"""How much memory embedding tables take while they learn, alone and divided among processes, and what more would ask.

Every figure is the growth of a fresh process: after the table is made, after AdaGrad has its memory, and at the peak of
a few steps that look up random ids.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from lhuc_asr.errors import ConfigError
from lhuc_asr.files import write_json
from lhuc_asr.parallel import peak_memory_gb
from lhuc_asr.ranking.embedding import Embeddings
from lhuc_asr.ranking.sharding import divide
from lhuc_asr.scoring.table import table

TRILLION = 10**12
_FORMAT = 1
_STEPS, _BATCH = 3, 4096
_LARGEST = 1 << 40


@dataclass(frozen=True, slots=True)
class Tables:
    """What is measured.

    Attributes:
        num_ids: rows of the table.
        dim: numbers of each.
        num_processes: that have a part of the rows each.
    """

    num_ids: int
    dim: int
    num_processes: int = 1

    def __post_init__(self) -> None:
        if self.num_ids * self.dim * 4 > _LARGEST:
            raise ConfigError(
                f"a table of {self.num_ids} ids of {self.dim} numbers takes more than 1 TiB; measure less"
            )


@dataclass(frozen=True, slots=True)
class Memory:
    """Growth of the largest of the processes, bytes.

    Attributes:
        weights: with the table alone.
        learning: with AdaGrad's sums as well.
        peak: while it learns.
    """

    weights: int
    learning: int
    peak: int

    def per_million_ids(self, of: Tables) -> dict[str, float]:
        """Megabytes that each process holds for a million ids of the whole table."""
        return {name: value / of.num_ids for name, value in asdict(self).items()}


def measure_tables(of: Tables) -> Memory:
    """Make and train a table in fresh processes.

    Raises:
        ConfigError: there is not memory enough.
    """
    with tempfile.TemporaryDirectory() as directory:
        work = partial(_grow, of, meeting=f"file://{directory}/meeting")
        with multiprocessing.get_context("spawn").Pool(of.num_processes) as pool:
            found = pool.map(work, range(of.num_processes), chunksize=1)
    return Memory(*(max(values) for values in zip(*found, strict=True)))


def _grow(of: Tables, number: int, *, meeting: str) -> tuple[int, int, int]:
    """What one process holds at each point, beyond what it held before."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if of.num_processes > 1:
        dist.init_process_group("gloo", init_method=meeting, rank=number, world_size=of.num_processes)
    _learn(replace(of, num_ids=2 * of.num_processes))  # so that all code that learning needs is loaded
    before = _held()
    weights, learning = _learn(of)
    peak = max(int(peak_memory_gb() * 2**30), learning)
    if of.num_processes > 1:
        dist.destroy_process_group()
    return weights - before, learning - before, peak - before


def _learn(of: Tables) -> tuple[int, int]:
    """What is held with the table, and what with AdaGrad's sums as well."""
    embeddings = Embeddings({"id": of.num_ids}, ["id"], dim=of.dim, deferred=of.num_processes > 1)
    if of.num_processes > 1:
        divide(embeddings)
    weights = _held()
    optimiser = torch.optim.Adagrad(embeddings.parameters(), lr=0.05)
    learning = _held()
    with torch.sparse.check_sparse_tensor_invariants(False):  # type: ignore[no-untyped-call]
        for _ in range(_STEPS):
            optimiser.zero_grad()
            embeddings(torch.randint(of.num_ids, (_BATCH, 1))).square().sum().backward()
            optimiser.step()
    return weights, learning


def _held() -> int:
    """Bytes of this process that lie in memory now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def tables_text(measured: Mapping[Tables, Memory], *, machine_gib: float) -> str:
    """A line for each number of processes, then what a trillion parameters would ask for."""
    titles = ["processes", "weights", "with AdaGrad", "peak in a step", "bytes a parameter"]
    rows = [
        [
            f"{of.num_processes}",
            *(f"{value:.1f}" for value in memory.per_million_ids(of).values()),
            f"{_bytes(of, memory):.1f}",
        ]
        for of, memory in measured.items()
    ]
    (of, memory), *_ = measured.items()
    needed = TRILLION * memory.learning * of.num_processes / (of.num_ids * of.dim)
    return (
        f"MB that a process holds for a million ids of {of.dim} numbers (float32); measured with {of.num_ids:,} ids\n"
        f"{table([titles, *rows])}\n"
        f"A table of 10^12 parameters holds {TRILLION / of.dim / 1e9:,.1f} thousand million ids. With AdaGrad's sums "
        f"it would take {needed / 1e12:,.1f} TB:\nthe memory of {needed / 2**30 / machine_gib:,.0f} machines like this "
        f"one ({machine_gib:,.0f} GiB), before anything else."
    )


def _bytes(of: Tables, memory: Memory) -> float:
    """Of the peak, all processes together."""
    return memory.peak * of.num_processes / (of.num_ids * of.dim)


def machine_memory_gib() -> float:
    """Memory of this machine."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemTotal")) / 2**20


def write_tables_report(
    path: Path, measured: Mapping[Tables, Memory], *, machine: Mapping[str, Any], commit: str, command: Sequence[str]
) -> None:
    """Write all figures, and where they come from, as JSON."""
    content = {
        "format": _FORMAT,
        "benchmark": "tables",
        "commit": commit,
        "command": list(command),
        "machine": dict(machine),
        "measured": [{**asdict(of), "bytes": asdict(memory)} for of, memory in measured.items()],
    }
    write_json(path, content)
