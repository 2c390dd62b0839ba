"""The plan of a fold: for every site the weights that can take its scales in, or the reason why none can."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lhuc_asr.lhuc.example import Example, put_back
from lhuc_asr.lhuc.folding.following import Way, into_readers, into_rows
from lhuc_asr.lhuc.folding.tracing import Scaled, Trace, trace_sites
from lhuc_asr.lhuc.folding.weights import Fold
from lhuc_asr.lhuc.hooks import bare, refuse_attached
from lhuc_asr.lhuc.sites import Site


@dataclass(frozen=True, eq=False)
class SiteFold:
    """Where the scales of one site can go.

    Attributes:
        site: the site.
        folds: layers whose weights take them in; none when that is impossible.
        into_rows: whether the layers are those that give the site its numbers, not those that read them.
        reason: why it is impossible; empty when it is possible.

    Example:
        >>> import torch
        >>> from lhuc_asr.lhuc.finding import find_sites
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2), nn.LogSoftmax(-1))
        >>> for fold in plan_fold(net, find_sites(net, ["0", "1", "3"], layout="*H"), torch.ones(1, 3)):
        ...     print(str(fold)[:40])
        '0': into own rows of '0'
        '1': into '2' input columns
        '3': not foldable: it is part of the net
    """

    site: Site
    folds: tuple[Fold, ...] = ()
    into_rows: bool = False
    reason: str = ""

    @property
    def foldable(self) -> bool:
        """Whether the scales can go anywhere."""
        return bool(self.folds)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose weights take the scales in."""
        return tuple(dict.fromkeys(fold.layer for fold in self.folds))

    @property
    def where(self) -> str:
        """``into 'output' input columns``, ``into own rows of '0'``, or ``not foldable: ...``."""
        names = ", ".join(map(repr, self.layers))
        if not names:
            return f"not foldable: {self.reason}"
        return f"into own rows of {names}" if self.into_rows else f"into {names} input columns"

    def __str__(self) -> str:
        return f"{self.site.name!r}: {self.where}"


def plan_fold(
    model: nn.Module, sites: Sequence[Site], example: Any, *, negative: Collection[str] = ()
) -> tuple[SiteFold, ...]:
    """Tell where the scales of each site can be folded; the net is not touched, a copy of it runs once.

    Scales go into the columns of all layers that read a site, if nothing else reads it; that holds for every
    non-linearity in front of it. Otherwise into the rows of the layer that gives it, if that layer is read by nothing
    else and only functions lie between that let positive factors pass, such as ReLU.

    Args:
        model: any net, in any mode; it is watched in evaluation mode.
        sites: what is scaled.
        example: input of a few frames: a tensor, a tuple of arguments, a mapping of keyword arguments, or an
            `lhuc_asr.lhuc.example.Example`.
        negative: names of sites with negative factors, which do not pass ReLU and the like.

    Returns:
        One answer for each site, in their order.

    Raises:
        SiteError: the net lacks a site, or an adapter is attached to it.
    """
    net = bare(model)
    refuse_attached(net)
    return plan_on(copy.deepcopy(net).eval(), sites, Example.of(example), negative)


def plan_on(net: nn.Module, sites: Sequence[Site], example: Example, negative: Collection[str]) -> tuple[SiteFold, ...]:
    """The same for a net in evaluation mode that may be watched itself."""
    with put_back(net):
        trace = trace_sites(net, sites, example)
    return tuple(_plan_site(trace, site, negative=site.name in negative) for site in sites)


def _plan_site(trace: Trace, site: Site, *, negative: bool) -> SiteFold:
    if not any(isinstance(step, Scaled) and step.site is site for step in trace.steps):
        return SiteFold(site, reason="it never runs in evaluation mode")
    readers = into_readers(trace, site.name)
    problem = _problem(trace, readers, negative=negative)
    if problem is None:
        return SiteFold(site, _once(readers))
    rows = into_rows(trace, site.name)
    problem_of_rows = _problem(trace, rows, negative=negative)
    if problem_of_rows is None:
        return SiteFold(site, _once(rows), into_rows=True)
    return SiteFold(site, reason=f"{problem}; nor into the layer that gives it: {problem_of_rows}")


def _problem(trace: Trace, way: Way, *, negative: bool) -> str | None:
    if way.problem is not None:
        return way.problem
    if negative and way.positive is not None:
        return f"it has negative scales, and none passes {way.positive}"
    return next((problem for fold, _ in way.folds if (problem := _shared_weights(trace, way, fold))), None)


def _shared_weights(trace: Trace, way: Way, fold: Fold) -> str | None:
    """Whether somebody else uses the weights that a fold would change."""
    same = {id(call) for other, call in way.folds if other.same_as(fold)}
    touched = set(fold.touched)
    for identity, names in trace.names.items():
        if touched.isdisjoint(names):
            continue
        if len(names) > 1:
            return f"weights are tied: {' and '.join(map(repr, names))} are one tensor"
        if any(id(call) not in same for call in trace.readers.get(identity, ())):
            return f"weights are used more than once: {names[0]!r} is read by another call too"
    return None


def _once(way: Way) -> tuple[Fold, ...]:
    """A layer that runs several times changes once."""
    kept: list[Fold] = []
    for fold, _ in way.folds:
        if not any(fold.same_as(other) for other in kept):
            kept.append(fold)
    return tuple(kept)
