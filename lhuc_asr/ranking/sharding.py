"""Embedding tables divided among processes, so that no process holds all rows.

Every process has its part of the rows of every table, and its share of every minibatch. For a lookup all processes
learn all ids of the minibatch, each adds the vectors that it has, and each gets the sums of its share; gradients go the
same way back. Gradients are sparse: beside the rows, only what a minibatch touches takes memory. (Torch's own
`RowwiseParallel` divides tables too, but makes a dense gradient, as large as the part.)

When not to use it: where the tables fit one machine; then a lookup is a matter of memory alone. And beyond some tens of
processes an engine that sends each id only to the process that has it, such as torchrec, sends less.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_gather_tensor, reduce_scatter_tensor_autograd

from lhuc_asr.ranking.embedding import Embeddings
from lhuc_asr.ranking.ranker import Ranker


class DividedTable(nn.Embedding):
    """The rows of a table that this process has; a lookup asks all processes.

    Args:
        num_rows: of the whole table.
        dim: width of a vector.
        device: where the rows lie; the processes must be joined by a backend for it.
    """

    def __init__(self, num_rows: int, dim: int, device: str) -> None:
        self.num_rows, self.each = num_rows, -(-num_rows // dist.get_world_size())
        self.first_row = min(dist.get_rank() * self.each, num_rows)
        own = min(self.each, num_rows - self.first_row)
        super().__init__(own, dim, sparse=True, device="meta")
        self.to_empty(device=device)

    def forward(self, rows_B: Tensor) -> Tensor:
        """(B,) rows, equally many in every process -> (B, D) vectors."""
        everyones_N = all_gather_tensor(rows_B.contiguous(), 0, _all_processes()) - self.first_row
        mine_K = ((everyones_N >= 0) & (everyones_N < self.num_embeddings)).nonzero().squeeze(1)
        vectors_KD = super().forward(everyones_N[mine_K])
        sums_ND = vectors_KD.new_zeros(len(everyones_N), self.embedding_dim).index_copy(0, mine_K, vectors_KD)
        found_BD: Tensor = reduce_scatter_tensor_autograd(sums_ND, "sum", 0, _all_processes())
        if found_BD.requires_grad:
            # what goes back to the processes must lie in one piece
            found_BD.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
        return found_BD

    @torch.no_grad()
    def whole(self) -> Tensor:
        """(V, D) the rows of all processes; all of them must ask for it."""
        own = self.weight.new_zeros(self.each, self.embedding_dim)
        own[: self.num_embeddings] = self.weight
        return all_gather_tensor(own, 0, _all_processes())[: self.num_rows].clone()


def shard_tables(ranker: Ranker, device: str = "cpu") -> None:
    """Divide the tables of a ranker that was made with ``deferred=True`` among all processes, and fill them.

    The rows have the values that they would have in one process. From then on all processes call the ranker together,
    each with equally many impressions.

    Args:
        ranker: the same in every process.
        device: what the processes compute on, ``cpu`` or ``cuda``.
    """
    for part in (part for part in ranker.modules() if isinstance(part, Embeddings)):
        divide(part, device)


def divide(embeddings: Embeddings, device: str = "cpu") -> None:
    """The same for some tables that were made with ``deferred=True``."""
    for number, table in enumerate(list(embeddings.each_table())):
        divided = DividedTable(table.num_embeddings, table.embedding_dim, device)
        embeddings.fill(number, divided.weight, first_row=divided.first_row)
        embeddings.tables[number] = divided


def whole_state(ranker: Ranker) -> dict[str, Tensor]:
    """The ``state_dict`` of the ranker as one process would have it; all processes must ask for it."""
    gathered = dict(_gathered(ranker))
    return {name: gathered.get(name, value) for name, value in ranker.state_dict().items()}


def _all_processes() -> dist.ProcessGroup:
    group = dist.group.WORLD
    assert group is not None, "tables are divided among processes that have joined"
    return group


def _gathered(ranker: Ranker) -> Iterator[tuple[str, Tensor]]:
    for name, module in ranker.named_modules():
        if isinstance(module, DividedTable):
            yield f"{name}.weight", module.whole()
