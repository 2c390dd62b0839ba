"""A profile: what was learnt about one speaker, for which model, from what, and how it can be told from others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.errors import ProfileError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.tensors import digest
from lhuc_asr.units import Seconds

DTYPES = {"float32": torch.float32, "float16": torch.float16}
"""Precisions in which a profile can lie on disk."""


def now() -> str:
    """The time in UTC, to the second, as ISO 8601 writes it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """What was learnt about one speaker, and for which model; two profiles are the same when their ``sha256`` is.

    Attributes:
        speaker: any id; it appears in the JSON page and escaped in the file name, never in a tensor's key.
        base_fingerprint: of the only model that these parameters fit.
        amplitude: how r becomes factors.
        r: site name -> (H,) or (C, F) parameters.
        layouts: site name -> letters of its output's dimensions; the units are the last ones where nothing is said.
        shared: names of sites that may run several times in a pass.
        dtype: precision on disk, ``float32`` or ``float16``.
        seconds: speech that it was learnt from.
        supervision: where the targets came from, such as ``one_best``; None means unknown.
        objective_before: mean cross-entropy per frame on the supervision, at the start.
        objective_after: the same, at the end.
        guard: verdict of the test that the profile does no harm, ready for JSON; None means not judged.
        settings: what it was learnt with, ready for JSON.
        created: UTC time, ISO 8601.

    Example:
        >>> r = {"1": torch.zeros(5)}
        >>> profile = Profile(speaker="0024", base_fingerprint="f" * 64, amplitude=Amplitude.exp, r=r)
        >>> profile.adapter().scales()["1"], profile.size_bytes
        (tensor([1., 1., 1., 1., 1.]), 20)
    """

    speaker: str
    base_fingerprint: str
    amplitude: Amplitude
    r: Mapping[str, Tensor]
    layouts: Mapping[str, str] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    dtype: str = "float32"
    seconds: Seconds = 0.0
    supervision: str | None = None
    objective_before: float | None = None
    objective_after: float | None = None
    guard: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=now)

    def __post_init__(self) -> None:
        if unknown := sorted(self.layouts.keys() - self.r.keys()):
            raise ProfileError(f"layouts of {unknown} were given, but the profile's sites are {sorted(self.r)}")
        if self.dtype not in DTYPES:
            raise ProfileError(f"a profile cannot be kept as {self.dtype!r}, only as {' or '.join(DTYPES)}")
        layouts = {name: self.layouts.get(name, "*" + "H" * r.ndim) for name, r in self.r.items()}
        object.__setattr__(self, "layouts", layouts)

    @staticmethod
    def from_adapter(adapter: LhucAdapter, *, speaker: str, base_fingerprint: str, **provenance: Any) -> Profile:
        """The profile of what an adapter has learnt.

        Args:
            adapter: its parameters are copied.
            speaker: whose they are.
            base_fingerprint: of the model that they were learnt with.
            **provenance: ``seconds``, ``supervision``, ``settings`` and the other attributes.

        Example:
            >>> adapter = LhucAdapter({"1": torch.zeros(5)})
            >>> Profile.from_adapter(adapter, speaker="0024", base_fingerprint="f" * 64, seconds=61.5).seconds
            61.5
        """
        return Profile(
            speaker=speaker,
            base_fingerprint=base_fingerprint,
            amplitude=adapter.kind,
            r={name: value.detach().cpu().clone() for name, value in adapter.r.items()},
            layouts={site.name: site.layout.letters for site in adapter.sites},
            shared=frozenset(site.name for site in adapter.sites if site.shared),
            **provenance,
        )

    def adapter(self) -> LhucAdapter:
        """The parameters, ready to be attached to the model."""
        layouts = {name: Layout(letters) for name, letters in self.layouts.items()}
        return LhucAdapter(self.r, self.amplitude, layouts, self.shared)

    @property
    def num_parameters(self) -> int:
        """Numbers of all sites together."""
        return sum(r.numel() for r in self.r.values())

    @property
    def size_bytes(self) -> int:
        """Bytes of the numbers on disk; the page beside them has about 1 kB more."""
        return self.num_parameters * DTYPES[self.dtype].itemsize

    @cached_property
    def sha256(self) -> str:
        """Hash of what decides how this speaker is recognised: speaker, model, amplitude, layouts and parameters.

        How and when the profile was learnt does not enter, nor the precision in which it lies on disk.
        """
        what = [self.speaker, self.base_fingerprint, self.amplitude.value, sorted(self.layouts.items())]
        parameters = digest({name: r.float() for name, r in self.r.items()})
        return hashlib.sha256(f"{json.dumps(what)}\n{parameters}".encode()).hexdigest()
