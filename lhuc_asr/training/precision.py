"""Arithmetic of the forward and backward pass; weights and their updates are float32 in all."""

from __future__ import annotations

from enum import Enum

import torch


class Precision(Enum):
    """Number format of the matrix products.

    bfloat16 is three to four times faster on processors with AMX and slower on others; auto takes it only there.
    """

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


def resolve(precision: Precision, device: torch.device) -> Precision:
    """What auto means on this device; the others mean themselves."""
    if precision is not Precision.auto:
        return precision
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu.get_capabilities().get("amx_bf16")
    return Precision.bfloat16 if fast else Precision.float32
