"""Sites: the layers of a net whose output LHUC scales, found by name and checked before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn

from lhuc_asr.errors import ConfigError, SiteError
from lhuc_asr.lhuc.amplitude import Amplitude

_WIDTHS = ("out_features", "num_features", "num_channels")


@dataclass(kw_only=True, slots=True)
class LhucConfig:
    """What is scaled, and by which function.

    Attributes:
        amplitude: how a parameter becomes a factor.
        layers: numbers of hidden layers, 1 is the lowest, or patterns of layer names; empty means every hidden layer.
    """

    amplitude: Amplitude = Amplitude.exp
    layers: list[int | str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for layer in self.layers:
            if isinstance(layer, int) and layer < 1:
                raise ConfigError(f"lhuc.layers counts hidden layers from 1 at the bottom, got {layer}")


@dataclass(frozen=True, slots=True)
class Site:
    """One layer whose output is scaled unit by unit.

    Attributes:
        name: of the layer in its net, as ``named_modules`` gives it.
        num_units: H, size of the last dimension of its output.
    """

    name: str
    num_units: int


def find_sites(model: nn.Module, patterns: str | Sequence[str]) -> tuple[Site, ...]:
    """The layers that the names or wildcard patterns mean, bottom to top.

    Args:
        model: any net.
        patterns: ``layers.0.activation``, ``encoder.*.activation``; ``*`` also crosses dots. Each must match something.

    Returns:
        Sites in the order in which the net registers its layers, each once.

    Raises:
        SiteError: a pattern matches no layer, or the number of units of a layer cannot be told.

    Example:
        >>> find_sites(nn.Sequential(nn.Linear(3, 5), nn.Sigmoid()), "1")
        (Site(name='1', num_units=5),)
    """
    names = [name for name, _ in model.named_modules() if name]
    wanted: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
        if not found:
            raise SiteError(f"{pattern!r} matches no layer; the model has: {', '.join(names) or 'none'}")
        wanted.update(found)
    return tuple(Site(name, num_units(model, name)) for name in names if name in wanted)


def choose_sites(model: nn.Module, natural: Sequence[str], layers: Sequence[int | str]) -> tuple[Site, ...]:
    """The sites that a configuration asks for.

    Args:
        model: any net.
        natural: names of its natural sites, bottom to top.
        layers: numbers into ``natural`` from 1, or patterns; none means all natural sites.

    Raises:
        SiteError: there is no layer of that number, or a pattern matches nothing.
    """
    return find_sites(model, list(_names(natural, layers)) if layers else natural)


def _names(natural: Sequence[str], layers: Sequence[int | str]) -> Iterator[str]:
    for layer in layers:
        if isinstance(layer, str):
            yield layer
        elif 1 <= layer <= len(natural):
            yield natural[layer - 1]
        else:
            raise SiteError(f"there is no hidden layer {layer}; the model has 1 to {len(natural)} from the bottom")


def num_units(model: nn.Module, name: str) -> int:
    """H of a layer: its own, or for an activation that of the nearest layer before it under the same parent.

    Raises:
        SiteError: neither is known.
    """
    parent, _, _ = name.rpartition(".")
    width: int | None = None
    for sibling, module in model.get_submodule(parent).named_children():
        own = _width(module)
        width = own if own is not None else width
        if f"{parent}.{sibling}".lstrip(".") == name:
            break
    if width is None:
        kind = type(model.get_submodule(name)).__name__
        raise SiteError(
            f"cannot tell how many units {name!r} ({kind}) has; choose a layer that comes after a linear one"
        )
    return width


def _width(module: nn.Module) -> int | None:
    for attribute in _WIDTHS:
        if isinstance(value := getattr(module, attribute, None), int):
            return value
    shape = getattr(module, "normalized_shape", None)
    return int(shape[-1]) if shape else None
