"""Speakers in environments: a profile of each pair, out of the speaker's own and the environment's.

Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section VII: xi(r_SE) = alpha xi(r_S) + (1 - alpha) xi(r_E),
with r_S from clean speech of the speaker and r_E from other people's speech in the environment. Learning r_SE from the
speaker's speech in the environment is better where there is enough of it (table XIII: 12.4 against 12.7 % WER).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lhuc_asr.errors import DataError
from lhuc_asr.profiles.combination import Domain, interpolate, product
from lhuc_asr.profiles.profile import Profile
from lhuc_asr.profiles.store import ProfileStore


@dataclass(frozen=True, slots=True)
class Factors:
    """What a pair is made of.

    Attributes:
        speaker: id of the speaker's profile.
        environment: id of the environment's profile.
    """

    speaker: str
    environment: str


def parse_factors(rows: Mapping[str, str], *, source: str) -> dict[str, Factors]:
    """Pair -> factors, of a table ``PAIR SPEAKER ENVIRONMENT``.

    Raises:
        DataError: a row has not two values.

    Example:
        >>> parse_factors({"pink-ann": "ann pink"}, source="spk2factors")
        {'pink-ann': Factors(speaker='ann', environment='pink')}
    """
    found: dict[str, Factors] = {}
    for pair, value in rows.items():
        parts = value.split()
        if len(parts) != 2:
            raise DataError(f"'{source}': {pair!r} has {len(parts)} values, a row is PAIR SPEAKER ENVIRONMENT")
        found[pair] = Factors(*parts)
    return found


def factorised(
    factors: Mapping[str, Factors], speakers: ProfileStore, environments: ProfileStore, *, alpha: float | None
) -> Iterator[Profile]:
    """Profiles of all pairs.

    Args:
        factors: pair -> what it is made of.
        speakers: holds the speakers' profiles.
        environments: holds the environments' profiles.
        alpha: weight of the speaker, from 0 to 1; None multiplies the factors of both.

    Raises:
        ProfileError: a profile is missing, or two do not belong together.
        ConfigError: ``alpha`` is out of range.
    """
    for pair, parts in factors.items():
        own, around = speakers.get(parts.speaker), environments.get(parts.environment)
        if alpha is None:
            yield product(own, around, speaker=pair)
        else:
            yield interpolate(around, own, alpha, speaker=pair, domain=Domain.factors)
