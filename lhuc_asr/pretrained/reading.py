"""Which linear layer alone reads what a module gives: there a scale on the output is a scale on the reader's input."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.example import Example, put_back
from lhuc_asr.lhuc.hooks import attached_scales, layer_of, refuse_attached
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.pretrained.natural_sites import default_sites, readers

_HANDS_ON = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_SEED = 20220511


@dataclass(frozen=True)
class Reading:
    """A place in a net that has two names.

    Attributes:
        site: the module that gives the units.
        reader: the linear layer or convolution that alone reads them.
    """

    site: Site
    reader: str


def readings(model: nn.Module, example: Any = None) -> tuple[Reading, ...]:
    """All places with one reader, in the order in which they run; of several modules that hand on the same units all.

    Args:
        model: any net.
        example: input on which it is watched in evaluation mode; without one, only natural sites are known.
    """
    if example is not None:
        return tuple(_watched(model, Example.of(example)))
    known = readers(model)
    return tuple(Reading(site, known[site.name]) for site in (default_sites(model) if known else ()))


def prove_same(model: nn.Module, reading: Reading, example: Any) -> None:
    """Scale the site, then the reader's input, by the same random factors; the net must give the same.

    Raises:
        SiteError: it does not, so something else uses the site's output too.
    """
    batch = Example.of(example)
    with put_back(model):
        model.eval()
        with attached_scales(model, [reading.site], lambda site, output, packed: _scaled(site, output)):
            at_site = batch.output(model)
        hook = layer_of(model, reading.reader).register_forward_pre_hook(
            lambda layer, inputs: (_scaled(reading.site, inputs[0]), *inputs[1:])
        )
        try:
            at_reader = batch.output(model)
        finally:
            hook.remove()
    if not torch.allclose(at_site, at_reader, rtol=1e-4, atol=1e-5 * float(at_reader.abs().max())):
        raise SiteError(f"more than {reading.reader!r} uses the output of {reading.site.name!r}")


def _scaled(site: Site, units: Tensor) -> Tensor:
    factors = torch.randn(site.units, generator=torch.Generator().manual_seed(_SEED))
    return site.layout.scale(units, factors.to(units))


@dataclass(frozen=True)
class _Seen:
    """One tensor on its way; kept alive so that no other takes its place in memory."""

    tensor: Tensor
    givers: list[str]
    readers: list[str]


def _watched(model: nn.Module, example: Example) -> Sequence[Reading]:
    refuse_attached(model)
    seen: dict[int, _Seen] = {}
    with put_back(model), ExitStack() as hooks:
        model.eval()
        for name, module in model.named_modules():
            if name:
                hooks.callback(module.register_forward_hook(partial(_watch, seen, name)).remove)
        example.output(model)
    found = []
    for passing in seen.values():
        if len(passing.readers) == 1 and (units := _input_units(layer_of(model, passing.readers[0]))):
            found += [Reading(Site(name, *units), passing.readers[0]) for name in passing.givers]
    return found


def _watch(seen: dict[int, _Seen], name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    """Note who gave and who read a tensor; dropout and the like only hand it on in evaluation mode."""
    if not isinstance(output, Tensor):
        return
    given = seen.setdefault(id(output), _Seen(output, [], []))
    is_container = next(module.children(), None) is not None
    if not is_container and inputs and isinstance(inputs[0], Tensor) and not isinstance(module, _HANDS_ON):
        if inputs[0] is output:
            given.givers.clear()  # it changed the tensor in place
        else:
            seen.setdefault(id(inputs[0]), _Seen(inputs[0], [], [])).readers.append(name)
    given.givers.append(name)


def _input_units(reader: nn.Module) -> tuple[tuple[int], Layout] | None:
    if isinstance(reader, nn.Linear):
        return (reader.in_features,), Layout("*H")
    if isinstance(reader, nn.Conv2d):
        return (reader.in_channels,), Layout("*HTT")
    return None
