"""Scales that somebody computes, a gate for instance, on the sites of any net: the gradient runs through them.

Shape suffixes: B utterances, T frames, H hidden units (or C, F).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.selection import Selections
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.lhuc.utterances import attached_to_utterances, owners, require_batch, scale_ragged, scale_utterances

Scales = Mapping[str, Tensor]
"""Site name -> (B, H) factors of every utterance, or (B, T, H) of every frame."""


class GatedSites:
    """The sites of a net, to be multiplied with factors that every batch brings along.

    Factors are given per thread, inside ``with gated.scaled_by(...)``, like the speakers of a `SpeakerBank`. They may
    hang on a graph: the backward pass reaches whatever computed them.

    Args:
        sites: what is scaled; utterances must be told apart (``B`` or ``N`` in the layouts) for batches of several.

    Raises:
        SiteError: there is no site, or one comes twice.

    Example:
        >>> import torch
        >>> from lhuc_asr.lhuc.finding import find_sites
        >>> from lhuc_asr.lhuc.gate import Gate
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> sites = find_sites(net, "1", example=torch.ones(4, 3))
        >>> gate, gated = Gate.for_sites(sites, 7), GatedSites(sites)
        >>> with gated.attached(net), gated.scaled_by(gate(torch.randn(4, 7))):
        ...     net(torch.randn(4, 3)).sum().backward()
        >>> gate.heads[0].weight.grad.shape
        torch.Size([5, 64])
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        if not sites or len({site.name for site in sites}) < len(sites):
            raise SiteError(f"gates need at least one site, and each once, got {[site.name for site in sites]}")
        self.sites = tuple(sites)
        self._selections: Selections[Scales] = Selections(
            "gated.scaled_by({...})", "gates are attached, but this thread has given no scales"
        )

    @contextmanager
    def attached(self, model: nn.Module, *, prove: bool = True) -> Iterator[nn.Module]:
        """Scale the net's sites inside the block by the factors that each thread gives.

        Args:
            model: the net, also inside `DistributedDataParallel` or `torch.compile`, which compiles it anew.
            prove: shake every site at the net's first call and demand that the output moves.

        Raises:
            SiteError: the net lacks a site, something is attached to it already, a site does not act, or the net is
                called in a thread that has given no scales.
        """
        with attached_to_utterances(model, self.sites, self._multiply, self._require_batch, prove=prove):
            yield model

    @contextmanager
    def scaled_by(self, scales: Scales, *, num_rows: Sequence[int] | None = None) -> Iterator[None]:
        """Give the factors of the batches that this thread computes inside the block.

        Args:
            scales: for every site (B, H) or (B, C, F) factors, one row for each utterance; or with a dimension T more,
                (B, T, H), one for each frame of the site's output. One row does for a batch of one utterance only.
            num_rows: where utterances lie one after the other (layout ``N``) and differ in length, the rows of each.

        Raises:
            SiteError: a site has no factors, or factors of another shape than its units; or the rows of another number
                of utterances were given.
            SpeakerError: another asyncio task of this thread is in such a block.
        """
        self._require_fit(scales)
        first = scales[self.sites[0].name]
        if num_rows is not None and len(num_rows) != len(first):
            raise SiteError(f"scales of {len(first)} utterances were given, but the rows of {len(num_rows)}")
        with self._selections.chosen(dict(scales), owners(num_rows, first.device)):
            yield

    def _multiply(
        self, site: Site, output: Tensor, utterance_of_row: Tensor | None, *, in_place: bool = False
    ) -> Tensor:
        selection = self._selections.current()
        factors = selection.rows[site.name]
        if factors.ndim == 1 + len(site.units):
            if utterance_of_row is not None:
                return scale_ragged(site, output, factors, utterance_of_row)
            return scale_utterances(site, output, factors, selection.utterance_of_row, in_place=in_place)
        if utterance_of_row is not None:
            raise SiteError(f"{site.name!r} gives packed sequences; their frames cannot have scales of their own")
        return site.layout.scale_frames(output, factors)

    def _require_batch(self, net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        selection = self._selections.current()
        if selection.utterance_of_row is None:
            num_utterances = len(selection.rows[self.sites[0].name])
            require_batch(num_utterances, args, kwargs, "gated.scaled_by(..., num_rows=[...])")

    def _require_fit(self, scales: Scales) -> None:
        """Factors for just these sites, of their sizes, all of one number of utterances."""
        if scales.keys() != {site.name for site in self.sites}:
            raise SiteError(
                f"scales were given for {sorted(scales)}, the sites are {sorted(site.name for site in self.sites)}"
            )
        for site in self.sites:
            shape = tuple(scales[site.name].shape)
            num_leading = len(shape) - len(site.units)
            if num_leading not in (1, 2) or shape[num_leading:] != site.units:
                units = ", ".join(map(str, site.units))
                raise SiteError(f"{site.name!r} takes scales (B, {units}) or (B, T, {units}), but was given {shape}")
        if len(sizes := {len(scales[site.name]) for site in self.sites}) > 1:
            raise SiteError(f"scales were given for different numbers of utterances: {sorted(sizes)}")
