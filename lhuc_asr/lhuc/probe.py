"""Proof that scales act: every site is shaken, and the net's output must move, however the net is used."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.example import Example, put_back
from lhuc_asr.lhuc.hooks import OfOneBlock, bare, proves_here, scales_of_a_proof
from lhuc_asr.lhuc.inspection import require_one_run
from lhuc_asr.lhuc.sites import Site

_SEED = 20160101
_proved: WeakKeyDictionary[nn.Module, set[tuple[tuple[Site, ...], bool]]] = WeakKeyDictionary()


def prove_sites_act(
    model: nn.Module,
    sites: Sequence[Site],
    example: Any,
    *,
    also: Mapping[str, Any] | None = None,
    shared: bool = False,
    modes: Sequence[str] = ("evaluation", "training"),
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
        modes: leave one out where the net itself cannot run in it.

    Raises:
        SiteError: a site does not run, runs twice, has another width, or does not change the output in one of the
            ways; the text says which. Or the net fails in one of the ways by itself, or its output is not finite, so
            that nothing can be proved.
    """
    net, batch = bare(model), Example.of(example)
    ways = {"": batch, **({" for one utterance alone": batch.single()} if batch.num_utterances > 1 else {})}
    ways.update({f" ({name})": Example.of(way) for name, way in (also or {}).items()})
    with put_back(net):
        for mode in modes:
            net.train(_is_training(mode))
            for name, way in ways.items():
                _prove_way(net, sites, way, f"{mode} mode{name}", shared=shared)
    _remember(net, tuple(sites), *map(_is_training, modes))


def prove_gradient(model: nn.Module, sites: Sequence[Site], example: Any, *, frozen: bool = True) -> None:
    """Run the net forward and backward on an example: the gradient must reach every site's r, and nothing else.

    The net runs in the mode in which it is and is left as it was found; no ``grad`` is filled.

    Args:
        model: any net whose output holds a tensor; a random mixture of the first one is the objective.
        sites: what shall be scaled.
        example: as for `prove_sites_act`.
        frozen: refuse a net whose own parameters get gradients too; False for speaker-adaptive training.

    Raises:
        SiteError: a site's r gets no gradient, or one that is all 0 or not finite; or the net is not frozen.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2)).requires_grad_(False)
        >>> prove_gradient(net, [Site("1", (5,))], torch.ones(4, 3))
    """
    net, way = bare(model), Example.of(example)
    weights = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}

    with torch.inference_mode(False):
        r = {site.name: torch.zeros(site.units, requires_grad=True) for site in sites}

    def multiply(site: Site, output: Tensor, utterance_of_row: Tensor | None) -> Tensor:
        return _times(site, output, r[site.name].exp(), utterance_of_row)

    with put_back(net), torch.inference_mode(False), torch.enable_grad(), scales_of_a_proof(net, sites, multiply):
        with _told("training mode" if net.training else "evaluation mode"):
            output = way.first_output(net)
        if not output.requires_grad:
            raise SiteError(
                "no gradient reaches any r: the net's output is cut off from its sites, by torch.no_grad(), detach() "
                "or an operation without a derivative"
            )
        mixture = torch.randn(output.shape, generator=torch.Generator().manual_seed(_SEED)).to(output)
        gradients = torch.autograd.grad((output * mixture).sum(), [*r.values(), *weights.values()], allow_unused=True)
    for name, gradient in zip(r, gradients, strict=False):
        _require_gradient(name, gradient)
    reached = [name for name, gradient in zip(weights, gradients[len(r) :], strict=True) if gradient is not None]
    if frozen and reached:
        raise SiteError(
            f"the gradient also reaches {len(reached)} parameters of the net, the first is {reached[0]!r}: freeze it "
            "with model.requires_grad_(False)"
        )


