"""One speaker's scales beside a frozen net: hooks multiply, nothing of the net is changed or replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.amplitude import Amplitude, amplitude, identity_parameters
from lhuc_asr.lhuc.sites import Site


class LhucAdapter:
    """The free parameters r of one speaker, one per hidden unit of every site.

    Args:
        r: site name -> (H,) parameters; copied, so that two adapters never share memory.
        kind: how they become factors.

    Example:
        >>> from lhuc_asr.lhuc.sites import find_sites
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2)).requires_grad_(False)
        >>> adapter = LhucAdapter.identity(net, find_sites(net, "1"))
        >>> with adapter.attached(net):
        ...     net(torch.ones(4, 3)).sum().backward()
        >>> adapter.r["1"].grad.shape
        torch.Size([5])

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), eq. 3.
    """

    def __init__(self, r: Mapping[str, Tensor], kind: Amplitude = Amplitude.exp) -> None:
        self.kind = kind
        self.r = {name: nn.Parameter(value.detach().clone()) for name, value in r.items()}

    @classmethod
    def identity(
        cls, model: nn.Module, sites: Sequence[Site], amplitude: Amplitude | str = Amplitude.exp
    ) -> LhucAdapter:
        """Parameters that leave the net exactly as it is, on its device and in its precision."""
        kind = Amplitude(amplitude)
        like = next(model.parameters(), torch.empty(0))
        return cls({site.name: identity_parameters(site.num_units, kind, like) for site in sites}, kind)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where the adapter acts."""
        return tuple(Site(name, value.shape[-1]) for name, value in self.r.items())

    @property
    def num_parameters(self) -> int:
        """Parameters of one speaker, all sites together."""
        return sum(value.numel() for value in self.r.values())

    def parameters(self) -> list[nn.Parameter]:
        """What an optimiser gets: r of every site, and nothing of the net."""
        return list(self.r.values())

    def scales(self) -> dict[str, Tensor]:
        """Site name -> (H,) factors xi(r), detached."""
        return {name: amplitude(value.detach(), self.kind) for name, value in self.r.items()}

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[nn.Module]:
        """Scale the sites' outputs inside the block; afterwards, also after an exception, no trace is left.

        Raises:
            SiteError: the net lacks a site, or an adapter is attached to it already.
        """
        refuse_attached(model)
        layers = {name: _layer(model, name) for name in self.r}
        with ExitStack() as hooks:
            for name, layer in layers.items():
                hooks.callback(layer.register_forward_hook(_Scale(self, name)).remove)
            yield model


class _Scale:
    """The hook of one site; a class of its own so that an attached adapter can be recognised."""

    def __init__(self, adapter: LhucAdapter, name: str) -> None:
        self.adapter, self.name = adapter, name

    def __call__(self, layer: nn.Module, inputs: object, output: object) -> Tensor:
        r = self.adapter.r[self.name]
        if not isinstance(output, Tensor):
            raise SiteError(f"{self.name!r} ({type(layer).__name__}) gives a {type(output).__name__}, not one tensor")
        if output.shape[-1:] != r.shape[-1:]:
            raise SiteError(
                f"{self.name!r} ({type(layer).__name__}) gives outputs {tuple(output.shape)}, "
                f"but the adapter has {r.shape[-1]} units for the last dimension"
            )
        return output * amplitude(r, self.adapter.kind)


def refuse_attached(model: nn.Module) -> None:
    """Raise SiteError when some adapter acts on the net already."""
    for name, module in model.named_modules():
        if any(isinstance(hook, _Scale) for hook in module._forward_hooks.values()):
            raise SiteError(f"an adapter is attached to {name!r} already; leave its `with` block first")


def _layer(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        names = ", ".join(name for name, _ in model.named_modules() if name)
        raise SiteError(f"the adapter wants layer {name!r}, which the model lacks; it has: {names}") from None
