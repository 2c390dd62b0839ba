"""Embeddings: a table of vectors for every id feature, looked up and put side by side.

Shape suffixes: B impressions, S id features of the log, E all vectors side by side, V rows and D width of a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lhuc_asr.ranking.vocabulary import UNKNOWN

_BLOCK = 1 << 16


class Embeddings(nn.Module):
    """Tables of some of a log's id features.

    Vectors begin with a length of about 1, so that a gate can tell ids apart from its first steps. The default row
    begins at 0, in the middle of all others, and is what ids get that training never saw.

    Args:
        num_rows: every id feature of the log, in its order -> rows of its table.
        chosen: the features that have a table here.
        dim: width of a vector.
        deferred: take no memory yet; the tables are to be divided among processes, and then filled.

    Example:
        >>> embeddings = Embeddings({"user_id": 4, "item_id": 9}, ["item_id"], dim=2)
        >>> embeddings(torch.tensor([[1, 8], [3, 0]]))[1]
        tensor([0., 0.], grad_fn=<SelectBackward0>)
    """

    def __init__(self, num_rows: Mapping[str, int], chosen: Sequence[str], *, dim: int, deferred: bool = False) -> None:
        super().__init__()
        names = list(num_rows)
        self.places = [names.index(name) for name in chosen]
        self.width = len(chosen) * dim
        self.seeds = torch.randint(1 << 31, (len(chosen),)).tolist()
        self.tables = nn.ModuleList(nn.Embedding(num_rows[name], dim, sparse=True, device="meta") for name in chosen)
        if not deferred:
            self.to_empty(device="cpu")
            for number, table in enumerate(self.each_table()):
                self.fill(number, table.weight, first_row=0)

    def forward(self, rows_BS: Tensor) -> Tensor:
        """(B, S) rows of all features -> (B, E)."""
        vectors = [table(rows_BS[:, place]) for place, table in zip(self.places, self.tables, strict=True)]
        return torch.cat(vectors, dim=-1) if vectors else rows_BS.new_zeros((len(rows_BS), 0), dtype=torch.float32)

    def each_table(self) -> Iterator[nn.Embedding]:
        """The tables, in the order of the features that have one."""
        return (cast(nn.Embedding, table) for table in self.tables)

    @torch.no_grad()
    def fill(self, number: int, part_VD: Tensor, *, first_row: int) -> None:
        """Give rows of a table their initial values, which do not depend on how tables are divided.

        Args:
            number: of the table.
            part_VD: receives the values.
            first_row: which row of the table its first one is.
        """
        end, dim = first_row + len(part_VD), part_VD.shape[1]
        for block in range(first_row // _BLOCK, -(-end // _BLOCK)):
            values = torch.empty(_BLOCK, dim)
            values.normal_(std=dim**-0.5, generator=torch.Generator().manual_seed(self.seeds[number] + block))
            begin, stop = max(first_row, block * _BLOCK), min(end, (block + 1) * _BLOCK)
            part_VD[begin - first_row : stop - first_row] = values[begin - block * _BLOCK : stop - block * _BLOCK]
        if first_row <= UNKNOWN < end:
            part_VD[UNKNOWN - first_row] = 0
