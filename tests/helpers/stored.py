"""What the tests of the store share: profiles that are quick to make, and stores of both kinds."""

from __future__ import annotations

from pathlib import Path

import torch

from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.profiles.profile import Profile
from lhuc_asr.profiles.store import ProfileStore

FINGERPRINT = "f" * 64
KINDS = ("profiles", "profiles.sqlite")
"""Names that give a folder and an SQLite file."""


def profile(speaker: str = "0024", value: float = 0.5, **changes: object) -> Profile:
    """A profile all of whose parameters are one number."""
    r = {"layers.0.activation": torch.full((5,), value), "layers.1.activation": torch.full((3,), value)}
    values = {"base_fingerprint": FINGERPRINT, "amplitude": Amplitude.exp, "r": r, "seconds": 12.5}
    return Profile(speaker=speaker, **{**values, **changes})


def value_of(found: Profile) -> float:
    """The number that a profile was made of; every parameter must be it."""
    values = {float(value) for r in found.r.values() for value in r}
    assert len(values) == 1
    return values.pop()


def new_store(directory: Path, kind: str, **options: object) -> ProfileStore:
    """An empty store."""
    return ProfileStore.open(directory / kind, create=True, **options)


def bytes_of(directory: Path) -> bytes:
    """Names and contents of all files below a directory."""
    files = sorted(directory.rglob("*"))
    return b"\n".join([str(file).encode() + (file.read_bytes() if file.is_file() else b"") for file in files])