@contextmanager
def proved_at_first_use(model: nn.Module, sites: tuple[Site, ...], *, when: bool = True) -> Iterator[None]:
    """Prove the sites on the input of the net's first call in the block, unless they are proved already.

    The net runs once more, and once more for every site, as it is then set; the first call in the other mode, training
    or evaluation, proves them for that one. Other threads that call the net meanwhile wait. Code of `torch.compile`
    is not proved: call the net once before it is compiled, or use `prove_sites_act`.
    """
    if not when or all(_is_proved(model, sites, training) for training in (False, True)):
        yield
        return
    hook = model.register_forward_pre_hook(_FirstUse(sites), with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


class _FirstUse(OfOneBlock):
    """Stands before the net and lets a call through once the sites are proved in its mode."""

    def __init__(self, sites: tuple[Site, ...]) -> None:
        self.sites, self.lock = sites, threading.Lock()

    def __call__(self, net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Torch calls this before the net."""
        if torch.compiler.is_compiling() or proves_here() or _is_proved(net, self.sites, net.training):
            return
        with self.lock:
            if not _is_proved(net, self.sites, net.training):
                mode = "training mode" if net.training else "evaluation mode"
                with put_back(net):
                    is_proved = _prove(net, self.sites, Example(args, kwargs), mode)
                if is_proved:
                    _remember(net, self.sites, net.training)


def _is_proved(net: nn.Module, sites: tuple[Site, ...], training: bool) -> bool:
    return (sites, training) in _proved.get(net, ())


def _remember(net: nn.Module, sites: tuple[Site, ...], *modes: bool) -> None:
    _proved.setdefault(net, set()).update((sites, training) for training in modes)


def _is_training(mode: str) -> bool:
    if mode not in ("evaluation", "training"):
        raise SiteError(f"there is no mode {mode!r}; a net has 'evaluation' and 'training'")
    return mode == "training"


def _prove_way(model: nn.Module, sites: Sequence[Site], example: Example, mode: str, *, shared: bool) -> None:
    with _told(mode):
        is_proved = _prove(model, sites, example, mode, shared=shared)
    if not is_proved:
        raise SiteError(f"the net's output for the example is empty in {mode}; nothing can be proved")


@contextmanager
def _told(mode: str) -> Iterator[None]:
    """Turn what the net itself cannot do into one line."""
    try:
        yield
    except SiteError:
        raise
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SiteError(
            f"the net fails on the example in {mode}: {reason}; give another example, or if it cannot be used so, "
            "leave this way out (modes=...)"
        ) from error


def _prove(model: nn.Module, sites: Sequence[Site], example: Example, mode: str, *, shared: bool = False) -> bool:
    """Raise SiteError where a site does not act; False when the output is empty, so that nothing can be said."""
    plain = _counted(model, sites, example, mode, shared=shared)
    if plain.numel() == 0:
        return False
    if plain.isnan().any() or not plain.isfinite().any():
        raise SiteError(f"the net's output for the example is not finite in {mode}; nothing can be proved")
    for site in sites:
        with scales_of_a_proof(model, [site], _shake):
            if torch.equal(example.output(model), plain):
                raise SiteError(f"scaling {site.name!r} changes nothing in {mode}: its output is unused or always 0")
    return True


def _counted(model: nn.Module, sites: Sequence[Site], example: Example, mode: str, *, shared: bool) -> Tensor:
    """The net's output; every site must have run."""
    runs: Counter[str] = Counter()

    def count(site: Site, output: Tensor, utterance_of_row: Tensor | None) -> Tensor:
        runs[site.name] += 1
        return output

    with scales_of_a_proof(model, sites, count):
        output = example.output(model)
    for site in sites:
        require_one_run(model, site.name, runs[site.name], mode, shared=shared or site.shared)
    return output


def _require_gradient(name: str, gradient: Tensor | None) -> None:
    if gradient is None:
        raise SiteError(
            f"no gradient reaches r of {name!r}: above this layer the net cuts it off, by detach(), torch.no_grad() or "
            "an operation without a derivative, or does not use the layer"
        )
    if not gradient.isfinite().all():
        raise SiteError(f"the gradient of r of {name!r} is not finite for this example")
    if not gradient.any():
        raise SiteError(f"the gradient of r of {name!r} is 0 for this example: nothing would be learnt there")


def _shake(site: Site, output: Tensor, utterance_of_row: Tensor | None) -> Tensor:
    factors = 0.5 + torch.rand(site.units, generator=torch.Generator().manual_seed(_SEED))
    return _times(site, output, factors, utterance_of_row)


def _times(site: Site, output: Tensor, factors: Tensor, utterance_of_row: Tensor | None) -> Tensor:
    factors = factors.to(device=output.device, dtype=output.dtype)
    return site.layout.scale(output, factors) if utterance_of_row is None else output * factors
