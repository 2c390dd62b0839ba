"""Values whose gradients are computed along with them, utterance by utterance, outside of torch's own bookkeeping."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

Found = TypeVar("Found")

# B utterances, T frames, V tied states


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, values: Tensor, gradients: Tensor) -> Tensor:
        ctx.save_for_backward(gradients)
        return values.to(gradients)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        return gradients * outer[0][:, None, None], None, None


def with_known_gradient(inputs_BTV: Tensor, values_B: Tensor, gradients_BTV: Tensor) -> Tensor:
    """Let a gradient flow through values that were computed elsewhere.

    Args:
        inputs_BTV: (B, T, V) what the values were computed from.
        values_B: (B,) one an utterance.
        gradients_BTV: (B, T, V) of every value by the inputs of its utterance, in their type.

    Returns:
        (B,) the values, in the type of the gradients.

    Example:
        >>> x = torch.tensor([[[3.0]]], requires_grad=True)
        >>> with_known_gradient(x, torch.tensor([9.0]), torch.tensor([[[6.0]]])).sum().backward()
        >>> x.grad.item()
        6.0
    """
    known: Tensor = _Known.apply(inputs_BTV, values_B, gradients_BTV)  # type: ignore[no-untyped-call]
    return known


def in_threads(one: Callable[[int], Found], count: int) -> list[Found]:
    """What a kernel that releases Python's lock finds for each utterance, on as many threads as torch has.

    Example:
        >>> in_threads(lambda utterance: 10 * utterance, 3)
        [0, 10, 20]
    """
    if torch.get_num_threads() == 1 or count == 1:
        return [one(index) for index in range(count)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(one, range(count)))
