"""Forward hooks that multiply outputs of layers: the only way in which anything here touches a net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.sites import Site

Multiply = Callable[[Site, Tensor, "PackedSequence | None"], Tensor]
"""Gives a site's output, scaled; the third argument is the packed sequence that has the output as its ``data``."""


@contextmanager
def attached_scales(model: nn.Module, sites: Sequence[Site], multiply: Multiply) -> Iterator[nn.Module]:
    """Pass the sites' outputs through ``multiply`` inside the block; afterwards no trace is left.

    Where a layer gives a tuple (LSTM, GRU), its first element is meant; packed sequences stay packed.

    Raises:
        SiteError: the net lacks a site; or, at the end of a block without an exception, some sites had run and
            others not, so that their scales would have done nothing.
    """
    layers = [(site, layer_of(model, site.name)) for site in sites]
    hooks = [ScaleHook(site, multiply) for site in sites]
    with ExitStack() as stack:
        for hook, (_, layer) in zip(hooks, layers, strict=True):
            stack.callback(layer.register_forward_hook(hook).remove)
            stack.callback(hook.retire)
        yield model
    idle = [repr(hook.site.name) for hook in hooks if not hook.has_run]
    if idle and len(idle) < len(hooks):
        raise SiteError(f"{', '.join(idle)} never ran, though other sites did: their scales have done nothing")


class ScaleHook:
    """The hook of one site; a class of its own so that what is attached can be recognised."""

    def __init__(self, site: Site, multiply: Multiply) -> None:
        self.site, self.multiply = site, multiply
        self.has_run = False
        self.retired = False

    def retire(self) -> None:
        """A compiled net may remember the hook; it then finds that nothing is to be done any more."""
        self.retired = True

    def __call__(self, layer: nn.Module, inputs: object, output: Any) -> Any:
        """The output, scaled; torch calls this after the layer."""
        if self.retired:
            return output
        if not torch.compiler.is_compiling():
            self.has_run = True
        return self._scaled(layer, output)

    def _scaled(self, layer: nn.Module, output: Any) -> Any:
        if isinstance(output, Tensor):
            return self._product(layer, output, None)
        if isinstance(output, PackedSequence):
            return output._replace(data=self._product(layer, output.data, output))
        if isinstance(output, tuple) and output:
            first = self._scaled(layer, output[0])
            return type(output)(first, *output[1:]) if hasattr(output, "_fields") else (first, *output[1:])
        raise SiteError(f"{self.site.name!r} ({type(layer).__name__}) gives a {type(output).__name__}, not a tensor")

    def _product(self, layer: nn.Module, output: Tensor, packed: PackedSequence | None) -> Tensor:
        units = output.shape[-1:] if packed is not None else self.site.layout.units(output.shape)
        if tuple(units) != self.site.units:
            raise SiteError(
                f"{self.site.name!r} ({type(layer).__name__}) gives an output of shape {tuple(output.shape)}, but the "
                f"adapter has {'x'.join(map(str, self.site.units))} units for layout {self.site.layout.letters!r}"
            )
        return self.multiply(self.site, output, packed)


def refuse_attached(model: nn.Module) -> None:
    """Raise SiteError when scales act on the net already."""
    for name, module in model.named_modules():
        if any(isinstance(hook, ScaleHook) for hook in module._forward_hooks.values()):
            raise SiteError(f"an adapter is attached to {name!r} already; leave its `with` block first")


def layer_of(model: nn.Module, name: str) -> nn.Module:
    """The layer of that name, or SiteError with the names that there are."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        names = ", ".join(name for name, _ in model.named_modules() if name)
        raise SiteError(f"the adapter wants layer {name!r}, which the model lacks; it has: {names}") from None


def bare(model: nn.Module) -> nn.Module:
    """The net inside `DistributedDataParallel`, `DataParallel` or `torch.compile`."""
    while True:
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model
