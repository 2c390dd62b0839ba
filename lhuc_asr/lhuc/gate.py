"""The gate: a small net that predicts the scales of every site from a vector z, which tells who is speaking.

Shape suffixes: ``...`` any dimensions in front (B utterances, or B and N segments, or B and T frames), D width of z,
H hidden units of a site.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from lhuc_asr.errors import ConfigError, GateError
from lhuc_asr.lhuc.amplitude import bounded_amplitude
from lhuc_asr.lhuc.sites import Site

Units = int | tuple[int, ...]
"""How many scales a site has: H, or (C, F) where every channel has one for every band."""


@dataclass(kw_only=True, slots=True)
class GateConfig:
    """The net between z and the scales.

    Attributes:
        hidden_dims: units of the hidden layers (ReLU), lowest first; with none the logits are linear in z.
        gamma: the largest scale that there can be; the smallest is 0.
        shared_trunk: one stack of hidden layers for all sites; else every site has its own, as in PPNet.
        identity_start: a fresh gate gives 1 for any z. Without it, the gate is as published: it begins at random around
            gamma / 2 and the net above has to find its way from there.
        bias: without biases, and with ``identity_start``, a z of 0 gives the identity also after training.
    """

    hidden_dims: list[int] = field(default_factory=lambda: [64])
    gamma: float = 2.0
    shared_trunk: bool = False
    identity_start: bool = True
    bias: bool = True

    def __post_init__(self) -> None:
        if any(dim < 1 for dim in self.hidden_dims):
            raise ConfigError(f"gate.hidden_dims are counts of units, at least 1 each, got {self.hidden_dims}")
        if self.gamma <= 1:
            raise ConfigError(f"gate.gamma must be above 1, so that a scale of 1 is in reach, got {self.gamma}")


class Gate(nn.Module):
    """Scales of every site as a function of z; a fresh gate gives exactly 1 (gamma 2) for any z.

    When not to use it: with a minute of a speaker's speech, scales learned from it (`LhucAdapter`) know more of that
    speaker than any vector.

    Args:
        units: site name -> how many scales it has.
        parts: D, or name -> width for a z that is put together from named parts.
        config: the net in between.
        stopped: parts that the gate sees but must not train: the gradient ends there.

    Raises:
        GateError: there is no site or no part, or ``stopped`` names one that there is not.

    Example:
        >>> gate = Gate({"1": 5, "3": 4}, {"speaker": 2, "speech": 8}, stopped=["speech"])
        >>> scales = gate({"speaker": torch.randn(6, 2), "speech": torch.randn(6, 8)})
        >>> scales["1"].shape, bool((scales["3"] == 1).all())
        (torch.Size([6, 5]), True)

    Source: Gate NU of Chang et al. 2023 (arXiv:2302.01115); the zero last layer and the shift are ours.
    """

    def __init__(
        self,
        units: Mapping[str, Units],
        parts: int | Mapping[str, int],
        config: GateConfig | None = None,
        *,
        stopped: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.config = config or GateConfig()
        self.units = {site: (size,) if isinstance(size, int) else tuple(size) for site, size in units.items()}
        self.parts = {"z": parts} if isinstance(parts, int) else dict(parts)
        self.stopped = frozenset(stopped)
        self._require_sense()
        num_trunks = 1 if self.config.shared_trunk else len(self.units)
        self.trunks = nn.ModuleList(
            _trunk([self.dim, *self.config.hidden_dims], bias=self.config.bias) for _ in range(num_trunks)
        )
        width = [self.dim, *self.config.hidden_dims][-1]
        self.heads = nn.ModuleList(self._head(width, prod(size)) for size in self.units.values())

    @classmethod
    def for_sites(
        cls,
        sites: Iterable[Site],
        parts: int | Mapping[str, int],
        config: GateConfig | None = None,
        *,
        stopped: Collection[str] = (),
    ) -> Gate:
        """A gate with a head for every site of a net."""
        return cls({site.name: site.units for site in sites}, parts, config, stopped=stopped)

    @property
    def dim(self) -> int:
        """D, all parts together."""
        return sum(self.parts.values())

    def forward(self, z: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict.

        Args:
            z: (..., D), the parts one after the other; or name -> (..., width of that part).

        Returns:
            Site name -> (..., H) or (..., C, F) factors between 0 and gamma. They have the dimensions of z in front: of
            a z (B, 1, D) they can be multiplied with an output (B, T, H).

        Raises:
            GateError: z has another width or other parts.
        """
        z_D = self._joined(z)
        trunks = [trunk(z_D) for trunk in self.trunks] * (len(self.heads) // len(self.trunks))
        logits = (head(hidden) for head, hidden in zip(self.heads, trunks, strict=True))
        return {
            site: self._factors(logit).unflatten(-1, size)  # type: ignore[no-untyped-call]
            for (site, size), logit in zip(self.units.items(), logits, strict=True)
        }

    def _factors(self, logit: Tensor) -> Tensor:
        gamma = self.config.gamma
        return bounded_amplitude(logit, gamma) if self.config.identity_start else gamma * logit.sigmoid()

    def _joined(self, z: Tensor | Mapping[str, Tensor]) -> Tensor:
        """(..., D) all parts, those that are stopped cut off from what made them."""
        given = self._split(z) if isinstance(z, Tensor) else z
        found = {name: part.shape[-1] for name, part in given.items()}
        if found != self.parts:
            raise GateError(f"the gate takes {_told(self.parts)}, but was given {_told(found)}")
        pieces = [given[name].detach() if name in self.stopped else given[name] for name in self.parts]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)

    def _split(self, z: Tensor) -> dict[str, Tensor]:
        if z.ndim == 0 or z.shape[-1] != self.dim:
            raise GateError(f"the gate takes vectors of {self.dim} numbers, but got a z of shape {tuple(z.shape)}")
        return dict(zip(self.parts, torch.split(z, list(self.parts.values()), dim=-1), strict=True))

    def _head(self, width: int, num_units: int) -> nn.Linear:
        head = nn.Linear(width, num_units, bias=self.config.bias)
        if self.config.identity_start:
            for parameter in head.parameters():
                nn.init.zeros_(parameter)
        return head

    def _require_sense(self) -> None:
        if not self.units or not self.parts or self.dim < 1:
            raise GateError(f"a gate needs a site and a z, got sites {list(self.units)} and {_told(self.parts)}")
        if unknown := sorted(self.stopped - self.parts.keys()):
            raise GateError(f"stopped names {', '.join(map(repr, unknown))}, but z has the parts {_told(self.parts)}")


def _trunk(dims: list[int], *, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(below, above, bias=bias), nn.ReLU()) for below, above in pairwise(dims))
    )


def _told(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name!r} ({width})" for name, width in parts.items()) or "nothing"
