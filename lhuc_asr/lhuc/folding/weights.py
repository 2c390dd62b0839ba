"""Layers whose weights can take factors in: into the columns of what they read, or into the rows of what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.lhuc.folding.passing import Labels, Stops, constant
from lhuc_asr.lhuc.folding.tracing import Call, Trace

_CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}
_NORM_WEIGHTS = {"batch_norm": (3, 4), "layer_norm": (2, 3), "group_norm": (2, 3), "rms_norm": (2, None)}
"""Normalisations with weights: places of weight and bias among their arguments."""


@dataclass(frozen=True, eq=False)
class Rescaling:
    """One weight that takes factors in.

    Attributes:
        name: of the parameter, as ``named_parameters`` gives it.
        units: shape that broadcasts to the parameter's: for each of its numbers the unit whose factor it takes, or -1.
    """

    name: str
    units: Tensor


@dataclass(frozen=True)
class Normalisation:
    """A batch normalisation whose input is scaled: its mean moves into its bias first, then its weight is scaled."""

    weight: str
    bias: str
    mean: str
    variance: str
    eps: float


@dataclass(frozen=True, eq=False)
class Fold:
    """What changes in one layer.

    Attributes:
        layer: its name.
        rescalings: its weights that take factors in.
        normalisation: set for a batch normalisation that reads scaled units.
    """

    layer: str
    rescalings: tuple[Rescaling, ...]
    normalisation: Normalisation | None = None

    @property
    def touched(self) -> Iterator[str]:
        """Names of all parameters and buffers that change."""
        yield from (rescaling.name for rescaling in self.rescalings)
        if self.normalisation is not None:
            yield from (self.normalisation.bias, self.normalisation.mean)

    @property
    def read(self) -> Iterator[str]:
        """Names of what is read to reckon the changes, and does not change."""
        if self.normalisation is not None:
            yield self.normalisation.variance

    def same_as(self, other: Fold) -> bool:
        """Whether two calls of a layer ask the same of it."""
        ours, theirs = self.rescalings, other.rescalings
        return (self.layer, len(ours)) == (other.layer, len(theirs)) and all(
            a.name == b.name and torch.equal(a.units, b.units) for a, b in zip(ours, theirs, strict=True)
        )

    def with_units(self, unit_of_row: Tensor) -> Fold:
        """Rows of the layer replaced by the units that they become."""
        changed = tuple(replace(rescaling, units=unit_of_row[rescaling.units]) for rescaling in self.rescalings)
        return replace(self, rescalings=changed)

    def apply(self, tensors: Mapping[str, Tensor], factors: Tensor) -> None:
        """Change tensors in place.

        Args:
            tensors: name -> parameters and buffers, in double precision.
            factors: (units,) of the site.
        """
        if (norm := self.normalisation) is not None:
            deviation = (tensors[norm.variance] + norm.eps).sqrt()
            tensors[norm.bias] -= tensors[norm.weight] * tensors[norm.mean] / deviation
            tensors[norm.mean].zero_()
        padded = torch.cat([factors.flatten(), factors.new_ones(1)])  # -1 is the last one
        for rescaling in self.rescalings:
            tensors[rescaling.name] *= padded[rescaling.units]


def reading(call: Call, labels: Labels, trace: Trace) -> Fold | Stops | None:
    """How a layer that reads labelled numbers takes their factors into its columns; None when it is no such layer."""
    rule = _COLUMNS.get(call.name)
    if rule is None:
        return None
    given = call.args[0] if call.args else call.kwargs.get("input")
    if not isinstance(given, Tensor) or id(given) not in labels or _labelled(call, labels) > 1:
        return Stops(f"{call} reads it as its weights or its state")
    return rule(call, labels[id(given)], trace)


def giving(call: Call, trace: Trace) -> tuple[Fold, Tensor] | Stops | None:
    """How a layer takes factors into its rows, and the labels of its output by row; None when it is no such layer."""
    if call.name == "linear" or call.name in _CONVOLUTIONS:
        places: tuple[int, int | None] = (1, 2)
        trailing = _CONVOLUTIONS.get(call.name, 0)
    elif call.name in _NORM_WEIGHTS:
        places = _NORM_WEIGHTS[call.name]
        trailing = call.outputs[0].ndim - 2 if call.name in ("batch_norm", "group_norm") else 0
    else:
        return None
    weight = call.argument(places[0], "weight")
    bias = None if places[1] is None else call.argument(places[1], "bias")
    if weight is None or (call.name == "batch_norm" and call.argument(5, "training", False)):
        return Stops(f"{call} has no weights of its own, or normalises by the batch")
    rows = weight.shape if call.name in ("layer_norm", "rms_norm") else weight.shape[:1]
    units = torch.arange(rows.numel()).reshape(rows)
    weights = [(weight, units.reshape(*rows, *[1] * (weight.ndim - len(rows))))]
    weights += [] if bias is None else [(bias, units)]
    fold = _fold(call, trace, weights)
    if isinstance(fold, Stops):
        return fold
    spread = units.float().reshape(*rows, *[1] * trailing).to(call.outputs[0].device)
    return fold, torch.broadcast_to(spread, call.outputs[0].shape)


def _labelled(call: Call, labels: Labels) -> int:
    return sum(id(tensor) in labels for tensor in call.inputs)


def _linear(call: Call, given: Tensor, trace: Trace) -> Fold | Stops:
    columns = constant(given, range(given.ndim - 1))
    if columns is None:
        return _shared(call)
    return _fold(call, trace, [(call.argument(1, "weight"), _units(columns)[None])])


def _convolution(call: Call, given: Tensor, trace: Trace) -> Fold | Stops:
    weight = call.argument(1, "weight")
    channel = given.ndim - 1 - _CONVOLUTIONS[call.name]
    columns = constant(given, [dim for dim in range(given.ndim) if dim != channel])
    if columns is None:
        return _shared(call)
    per_group = _units(columns).reshape(-1, weight.shape[1])
    rows = per_group.repeat_interleave(len(weight) // len(per_group), dim=0)
    return _fold(call, trace, [(weight, rows.reshape(*rows.shape, *[1] * (weight.ndim - 2)))])


def _recurrent(call: Call, given: Tensor, trace: Trace) -> Fold | Stops:
    columns = constant(given, range(given.ndim - 1))
    if columns is None:
        return _shared(call)
    lowest = [
        weight
        for weight in call.inputs
        if any(name.endswith(("weight_ih_l0", "weight_ih_l0_reverse")) for name in trace.names.get(id(weight), ()))
    ]
    if not lowest:
        return Stops(f"the weights of {call} are computed from others")
    return _fold(call, trace, [(weight, _units(columns)[None]) for weight in lowest])


def _batch_norm(call: Call, given: Tensor, trace: Trace) -> Fold | Stops:
    channels = constant(given, [dim for dim in range(given.ndim) if dim != 1])
    if channels is None:
        return _shared(call)
    mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    if call.argument(5, "training", False) or mean is None:
        return Stops(f"{call} normalises by the batch")
    if weight is None or bias is None:
        return Stops(f"{call} has no weights of its own")
    fold = _fold(call, trace, [(weight, _units(channels))])
    names = [trace.names.get(id(tensor), ()) for tensor in (weight, bias, mean, variance)]
    if isinstance(fold, Stops) or not all(names):
        return fold if isinstance(fold, Stops) else Stops(f"the weights of {call} are computed from others")
    scale, shift, average, spread = (name[0] for name in names)
    eps = float(call.argument(7, "eps", 1e-5))
    return replace(fold, normalisation=Normalisation(scale, shift, average, spread, eps))


def _fold(call: Call, trace: Trace, weights: Sequence[tuple[Any, Tensor]]) -> Fold | Stops:
    rescalings = []
    for weight, units in weights:
        names = trace.names.get(id(weight), ())
        if not names:
            return Stops(f"the weights of {call} are computed from others (weight norm, a slice, another precision)")
        rescalings.append(Rescaling(names[0], units.cpu()))
    return Fold(rescalings[0].name.rpartition(".")[0], tuple(rescalings))


def _units(labels: Tensor) -> Tensor:
    """Numbers of units; -1 for what is not scaled, and for zeros."""
    return labels.long().clamp(min=-1)


def _shared(call: Call) -> Stops:
    return Stops(f"{call} shares its weights among units with scales of their own")


_COLUMNS: dict[str, Callable[[Call, Tensor, Trace], Fold | Stops]] = {
    "linear": _linear,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "batch_norm": _batch_norm,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn_tanh": _recurrent,
    "rnn_relu": _recurrent,
}
