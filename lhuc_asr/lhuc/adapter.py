"""One speaker's scales beside a frozen net: hooks multiply, nothing of the net is changed or replaced."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.amplitude import Amplitude, amplitude, identity_parameters
from lhuc_asr.lhuc.hooks import attached_scales, bare
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.probe import proved_at_first_use
from lhuc_asr.lhuc.sites import Site


class LhucAdapter:
    """The free parameters r of one speaker, one per hidden unit of every site.

    Args:
        r: site name -> (H,) or (C, F) parameters; copied, so that two adapters never share memory.
        kind: how they become factors.
        layouts: site name -> where its units lie in its output; ``*H`` (the last dimension) for those not named.
        shared: names of sites that may run several times in a pass.

    Raises:
        SiteError: r names no site at all, so that nothing would be scaled.

    Example:
        >>> from lhuc_asr.lhuc.finding import find_sites
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2)).requires_grad_(False)
        >>> adapter = LhucAdapter.identity(net, find_sites(net, "1"))
        >>> with adapter.attached(net):
        ...     net(torch.ones(4, 3)).sum().backward()
        >>> adapter.r["1"].grad.shape
        torch.Size([5])

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), eq. 3.
    """

    def __init__(
        self,
        r: Mapping[str, Tensor],
        kind: Amplitude = Amplitude.exp,
        layouts: Mapping[str, Layout] | None = None,
        shared: Collection[str] = (),
    ) -> None:
        if not r:
            raise SiteError("an adapter needs at least one site; with none it would do nothing")
        self.kind = kind
        self.r = {name: nn.Parameter(value.detach().clone()) for name, value in r.items()}
        given = layouts or {}
        self.sites = tuple(
            Site(name, tuple(value.shape), given.get(name, Layout()), name in shared) for name, value in self.r.items()
        )

    @classmethod
    def identity(
        cls, model: nn.Module, sites: Sequence[Site], amplitude: Amplitude | str = Amplitude.exp
    ) -> LhucAdapter:
        """Parameters that leave the net exactly as it is, on its device, in single precision or better."""
        kind = Amplitude(amplitude)
        like = like_parameters(model)
        r = {site.name: identity_parameters(site.units, kind, like) for site in sites}
        return cls(r, kind, {site.name: site.layout for site in sites}, {site.name for site in sites if site.shared})

    @property
    def num_parameters(self) -> int:
        """Parameters of one speaker, all sites together."""
        return sum(value.numel() for value in self.r.values())

    def parameters(self) -> list[nn.Parameter]:
        """What an optimiser gets: r of every site, and nothing of the net."""
        return list(self.r.values())

    def scales(self) -> dict[str, Tensor]:
        """Site name -> (H,) or (C, F) factors xi(r), detached."""
        return {name: amplitude(value.detach(), self.kind) for name, value in self.r.items()}

    @contextmanager
    def attached(self, model: nn.Module, *, prove: bool = True) -> Iterator[nn.Module]:
        """Scale the sites' outputs inside the block; afterwards, also after an exception, no trace is left.

        A net that computes activations anew for the backward pass (`torch.utils.checkpoint`) needs the block then too.

        Args:
            model: the net, also inside `DistributedDataParallel` or `torch.compile`, which compiles it anew.
            prove: at the first call of the net with these sites, shake every site on that input and demand that the
                output moves (`lhuc_asr.lhuc.probe.prove_sites_act` proves more, and beforehand; compiled code is not
                proved otherwise).

        Raises:
            SiteError: the net lacks a site, an adapter is attached to it already, or a site does not act; at the end
                of the block, some sites have run and others not.
        """
        net = bare(model)
        with (
            attached_scales(net, self.sites, self._multiply, self._multiply_in_place),
            proved_at_first_use(net, self.sites, when=prove),
        ):
            yield model

    def _multiply(self, site: Site, output: Tensor, utterance_of_row: Tensor | None) -> Tensor:
        factors = amplitude(self.r[site.name], self.kind)
        return site.layout.scale(output, factors) if utterance_of_row is None else output * factors.to(output.dtype)

    def _multiply_in_place(self, site: Site, output: Tensor, _: Tensor | None) -> Tensor:
        return site.layout.scale(output, amplitude(self.r[site.name], self.kind), in_place=True)


def like_parameters(model: nn.Module) -> Tensor:
    """An empty tensor on the net's device; single precision, or double where the net has it."""
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.empty(0, device=first.device, dtype=torch.promote_types(first.dtype, torch.float32))
