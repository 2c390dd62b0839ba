"""Telling how many units a layer has and where they lie: from its kind, or by watching the net at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.example import Example, put_back, tensors_of
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.sites import Site

_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.RNNBase, nn.RMSNorm)
_CONVOLUTIONS: dict[int, tuple[type[nn.Module], ...]] = {
    1: (nn.Conv1d, nn.ConvTranspose1d, nn.LazyConv1d),
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.LazyConv2d),
}


_SECOND = (nn.BatchNorm1d, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)

# Rows of a first utterance lie together at the front, all of them changed but for chance. Where utterances take turns
# row by row, only every B-th row among them is.
_MOST_ROWS = 0.5


@dataclass(frozen=True)
class _Kind:
    """What the kind of a layer tells: its units, and how many dimensions follow them in its output (None: ndim - 2)."""

    num_units: int
    num_trailing: int | None


def sites_by_kind(model: nn.Module, names: Sequence[str], layout: Layout | None, *, per_band: bool) -> tuple[Site, ...]:
    """Sites as far as the kinds of layers tell them; utterances are not told apart.

    Raises:
        SiteError: the kind of a layer does not tell its units.
    """
    return tuple(_site_by_kind(model, name, layout, per_band=per_band) for name in names)


def _site_by_kind(model: nn.Module, name: str, layout: Layout | None, *, per_band: bool) -> Site:
    kind = _kind_of(model, name)
    if kind is None:
        raise SiteError(
            f"cannot tell how many units {name!r} ({_type(model, name)}) has: give find_sites an example, or choose a "
            "layer that comes after a linear one or a convolution"
        )
    if per_band or (layout is not None and layout.num_unit_dims == 2):
        raise SiteError(f"how many bands {name!r} ({_type(model, name)}) has depends on its input: give an example")
    if layout is None and kind.num_trailing is None:
        raise SiteError(f"whether time follows the units of {name!r} depends on its input: give an example or a layout")
    return Site(name, (kind.num_units,), layout or Layout("*H" + "T" * (kind.num_trailing or 0)))


def inspect_sites(
    model: nn.Module, names: Sequence[str], example: Any, layout: Layout | None, *, per_band: bool, shared: bool
) -> tuple[Site, ...]:
    """Sites as the net shows them when it works on an example, in evaluation mode; the net is left as it was found.

    Utterances are told apart by changing the first one: what changes in a layer's output belongs to it.

    Raises:
        SiteError: a layer never runs, runs more than once (unless ``shared``), or its units cannot be told.
    """
    batch = Example.of(example)
    batch = batch if batch.num_utterances > 1 else batch.doubled()
    with put_back(model):
        model.eval()
        before = _watch(model, names, batch)
        after = _watch(model, names, batch.with_first_changed())
    for name, outputs in before.items():
        require_one_run(model, name, len(outputs), shared=shared)
    return tuple(
        _seen_site(
            model,
            name,
            layout or _layout(model, name, before[name][0], after[name][0], batch.num_utterances, per_band=per_band),
            before[name][0],
        )
        for name in names
    )


def require_one_run(model: nn.Module, name: str, times: int, mode: str = "evaluation", *, shared: bool = False) -> None:
    """Raise SiteError for a layer that never runs in a pass, or more than once."""
    if times == 0:
        raise SiteError(
            f"{name!r} ({_type(model, name)}) never runs in {mode} mode: the net reads its weights another way"
        )
    if times > 1 and not shared:
        raise SiteError(
            f"{name!r} ({_type(model, name)}) runs {times} times in one pass: its scales would act that often "
            "(find_sites(..., shared=True) takes it all the same)"
        )


def _watch(model: nn.Module, names: Sequence[str], example: Example) -> dict[str, list[Tensor | PackedSequence]]:
    """Name -> its outputs in one pass, in the order in which it ran."""
    seen: dict[str, list[Tensor | PackedSequence]] = {name: [] for name in names}
    with ExitStack() as hooks:
        for name in names:

            def keep(layer: nn.Module, inputs: object, output: Any, name: str = name) -> None:
                seen[name].append(_first(output, name, layer))

            hooks.callback(model.get_submodule(name).register_forward_hook(keep).remove)
        example.output(model)
    return seen


def _first(output: Any, name: str, layer: nn.Module) -> Tensor | PackedSequence:
    while isinstance(output, tuple) and output and not isinstance(output, PackedSequence):
        output = output[0]
    if isinstance(output, PackedSequence):
        return output
    found = next(tensors_of(output), None) if isinstance(output, Tensor) else None
    if found is None:
        raise SiteError(f"{name!r} ({type(layer).__name__}) gives a {type(output).__name__}, not a tensor")
    return found.detach().clone()


def _seen_site(model: nn.Module, name: str, layout: Layout, output: Tensor | PackedSequence) -> Site:
    shape = output.data.shape if isinstance(output, PackedSequence) else output.shape
    units = layout.units(shape)
    if not units:
        raise SiteError(
            f"{name!r} ({_type(model, name)}) gives an output of shape {tuple(shape)}, too few dimensions for layout "
            f"{layout.letters!r}"
        )
    return Site(name, tuple(units), layout)


def _layout(
    model: nn.Module,
    name: str,
    before: Tensor | PackedSequence,
    after: Tensor | PackedSequence,
    num_utterances: int,
    *,
    per_band: bool,
) -> Layout:
    if isinstance(before, PackedSequence) or isinstance(after, PackedSequence):
        return Layout("*H")  # a packed sequence says itself which row belongs to whom
    unit = before.ndim - 1 - _num_trailing(model, name, before)
    letters = ["T"] * before.ndim
    letters[unit] = "H"
    if per_band:
        if unit + 1 >= before.ndim - 1:
            raise SiteError(f"{name!r} gives {tuple(before.shape)}, channels without bands; per_band asks for both")
        letters[unit + 1] = "H"
    return Layout(_with_utterances(letters, before != after, num_utterances))


def _with_utterances(letters: list[str], changed: Tensor, num_utterances: int) -> str:
    """Put B or N where only the part of the first utterance has changed."""
    for dim in range(letters.index("H")):
        size = changed.shape[dim]
        where = changed.movedim(dim, 0).flatten(1).any(dim=1)
        if size == num_utterances and where[0] and not where[1:].any():
            return "".join([*letters[:dim], "B", *letters[dim + 1 :]])
    where = changed.flatten(1).any(dim=1) if changed.ndim > 1 else changed
    last_changed = int(where.nonzero().max()) if where.any() else len(where)
    if letters[0] == "T" and last_changed < len(where) - 1 and where[: last_changed + 1].float().mean() > _MOST_ROWS:
        return "".join(["N", *letters[1:]])
    return "*" + "".join(letters[letters.index("H") :])


def _num_trailing(model: nn.Module, name: str, output: Tensor) -> int:
    """How many dimensions follow the units in this output.

    Raises:
        SiteError: the kind of the layer and what it gives contradict each other.
    """
    kind = _kind_of(model, name)
    if kind is None:
        return 0
    if kind.num_trailing is None:
        return output.ndim - 2
    fits = [d for d in range(output.ndim) if output.shape[output.ndim - 1 - d] == kind.num_units]
    if kind.num_trailing in fits:
        return kind.num_trailing
    if len(fits) == 1:
        return fits[0]
    raise SiteError(
        f"{name!r} ({_type(model, name)}) gives an output of shape {tuple(output.shape)}, where its layer has "
        f"{kind.num_units} units; its width may change with the input: give layout='...' if it does not"
    )


def _kind_of(model: nn.Module, name: str) -> _Kind | None:
    """A layer's own kind, or for an activation that of the nearest layer before it under the same parent."""
    parent, _, own = name.rpartition(".")
    known: _Kind | None = None
    for sibling, module in model.get_submodule(parent).named_children():
        known = _after(module, known)
        if sibling == own:
            break
    return known


