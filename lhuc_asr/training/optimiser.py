"""The step that follows a gradient, and its memory as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from lhuc_asr.ranges import require_at_least, require_share_below_one


class OptimiserKind(Enum):
    """Stochastic gradient descent with momentum, or Adam with decoupled weight decay."""

    sgd = "sgd"
    adam = "adam"


@dataclass(kw_only=True, slots=True)
class OptimiserConfig:
    """How gradients become steps; the learning rate belongs to the schedule.

    Attributes:
        kind: which optimiser.
        momentum: of sgd, and the first beta of adam.
        weight_decay: pull of weight matrices towards 0; biases are left alone.
        max_gradient_norm: longer gradients are shortened to this norm; 0 is never.
    """

    kind: OptimiserKind = OptimiserKind.sgd
    momentum: float = 0.9
    weight_decay: float = 0.0
    max_gradient_norm: float = 0.0

    def __post_init__(self) -> None:
        require_share_below_one(self, "training.optimiser", "momentum")
        require_at_least(0, self, "training.optimiser", "weight_decay", "max_gradient_norm")


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser for all parameters of a network; its learning rate is set before each epoch."""
    matrices = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if config.kind is OptimiserKind.adam:
        return torch.optim.AdamW(groups, lr=1.0, betas=(config.momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, lr=1.0, momentum=config.momentum, fused=True)


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Use this learning rate from the next step on."""
    for group in optimiser.param_groups:
        group["lr"] = lr


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimiser remembers, as ``<parameter number>.<name>`` -> tensor."""
    return {
        f"{index}.{name}": value
        for index, memory in optimiser.state_dict()["state"].items()
        for name, value in memory.items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the memory that ``optimiser_tensors`` read from one like it."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
