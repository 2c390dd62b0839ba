"""When an output may be scaled where it lies: nobody else has it, and nobody will ask how it was."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.lhuc.example import tensors_of


def is_free(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: object) -> bool:
    """Whether a layer's output may be overwritten: it saves memory and half of the time that scaling takes.

    So it is only while no gradient is computed, for the layers of torch itself, which keep nothing of what they give,
    unless they gave their input back (dropout in evaluation mode, ReLU in place), and unless another hook has seen it.

    Args:
        layer: whose output it is.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
        output: what it gave.

    Example:
        >>> x = torch.ones(2)
        >>> with torch.no_grad():
        ...     is_free(nn.Sigmoid(), (x,), {}, nn.Sigmoid()(x)), is_free(nn.Identity(), (x,), {}, x)
        (True, False)
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or type(output) is not Tensor or output._is_view():
        return False
    if not type(layer).__module__.startswith("torch.nn.modules.") or layer._modules or len(layer._forward_hooks) > 1:
        return False
    place = output.untyped_storage().data_ptr()
    others = chain(tensors_of(args), tensors_of(kwargs), layer._parameters.values(), layer._buffers.values())
    return all(other is None or other.untyped_storage().data_ptr() != place for other in others)
