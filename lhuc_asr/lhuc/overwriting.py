"""When an output may be scaled where it lies: nobody else has it, and nobody will ask how it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from lhuc_asr.lhuc.example import tensors_of


def keeps_nothing(layer: nn.Module) -> bool:
    """Whether a layer is one of torch's own, with torch's own ``forward``: it keeps nothing of what it gives."""
    return type(layer).__module__.startswith("torch.nn.modules.") and "forward" not in layer.__dict__


def is_free(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: object) -> bool:
    """Whether the output of a layer that keeps nothing may be overwritten: half of the time of scaling, no memory.

    So it is only while no gradient is computed, for plain tensors, unless the layer gave its input back (dropout in
    evaluation mode, ReLU in place), and unless another hook has seen the output.

    Args:
        layer: whose output it is; it `keeps_nothing`.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
        output: what it gave.

    Example:
        >>> x = torch.ones(2)
        >>> with torch.no_grad():
        ...     is_free(nn.Sigmoid(), (x,), {}, nn.Sigmoid()(x)), is_free(nn.Identity(), (x,), {}, x)
        (True, False)
    """
    if type(output) is not Tensor or torch.is_grad_enabled() or not output.is_floating_point():
        return False
    if output._is_view() or output.is_nested:
        return False
    if layer._modules or len(layer._forward_hooks) > 1 or torch_modules._global_forward_hooks:
        return False
    is_plain_call = len(args) == 1 and type(args[0]) is Tensor and not kwargs
    inputs = args if is_plain_call else (*tensors_of(args), *tensors_of(kwargs))
    try:
        place = output.untyped_storage().data_ptr()
        for other in (*inputs, *layer._parameters.values(), *layer._buffers.values()):
            if other is not None and other.untyped_storage().data_ptr() == place:
                return False
    except NotImplementedError:  # sparse tensors, and those of torch.vmap, do not lie in one place
        return False
    return True
