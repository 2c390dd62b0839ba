"""From ids that may be any number to rows of an embedding table; row 0 is for ids that training has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lhuc_asr.errors import ConfigError
from lhuc_asr.ranking.schema import Ids

UNKNOWN = 0
"""The row of every id that is not in the vocabulary."""


@dataclass(frozen=True, slots=True)
class UnknownIds:
    """How much of a column had to take the default row.

    Attributes:
        num_rows: impressions with such an id.
        num_ids: different ids among them.
        of: impressions of the column.
    """

    num_rows: int
    num_ids: int
    of: int

    def __str__(self) -> str:
        return f"{self.num_rows} of {self.of} impressions ({self.num_ids} ids)"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The ids of one feature that have a row of their own.

    Attributes:
        known: (V,) ids in ascending order; the id in place v has row v + 1.

    Example:
        >>> vocabulary = Vocabulary.of(np.array([70, 5, 70]))
        >>> vocabulary.rows(np.array([5, 70, 99])), vocabulary.num_rows
        (array([1, 2, 0]), 3)
    """

    known: Ids

    @staticmethod
    def of(ids: Ids, *, min_count: int = 1) -> Vocabulary:
        """The ids that come often enough; the others share the default row, which learns from them."""
        if min_count < 1:
            raise ConfigError(f"ranker.min_count must be at least 1, got {min_count}")
        known, counts = np.unique(ids, return_counts=True)
        return Vocabulary(known[counts >= min_count].astype(np.int64))

    @property
    def num_rows(self) -> int:
        """Rows of the table, the default row included."""
        return len(self.known) + 1

    def rows(self, ids: Ids) -> Ids:
        """(N,) ids -> (N,) rows."""
        if not len(self.known):
            return np.zeros(len(ids), np.int64)
        places = np.searchsorted(self.known, ids).clip(max=len(self.known) - 1)
        return np.where(self.known[places] == ids, places + 1, UNKNOWN)

    def unknown(self, ids: Ids) -> UnknownIds:
        """How many of these ids have no row of their own."""
        strange = ids[self.rows(ids) == UNKNOWN]
        return UnknownIds(len(strange), len(np.unique(strange)), len(ids))
