"""What a place for profiles must be able to do; `ProfileStore` is written against this and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lhuc_asr.errors import ProfileError
from lhuc_asr.profiles.format import Encoded


@dataclass(frozen=True)
class History:
    """All versions of one speaker's profile.

    Attributes:
        versions: number -> profile; numbers begin at 1 and are never given twice.
        current: the number of the one that is in use.
    """

    versions: Mapping[int, Encoded]
    current: int


@dataclass(frozen=True)
class Numbers:
    """Which versions a speaker has.

    Attributes:
        all: in ascending order.
        current: the one that is in use.
    """

    all: tuple[int, ...]
    current: int


class StoreBackend(Protocol):
    """Keeps encoded profiles; every change happens as a whole or not at all, also among several processes."""

    def speakers(self) -> Sequence[str]:
        """Everybody who has a profile, sorted, without reading one."""

    def numbers(self, speaker: str) -> Numbers | None:
        """The speaker's versions; None where nobody of that name is known."""

    def read(self, speaker: str, version: int | None) -> Encoded | None:
        """One version, the current one for None; None where it does not exist."""

    def add(self, speaker: str, encoded: Encoded) -> int:
        """Keep one version more, make it the current one and return its number."""

    def make_current(self, speaker: str, version: int) -> bool:
        """Let another version be the current one; false where it does not exist."""

    def remove(self, speaker: str) -> bool:
        """Delete all versions of a speaker and every trace of them; false where nobody of that name is known."""

    def restore(self, histories: Iterable[tuple[str, History]]) -> None:
        """Keep whole histories of speakers who have none here."""

    def size_bytes(self) -> int:
        """Bytes that the store takes on disk."""

    def close(self) -> None:
        """Give back what is open."""


def taken(speaker: str) -> ProfileError:
    """The complaint that a history cannot be restored."""
    return ProfileError(f"speaker {speaker!r} has a profile here already")
