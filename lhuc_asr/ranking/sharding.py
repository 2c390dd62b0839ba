"""Embedding tables divided among processes, so that no process holds all rows; torch's own engine moves the vectors.

Every process has its part of the rows of every table, and its share of every minibatch. For a lookup all processes
learn all ids of the minibatch, each gives the vectors that it has, and each gets those of its share; gradients go the
same way back. What is sent grows with the number of processes times the minibatch, not with the tables.

When not to use it: where the tables fit one machine; then each lookup is a matter of memory alone. And beyond some tens
of processes an engine that sends each id only to the process that has it (torchrec) sends less.
"""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.distributed.tensor.parallel import RowwiseParallel, parallelize_module

from lhuc_asr.ranking.embedding import Embeddings
from lhuc_asr.ranking.ranker import Ranker


def shard_tables(ranker: Ranker, device: str = "cpu") -> None:
    """Divide the tables of a ranker that was made with ``deferred=True`` among all processes, and fill them.

    The rows have the values that they would have in one process. From then on all processes call the ranker together,
    each with equally many impressions.

    Args:
        ranker: the same in every process.
        device: what the processes compute on, ``cpu`` or ``cuda``.
    """
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for part in (part for part in ranker.modules() if isinstance(part, Embeddings)):
        for table in part.each_table():
            table.sparse = False
            parallelize_module(table, mesh, RowwiseParallel(input_layouts=Shard(0), output_layouts=Shard(0)))
        part.to_empty(device=device)
        for number, table in enumerate(part.each_table()):
            weight = table.weight
            assert isinstance(weight, DTensor)
            _, (first_row, _) = compute_local_shape_and_global_offset(weight.shape, mesh, weight.placements)
            part.fill(number, weight.to_local(), first_row=first_row)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the parts of all processes; all of them must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
