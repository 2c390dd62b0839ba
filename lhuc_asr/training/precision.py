"""Arithmetic of the forward and backward pass; weights and their updates are float32 in all."""

from __future__ import annotations

from enum import Enum

import torch

_AMPERE = (8, 0)
"""The first generation of GPUs with bfloat16 in hardware; asked, torch answers yes for older ones, which emulate it."""


class Precision(Enum):
    """Number format of the matrix products.

    bfloat16 is three to four times faster on processors with AMX and slower on others; auto takes it only there, and on
    GPUs that have it in hardware. It has the range of float32, so no gradient is lost and none need be scaled, as it
    would with float16.
    """

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


def resolve(precision: Precision, device: torch.device) -> Precision:
    """What auto means on this device; the others mean themselves."""
    if precision is not Precision.auto:
        return precision
    if device.type == "cuda":
        is_fast = torch.cuda.get_device_capability(device) >= _AMPERE
    else:
        is_fast = bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return Precision.bfloat16 if is_fast else Precision.float32
