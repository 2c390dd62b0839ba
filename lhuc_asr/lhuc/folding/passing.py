"""Functions that let factors of units pass: what they do to scaled numbers, they could do before the scaling.

Every number of a tensor that holds scaled units has a label that says which unit it belongs to. Functions that only
move numbers do the same to the labels; functions that reckon with numbers let factors pass when those that meet belong
to one unit. Nothing here needs to know in which dimension the units lie.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lhuc_asr.lhuc.example import tensors_of
from lhuc_asr.lhuc.folding.tracing import Call

UNSCALED = -1.0
"""Label of a number that belongs to no unit."""

ANY = -2.0
"""Label of a zero: it stays what it is under every factor."""

Labels = Mapping[int, Tensor]
"""Identity of a tensor -> the labels of its numbers."""


@dataclass(frozen=True)
class Passes:
    """Factors pass.

    Attributes:
        labels: of the outputs, in their order.
        any_sign: whether negative factors pass as well.
    """

    labels: tuple[Tensor, ...]
    any_sign: bool = True


@dataclass(frozen=True)
class Stops:
    """Factors do not pass, and why."""

    reason: str


Outcome = Passes | Stops

_MOVES = re.compile(
    "view|view_as|reshape|reshape_as|flatten|unflatten|ravel|transpose|swapaxes|swapdims|permute|movedim|moveaxis|t|T|"
    "mT|unsqueeze|squeeze|expand|expand_as|broadcast_to|repeat|repeat_interleave|tile|chunk|split|split_with_sizes|"
    "tensor_split|unsafe_chunk|unsafe_split|unbind|narrow|select|index_select|getitem|take_along_dim|gather|"
    "masked_select|flip|roll|unfold|pack_padded_sequence"
)
_JOINS = re.compile("cat|concat|concatenate|stack|hstack|vstack|dstack|column_stack")
_KEEPS = re.compile(
    "clone|contiguous|detach|data|to|float|double|half|bfloat16|type|type_as|cpu|cuda|alias|requires_grad|positive|neg|"
    "negative"
)
_KEEPS_SIGN = re.compile("relu|leaky_relu|prelu|abs|absolute")
_CLAMPS = re.compile("clamp|clamp_min")
_DROPOUTS = re.compile("dropout|dropout[123]d|alpha_dropout|feature_alpha_dropout")
_ADDS = re.compile("add|radd|iadd|sub|rsub|isub|subtract")
_PRODUCTS = re.compile("mul|rmul|imul|multiply")
_QUOTIENTS = re.compile("div|truediv|itruediv|divide|true_divide")
_MAX_POOLS = re.compile("max_pool[123]d|adaptive_max_pool[12]d")
_MEAN_POOLS = re.compile("avg_pool[12]d|adaptive_avg_pool[12]d")
_READS_NUMBERS = re.compile("item|tolist|bool|int|float|complex|index|numpy|array|equal|allclose|is_nonzero|contains")
_AFTER_ANOTHER = frozenset({"view_as", "reshape_as", "expand_as", "type_as", "to"})
_LIKE = re.compile("(zeros|ones|empty|full|rand|randn)_like|new|new_(zeros|ones|empty|full|tensor)")
_POOLS = {
    "avg_pool1d": functional.max_pool1d,
    "avg_pool2d": functional.max_pool2d,
    "adaptive_avg_pool1d": functional.adaptive_max_pool1d,
    "adaptive_avg_pool2d": functional.adaptive_max_pool2d,
}


def passing(call: Call, labels: Labels) -> Outcome | None:
    """What becomes of labelled arguments of a call; None when it reads no numbers of theirs."""
    name = call.name
    if name == "setitem":
        return _setitem(call, labels)
    if not call.outputs:
        return Stops(f"{call} reads single numbers of it") if _READS_NUMBERS.fullmatch(name) else None
    if _LIKE.fullmatch(name) or (name in _AFTER_ANOTHER and not _is_labelled(call.args[0], labels)):
        return None
    rule = _rule(name)
    return Stops(f"no factor passes {call}") if rule is None else rule(call, labels)


def constant(labels: Tensor, dims: Sequence[int], *, keepdim: bool = False) -> Tensor | None:
    """Labels with dimensions taken out along which they are the same; None when they are not."""
    if not dims:
        return labels
    high = labels.masked_fill(labels == ANY, -torch.inf).amax(tuple(dims), keepdim=keepdim)
    low = labels.masked_fill(labels == ANY, torch.inf).amin(tuple(dims), keepdim=keepdim)
    return _common(high, low)


def _rule(name: str) -> Callable[[Call, Labels], Outcome] | None:
    return next((rule for names, rule in _RULES if names.fullmatch(name)), None)


def _is_labelled(value: Any, labels: Labels) -> bool:
    return isinstance(value, Tensor) and id(value) in labels


def _first(call: Call, labels: Labels) -> Tensor:
    """Labels of the one labelled argument."""
    return next(labels[id(tensor)] for tensor in call.inputs if id(tensor) in labels)


def _spread(labels: Tensor, call: Call) -> Tensor:
    return torch.broadcast_to(labels, call.outputs[0].shape).to(call.outputs[0].device)


def _moved(call: Call, labels: Labels) -> Outcome:
    if any(isinstance(value, torch.dtype) for value in (*call.args, *call.kwargs.values())):
        return Stops(f"{call} reads its bits as another type")
    if call.function is functional.unfold:
        return Stops(f"no factor passes {call}")

    def label(tensor: Tensor) -> Tensor:
        return labels[id(tensor)].clone(memory_format=torch.contiguous_format) if id(tensor) in labels else tensor

    return Passes(_replay(call, label))


def _joined(call: Call, labels: Labels) -> Outcome:
    def label(tensor: Tensor) -> Tensor:
        return labels.get(id(tensor), torch.full(tensor.shape, UNSCALED, device=tensor.device))

    return Passes(_replay(call, label))


def _replay(call: Call, replace: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    """The same call with other tensors."""

    def swap(value: Any) -> Any:
        if isinstance(value, Tensor):
            return replace(value)
        if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
            return type(value)(swap(item) for item in value)
        return value

    with torch.no_grad():
        result = call.function(*map(swap, call.args), **{name: swap(value) for name, value in call.kwargs.items()})
    return tuple(tensors_of(result))


def _kept(call: Call, labels: Labels) -> Outcome:
    return Passes((_spread(_first(call, labels), call),))


def _kept_for_positive(call: Call, labels: Labels) -> Outcome:
    return Passes((_spread(_first(call, labels), call),), any_sign=False)


def _clamped(call: Call, labels: Labels) -> Outcome:
    low, high = call.argument(1, "min"), call.argument(2, "max")
    if isinstance(low, (int, float)) and low == 0 and high is None:
        return _kept_for_positive(call, labels)
    return Stops(f"no factor passes {call}")


def _dropped(call: Call, labels: Labels) -> Outcome:
    training = call.argument(2, "training", call.kwargs.get("train", True))
    return Stops(f"{call} is at work in evaluation mode too") if training else _kept(call, labels)


def _filled(call: Call, labels: Labels) -> Outcome:
    value = call.argument(2, "value")
    if not _is_zero(value) or not _is_labelled(call.args[0], labels):
        return Stops(f"{call} puts numbers into it that are not scaled")
    return _kept(call, labels)


def _setitem(call: Call, labels: Labels) -> Outcome:
    target, value = call.args[0], call.args[-1]
    if _is_labelled(value, labels) or not _is_labelled(target, labels) or not _is_zero(value):
        return Stops(f"{call} mixes it with numbers that are not scaled")
    return Passes(())


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and bool(value == 0)
    return isinstance(value, (int, float)) and value == 0


def _added(call: Call, labels: Labels) -> Outcome:
    terms = [call.argument(0, "input"), call.argument(1, "other")]
    if not all(_is_labelled(term, labels) for term in terms):
        return Stops(f"it is added to what is not scaled with it, such as a residual connection ({call})")
    first, second = (_spread(labels[id(term)], call) for term in terms)
    if not ((first == second) | (first == ANY) | (second == ANY)).all():
        return Stops(f"units with scales of their own are added to one another ({call})")
    return Passes((torch.where(first == ANY, second, first),))


def _multiplied(call: Call, labels: Labels) -> Outcome:
    if sum(id(tensor) in labels for tensor in call.inputs) > 1:
        return Stops(f"it is multiplied by itself ({call})")
    return _kept(call, labels)


def _divided(call: Call, labels: Labels) -> Outcome:
    divisor = call.argument(1, "other")
    if _is_labelled(divisor, labels) or call.kwargs.get("rounding_mode") is not None:
        return Stops(f"no factor passes {call}")
    return _kept(call, labels)


def _padded(call: Call, labels: Labels) -> Outcome:
    mode, value = call.argument(2, "mode", "constant"), call.argument(3, "value", 0) or 0
    given = _first(call, labels)
    fill = (ANY if value == 0 else UNSCALED,) if mode == "constant" else ()
    return Passes((functional.pad(given, call.argument(1, "pad"), mode, *fill),))


def _unpacked(call: Call, labels: Labels) -> Outcome:
    data, sizes, batch_first, value, total = call.args
    fill = ANY if value == 0 else UNSCALED
    padded, lens = call.function(labels[id(data)], sizes, batch_first, fill, total)
    return Passes((padded, lens))


def _max_pooled(call: Call, labels: Labels) -> Outcome:
    return _pooled(call, labels, lambda x: call.function(x, *call.args[1:], **call.kwargs), any_sign=False)


def _mean_pooled(call: Call, labels: Labels) -> Outcome:
    pool: Any = _POOLS[call.name]
    size = call.argument(1, "output_size" if call.name.startswith("adaptive") else "kernel_size")
    if call.name.startswith("adaptive"):
        return _pooled(call, labels, lambda x: pool(x, size), any_sign=True)
    stride, padding = call.argument(2, "stride") or size, call.argument(3, "padding", 0)
    ceil_mode = call.argument(4, "ceil_mode", False)
    return _pooled(call, labels, lambda x: pool(x, size, stride, padding, 1, ceil_mode), any_sign=True)


def _pooled(call: Call, labels: Labels, largest: Callable[[Tensor], Any], *, any_sign: bool) -> Outcome:
    given = _first(call, labels)
    high, low = largest(given.masked_fill(given == ANY, -torch.inf)), -torch.inf
    if isinstance(high, Tensor):
        low = -largest(-given.masked_fill(given == ANY, torch.inf))
        common = _common(high, low)
        if common is not None:
            return Passes((common,), any_sign)
    return Stops(f"{call} brings units with scales of their own together")


def _common(high: Tensor, low: Tensor) -> Tensor | None:
    return None if bool((high > low).any()) else high.masked_fill(high == -torch.inf, ANY)


def _summed(call: Call, labels: Labels) -> Outcome:
    return _reduced(call, labels, any_sign=True)


def _largest(call: Call, labels: Labels) -> Outcome:
    return _reduced(call, labels, any_sign=False)


def _reduced(call: Call, labels: Labels, *, any_sign: bool) -> Outcome:
    given, dims = _first(call, labels), call.argument(1, "dim")
    dims = tuple(range(given.ndim)) if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    common = constant(given, dims, keepdim=bool(call.argument(2, "keepdim", False)))
    if common is None:
        return Stops(f"{call} brings units with scales of their own together")
    return Passes((common,), any_sign)


_RULES: tuple[tuple[re.Pattern[str], Callable[[Call, Labels], Outcome]], ...] = (
    (_MOVES, _moved),
    (_JOINS, _joined),
    (_KEEPS, _kept),
    (_KEEPS_SIGN, _kept_for_positive),
    (_CLAMPS, _clamped),
    (_DROPOUTS, _dropped),
    (re.compile("masked_fill"), _filled),
    (_ADDS, _added),
    (_PRODUCTS, _multiplied),
    (_QUOTIENTS, _divided),
    (re.compile("pad"), _padded),
    (re.compile("pad_packed_sequence"), _unpacked),
    (_MAX_POOLS, _max_pooled),
    (_MEAN_POOLS, _mean_pooled),
    (re.compile("sum|mean"), _summed),
    (re.compile("amax|amin"), _largest),
)
