"""What lies between two profiles, site by site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lhuc_asr.errors import ProfileError
from lhuc_asr.lhuc.amplitude import amplitude
from lhuc_asr.profiles.profile import Profile

MOVED = 0.01
"""A unit has moved when its factor has changed by more than this."""


@dataclass(frozen=True)
class SiteDifference:
    """How the factors of one site differ.

    Attributes:
        num_units: of the site.
        mean_change: mean of the absolute changes.
        max_change: the greatest absolute change.
        correlation: of the factors before and after; None where one side has the same factor everywhere.
        share_moved: units that changed by more than 0.01, from 0 to 1.
    """

    num_units: int
    mean_change: float
    max_change: float
    correlation: float | None
    share_moved: float


def compare(first: Profile, second: Profile) -> dict[str, SiteDifference]:
    """Compare the factors xi(r) of two profiles of one model; the amplitudes may differ.

    Returns:
        Site name -> difference, sites in the order of the first profile.

    Raises:
        ProfileError: the profiles belong to different models or have different sites.

    Example:
        >>> from lhuc_asr.lhuc.amplitude import Amplitude
        >>> def profile(factors):
        ...     r = {"1": torch.tensor(factors)}
        ...     return Profile(speaker="a", base_fingerprint="f", amplitude=Amplitude.identity, r=r)
        >>> compare(profile([1.0, 1.0]), profile([1.0, 1.5]))["1"].mean_change
        0.25
    """
    require_comparable([first, second])
    before, after = _factors(first), _factors(second)
    return {name: _difference(before[name], after[name]) for name in before}


def require_comparable(profiles: list[Profile]) -> None:
    """Raise ProfileError unless all profiles belong to one model and scale the same units."""
    first = profiles[0]
    for other in profiles[1:]:
        if other.base_fingerprint != first.base_fingerprint:
            raise ProfileError(
                f"{first.speaker!r} was learnt for model {first.base_fingerprint[:12]}, "
                f"{other.speaker!r} for {other.base_fingerprint[:12]}; only profiles of one model have units in common"
            )
        if _sites(other) != _sites(first):
            raise ProfileError(
                f"{first.speaker!r} and {other.speaker!r} scale different units: {_told(first)}, and {_told(other)}"
            )


def _sites(profile: Profile) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (tuple(r.shape), profile.layouts[name]) for name, r in profile.r.items()}


def _told(profile: Profile) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, r.shape))} {profile.layouts[name]}" for name, r in profile.r.items())


def _factors(profile: Profile) -> Mapping[str, Tensor]:
    return {name: amplitude(r.detach().double(), profile.amplitude).flatten() for name, r in profile.r.items()}


def _difference(before: Tensor, after: Tensor) -> SiteDifference:
    change = (after - before).abs()
    constant = any(float(side.max() - side.min()) < 1e-12 for side in (before, after))
    correlation = None if constant else float(torch.corrcoef(torch.stack([before, after]))[0, 1])
    return SiteDifference(
        num_units=len(change),
        mean_change=float(change.mean()),
        max_change=float(change.max()),
        correlation=correlation,
        share_moved=float((change > MOVED).double().mean()),
    )
