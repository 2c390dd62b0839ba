"""Finding sites: by name, wildcard, regular expression or kind, each checked before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.hooks import bare
from lhuc_asr.lhuc.inspection import inspect_sites, sites_by_kind
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.sites import Site

Pattern = str | re.Pattern[str] | type[nn.Module]


def find_sites(
    model: nn.Module,
    patterns: Pattern | Sequence[Pattern],
    *,
    example: Any = None,
    another: Any = None,
    layout: Layout | str | None = None,
    per_band: bool = False,
    shared: bool = False,
) -> tuple[Site, ...]:
    """The layers that names, wildcards, regular expressions or kinds mean, in the order in which the net has them.

    Args:
        model: any net, also inside `DistributedDataParallel`; names are those of the net itself.
        patterns: ``layers.0.activation``; ``encoder.*.activation`` (``*`` also crosses dots); ``re.compile(...)``,
            which must match a whole name; ``nn.ReLU``. Each must match something.
        example: input on which the net is watched: a tensor, a tuple of arguments, a mapping of keyword arguments, or
            an `Example`. It tells layouts and sizes exactly, tells utterances apart, and lets layers be refused that
            never run or run more than once.
        another: input of another length; a layer whose number of units changes with it is refused.
        layout: of the outputs of all these layers, where neither their kind nor an example tells it; an example that
            contradicts it is told.
        per_band: give every channel of two-dimensional convolutions a scale for every band of dimension 2.
        shared: take a layer that runs several times in a pass; one scale then acts at every run.

    Returns:
        Sites, each once.

    Raises:
        SiteError: a pattern matches no layer, a layer cannot carry scales, or its units cannot be told.

    Example:
        >>> find_sites(nn.Sequential(nn.Linear(3, 5), nn.Sigmoid()), "1")
        (Site(name='1', units=(5,), layout=Layout(letters='*H')),)
    """
    net, given = bare(model), Layout(layout) if isinstance(layout, str) else layout
    names = tuple(_matching(net, [patterns] if isinstance(patterns, (str, re.Pattern, type)) else patterns))
    if example is None:
        return sites_by_kind(net, names, given, per_band=per_band, shared=shared)
    sites = inspect_sites(net, names, example, given, per_band=per_band, shared=shared)
    if another is not None:
        _require_same_units(sites, inspect_sites(net, names, another, given, per_band=per_band, shared=shared))
    return sites


def choose_sites(
    model: nn.Module, natural: Sequence[str], layers: Sequence[int | str], *, example: Any = None
) -> tuple[Site, ...]:
    """The sites that a configuration asks for.

    Args:
        model: any net.
        natural: names of its natural sites, bottom to top.
        layers: numbers into ``natural`` from 1, or patterns; none means all natural sites.
        example: as for `find_sites`.

    Raises:
        SiteError: there is no layer of that number, or a pattern matches nothing.
    """
    return find_sites(model, list(_names(natural, layers)) if layers else list(natural), example=example)


def _names(natural: Sequence[str], layers: Sequence[int | str]) -> Iterator[str]:
    for layer in layers:
        if isinstance(layer, str):
            yield layer
        elif 1 <= layer <= len(natural):
            yield natural[layer - 1]
        else:
            raise SiteError(f"there is no hidden layer {layer}; the model has 1 to {len(natural)} from the bottom")


def _matching(model: nn.Module, patterns: Sequence[Pattern]) -> Iterator[str]:
    modules = {name: module for name, module in model.named_modules() if name}
    if not patterns:
        raise SiteError(f"no pattern was given, so nothing would be scaled; the model has: {', '.join(modules)}")
    wanted: set[str] = set()
    for pattern in patterns:
        found = {name for name, module in modules.items() if _matches(pattern, name, module)}
        if not found:
            raise SiteError(f"{_text(pattern)} matches no layer; the model has: {', '.join(modules) or 'none'}")
        wanted |= found
    return (name for name in modules if name in wanted)


def _matches(pattern: Pattern, name: str, module: nn.Module) -> bool:
    if isinstance(pattern, str):
        return name == pattern or fnmatchcase(name, pattern)
    if isinstance(pattern, re.Pattern):
        return pattern.fullmatch(name) is not None
    return isinstance(module, pattern)


def _text(pattern: Pattern) -> str:
    if isinstance(pattern, type):
        return f"kind {pattern.__name__}"
    return repr(pattern if isinstance(pattern, str) else pattern.pattern)


def _require_same_units(sites: Sequence[Site], others: Sequence[Site]) -> None:
    for site, other in zip(sites, others, strict=True):
        if site.units != other.units:
            raise SiteError(
                f"the width of {site.name!r} changes with the input: {'x'.join(map(str, site.units))} units for one "
                f"example, {'x'.join(map(str, other.units))} for the other"
            )
