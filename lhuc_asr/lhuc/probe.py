"""Proof that scales act: every site is shaken, and the net's output must move, however the net is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.example import Example, put_back
from lhuc_asr.lhuc.hooks import attached_scales, bare, layer_of
from lhuc_asr.lhuc.inspection import require_one_run
from lhuc_asr.lhuc.sites import Site

_SEED = 20160101
_proved: WeakKeyDictionary[nn.Module, set[tuple[Site, ...]]] = WeakKeyDictionary()


def prove_sites_act(
    model: nn.Module,
    sites: Sequence[Site],
    example: Any,
    *,
    also: Mapping[str, Any] | None = None,
    shared: bool = False,
) -> None:
    """Run the net on an example with each site's scales shaken in turn; the net is left as it was found.

    It runs in evaluation and in training mode, on the whole batch and on one utterance alone. A shaken unit gets a
    factor between 0.5 and 1.5, every unit another one, so that a normalisation that follows cannot undo it. Random
    numbers, modes and buffers (running statistics) of the net are put back afterwards.

    Args:
        model: any net whose output holds a tensor; the first one is watched.
        sites: what shall be scaled.
        example: a tensor, a tuple of arguments, a mapping of keyword arguments, or an `Example`; a few frames do.
        also: further ways to run the net, by name, such as
            ``{"streaming": Example((chunk,), call=lambda net, x: net.stream(x))}``.
        shared: take sites that run several times in a pass.

    Raises:
        SiteError: a site does not run, runs twice, has another width, or does not change the output in one of the
            ways; the text says which. Or the net's output is not finite, so that nothing can be proved.
    """
    net, batch = bare(model), Example.of(example)
    ways = {"": batch, **({" for one utterance alone": batch.single()} if batch.num_utterances > 1 else {})}
    ways.update({f" ({name})": Example.of(way) for name, way in (also or {}).items()})
    with put_back(net):
        for training in (False, True):
            net.train(training)
            for name, way in ways.items():
                _prove(net, sites, way, ("training" if training else "evaluation") + " mode" + name, shared=shared)
    _proved.setdefault(net, set()).add(tuple(sites))


@contextmanager
def proved_at_first_use(model: nn.Module, sites: tuple[Site, ...], *, when: bool = True) -> Iterator[None]:
    """Prove the sites on the input of the net's first call in the block, unless they are proved already.

    The net runs as it is then set, in training or evaluation mode, once more for every site.
    """
    if not when or sites in _proved.get(model, ()):
        yield
        return

    def prove(net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            return
        hook.remove()
        with put_back(net):
            _prove(net, sites, Example(args, kwargs), "training mode" if net.training else "evaluation mode")
        _proved.setdefault(net, set()).add(sites)

    hook = model.register_forward_pre_hook(prove, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _prove(model: nn.Module, sites: Sequence[Site], example: Example, mode: str, *, shared: bool = False) -> None:
    plain = _counted(model, sites, example, mode, shared=shared)
    if plain.isnan().any() or not plain.isfinite().any():
        raise SiteError(f"the net's output for the example is not finite in {mode}; nothing can be proved")
    for site in sites:
        with attached_scales(model, [site], _shake):
            if torch.equal(example.output(model), plain):
                raise SiteError(f"scaling {site.name!r} changes nothing in {mode}: its output is unused or always 0")


def _counted(model: nn.Module, sites: Sequence[Site], example: Example, mode: str, *, shared: bool) -> Tensor:
    """The net's output; every site must have run."""
    runs = dict.fromkeys((site.name for site in sites), 0)

    def count(name: str) -> None:
        runs[name] += 1

    with ExitStack() as hooks:
        for name in runs:
            hook = layer_of(model, name).register_forward_hook(lambda *_, name=name: count(name))
            hooks.callback(hook.remove)
        output = example.output(model)
    for name, times in runs.items():
        require_one_run(model, name, times, mode, shared=shared)
    return output


def _shake(site: Site, output: Tensor, packed: PackedSequence | None) -> Tensor:
    factors = 0.5 + torch.rand(site.units, generator=torch.Generator().manual_seed(_SEED))
    factors = factors.to(device=output.device, dtype=output.dtype)
    return site.layout.scale(output, factors) if packed is None else output * factors
