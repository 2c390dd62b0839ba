"""Steps of single rows of a table, with a memory that only the rows concerned are drawn into."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam

from lhuc_asr.lhuc.scale_table import RowGradients

# U rows that are stepped, D parameters of a row.


class RowUpdateKind(Enum):
    """Plain gradient descent, or Adam with a clock for every row."""

    sgd = "sgd"
    adam = "adam"


class RowUpdate(Protocol):
    """Changes rows of a table along their gradients."""

    def step(self, table: Tensor, found: RowGradients, lr: float) -> None:
        """Change the rows that were found, in place, and no others."""

    def memory(self) -> dict[str, Tensor]:
        """What is remembered from step to step."""

    def restore(self, memory: Mapping[str, Tensor]) -> None:
        """Take over what `memory` gave."""

    def forget(self) -> None:
        """Begin anew."""


class RowSgd:
    """Gradient descent without momentum: a row that is seldom seen has no memory worth keeping."""

    def step(self, table: Tensor, found: RowGradients, lr: float) -> None:
        """Go down the gradient."""
        table.index_add_(0, found.rows, found.gradients, alpha=-lr)

    def memory(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, memory: Mapping[str, Tensor]) -> None:
        """Nothing is to be restored."""

    def forget(self) -> None:
        """Nothing is to be forgotten."""


class RowAdam:
    """Adam whose means of a row move only when the row is seen, and whose correction counts the row's own steps.

    Where every step sees all rows it is Adam; `torch.optim.SparseAdam` counts the steps of all rows together, and so
    begins a speaker who comes late with steps that are too long.

    Args:
        table: (S + 1, D) what will be stepped.
        beta1: decay of the mean gradient.
        beta2: decay of the mean square.

    Example:
        >>> table = torch.zeros(3, 2)
        >>> found = RowGradients(torch.tensor([1]), torch.tensor([[4.0, -0.5]]))
        >>> RowAdam(table).step(table, found, lr=0.1)
        >>> table
        tensor([[ 0.0000,  0.0000],
                [-0.1000,  0.1000],
                [ 0.0000,  0.0000]])

    Source: Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1.
    """

    def __init__(self, table: Tensor, *, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.beta1, self.beta2 = beta1, beta2
        self._mean, self._square = torch.zeros_like(table), torch.zeros_like(table)
        self._num_steps = table.new_zeros(len(table))

    def step(self, table: Tensor, found: RowGradients, lr: float) -> None:
        """Go down the mean gradient, in units of its size; to torch every row is a parameter of its own."""
        rows = found.rows.tolist()
        adam(
            [table[row] for row in rows],
            list(found.gradients),
            [self._mean[row] for row in rows],
            [self._square[row] for row in rows],
            [],
            [self._num_steps[row] for row in rows],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=self.beta1,
            beta2=self.beta2,
            lr=lr,
            weight_decay=0.0,
            eps=1e-8,
        )

    def memory(self) -> dict[str, Tensor]:
        """Mean, mean square, and number of steps of every row."""
        return {"mean": self._mean, "square": self._square, "num_steps": self._num_steps}

    def restore(self, memory: Mapping[str, Tensor]) -> None:
        """Take over what `memory` gave."""
        for name, tensor in self.memory().items():
            tensor.copy_(memory[name])

    def forget(self) -> None:
        """Begin anew."""
        for tensor in self.memory().values():
            tensor.zero_()