def _after(module: nn.Module, before: _Kind | None) -> _Kind | None:
    """The kind of what leaves a layer, given that of what enters it."""
    if isinstance(module, nn.GLU):
        return _Kind(before.num_units // 2, before.num_trailing) if before else None
    if isinstance(module, (nn.Flatten, nn.Unflatten)):
        return None
    own = next(_own_kinds(module), None)
    if own is not None or isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return own
    if isinstance(module, _SECOND):
        return before or _Kind(_width(module), None)
    for child in module.children():
        before = _after(child, before)
    return before


def _own_kinds(module: nn.Module) -> Iterator[_Kind]:
    if isinstance(module, nn.RNNBase):
        width = module.proj_size or module.hidden_size
        yield _Kind(width * (2 if module.bidirectional else 1), 0)
    for num_trailing, kinds in _CONVOLUTIONS.items():
        if isinstance(module, kinds):
            yield _Kind(_width(module), num_trailing)
    if isinstance(module, _LAST) and not isinstance(module, nn.RNNBase):
        yield _Kind(_width(module), 0)


def _width(module: nn.Module) -> int:
    for attribute in ("out_features", "out_channels", "num_features", "num_channels", "embedding_dim"):
        if isinstance(value := getattr(module, attribute, None), int):
            return value
    shape = module.normalized_shape
    assert isinstance(shape, (tuple, list))
    return int(shape[-1])


def _type(model: nn.Module, name: str) -> str:
    return type(model.get_submodule(name)).__name__
