"""Proof that scales act: every site is shaken, and the net's output must move, in training and in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.sites import Site

_SEED = 20160101


def prove_sites_act(model: nn.Module, sites: Sequence[Site], *inputs: Any) -> None:
    """Run the net on example inputs with each site's scales shaken in turn; the net is left as it was found.

    A shaken unit gets a factor between 0.5 and 1.5, every unit another one, so that a normalisation that follows
    cannot undo it. Random numbers, modes and buffers (running statistics) of the net are put back afterwards.

    Args:
        model: any net whose output is a tensor, or a tuple that begins with one.
        sites: what shall be scaled.
        *inputs: what ``model(*inputs)`` takes; a few frames are enough.

    Raises:
        SiteError: a site does not run, runs twice, has another width, or does not change the output in one of the
            modes; the text says which. Or the net's output is not finite, so that nothing can be proved.
    """
    with _put_back(model):
        for training in (False, True):
            model.train(training)
            mode = "training" if training else "evaluation"
            _count_runs(model, sites, inputs, mode)
            plain = _output(model, inputs)
            if not torch.isfinite(plain).all():
                raise SiteError(f"the net's output for the example is not finite in {mode} mode; nothing can be proved")
            for site in sites:
                with _shaken(model, site).attached(model):
                    if torch.equal(_output(model, inputs), plain):
                        raise SiteError(
                            f"scaling {site.name!r} changes nothing in {mode} mode: its output is unused or always 0"
                        )


def _count_runs(model: nn.Module, sites: Sequence[Site], inputs: tuple[Any, ...], mode: str) -> None:
    runs = dict.fromkeys((site.name for site in sites), 0)

    def count(name: str) -> None:
        runs[name] += 1

    with ExitStack() as hooks:
        for site in sites:
            hook = model.get_submodule(site.name).register_forward_hook(lambda *_, name=site.name: count(name))
            hooks.callback(hook.remove)
        _output(model, inputs)
    for name, times in runs.items():
        kind = type(model.get_submodule(name)).__name__
        if times == 0:
            raise SiteError(f"{name!r} ({kind}) never runs in {mode} mode: the net reads its weights another way")
        if times > 1:
            raise SiteError(f"{name!r} ({kind}) runs {times} times in one pass: its scales would act that often")


def _shaken(model: nn.Module, site: Site) -> LhucAdapter:
    like = next(model.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(_SEED)
    factors = 0.5 + torch.rand(site.num_units, generator=generator)
    return LhucAdapter({site.name: factors.to(like)}, Amplitude.identity)


@torch.no_grad()
def _output(model: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    torch.manual_seed(_SEED)
    output = model(*inputs)
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise SiteError(
            f"the net gives a {type(output).__name__}; the proof needs a tensor, or a tuple that begins with one"
        )
    return output.clone()


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Restore modes, buffers and random numbers when the block ends, however it ends."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
