"""Outputs whose utterances differ in length without padding: packed sequences and nested tensors, seen as rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

Ragged = PackedSequence | Tensor
"""A packed sequence, or a tensor with ``is_nested``."""


def is_ragged(output: Any) -> bool:
    """Whether this is a packed sequence or a nested tensor."""
    return isinstance(output, PackedSequence) or (isinstance(output, Tensor) and output.is_nested)


def rows_of(output: Ragged) -> Tensor:
    """(N, H) all frames of all utterances."""
    return output.data if isinstance(output, PackedSequence) else torch.cat(output.unbind())


def with_rows(output: Ragged, rows_NH: Tensor) -> Ragged:
    """The same sequences with other rows."""
    if isinstance(output, PackedSequence):
        return output._replace(data=rows_NH)
    lengths = [len(utterance) for utterance in output.unbind()]
    return torch.nested.as_nested_tensor(list(torch.split(rows_NH, lengths)))


def utterance_of_rows(output: Ragged) -> Tensor:
    """(N,) which utterance each row belongs to, counted in the order of the batch, before any sorting.

    Example:
        >>> from torch.nn.utils.rnn import pack_sequence
        >>> utterance_of_rows(pack_sequence([torch.ones(1, 4), torch.ones(3, 4)], enforce_sorted=False))
        tensor([1, 0, 1, 1])
    """
    if not isinstance(output, PackedSequence):
        lengths = torch.tensor([len(utterance) for utterance in output.unbind()])
        return torch.arange(len(lengths)).repeat_interleave(lengths).to(output.device)
    places = torch.cat([torch.arange(size) for size in output.batch_sizes.tolist()]).to(output.data.device)
    return places if output.sorted_indices is None else output.sorted_indices.index_select(0, places)
