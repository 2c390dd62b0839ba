"""Click logs: who was shown what, where, and whether they liked it; all columns as arrays of equal length.

Shape suffix: N impressions, one row each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

USER, ITEM, DOMAIN = "user_id", "item_id", "domain"


@dataclass(frozen=True, slots=True)
class LogSchema:
    """Which columns a log has; a model is made for one schema and takes logs of that schema only.

    Attributes:
        sparse: names of the id columns; the first three are ``user_id``, ``item_id`` and ``domain``.
        dense: names of the columns of numbers.
        tasks: names of the labels.
    """

    sparse: tuple[str, ...]
    dense: tuple[str, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClickLog:
    """Impressions: an item was shown to a user in a domain, and the user did something or not.

    Attributes:
        user_id: (N,) any integers.
        item_id: (N,) any integers.
        domain: (N,) in which part of the product it was shown; all 0 where there is one.
        labels: task, such as ``click`` or ``like`` -> (N,) 1 where the user did it, else 0.
        sparse: further ids, such as ``author_id`` -> (N,) any integers.
        dense: numbers, such as ``hour`` -> (N,).
        chances: task -> (N,) the true probability of the label, of logs that were made up; else empty.

    Raises:
        DataError: a column has another length or kind, holds NaN or infinity, or a label is neither 0 nor 1.

    Example:
        >>> log = ClickLog(np.array([7, 7]), np.array([1, 2]), np.zeros(2, int), {"click": np.array([0.0, 1.0])})
        >>> len(log), log.schema.sparse, log.rows(log.labels["click"] == 1).item_id
        (2, ('user_id', 'item_id', 'domain'), array([2]))
    """

    user_id: Ids
    item_id: Ids
    domain: Ids
    labels: Mapping[str, Floats]
    sparse: Mapping[str, Ids] = field(default_factory=dict)
    dense: Mapping[str, Floats] = field(default_factory=dict)
    chances: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if taken := sorted({USER, ITEM, DOMAIN} & {*self.sparse, *self.dense}):
            raise DataError(
                f"a click log has {taken[0]!r} as a column of its own; another feature cannot have its name"
            )
        if twice := sorted(self.sparse.keys() & self.dense.keys()):
            raise DataError(f"feature {twice[0]!r} was given as ids and as numbers; it can be one of the two")
        for name, column in self.columns.items():
            _require_length(name, column, len(self.user_id))
        for name, column in self.ids.items():
            _require_integers(name, column)
        for name, column in {**self.dense, **self.labels, **self.chances}.items():
            _require_finite(name, column)
        for task, label in self.labels.items():
            _require_binary(task, label)

    def __len__(self) -> int:
        return len(self.user_id)

    @property
    def ids(self) -> dict[str, Ids]:
        """All id columns by name: user, item, domain, then the further ones."""
        return {USER: self.user_id, ITEM: self.item_id, DOMAIN: self.domain, **self.sparse}

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Every column by a name for messages."""
        return {
            **self.ids,
            **self.dense,
            **{f"label {task}": label for task, label in self.labels.items()},
            **{f"chance of {task}": chance for task, chance in self.chances.items()},
        }

    @property
    def schema(self) -> LogSchema:
        """Which columns there are."""
        return LogSchema(tuple(self.ids), tuple(self.dense), tuple(self.labels))

    def rows(self, chosen: NDArray[Any] | slice) -> ClickLog:
        """Some impressions, by a mask, by numbers or a slice."""
        return ClickLog(
            self.user_id[chosen],
            self.item_id[chosen],
            self.domain[chosen],
            *({name: column[chosen] for name, column in columns.items()} for columns in self._mappings),
        )

    @property
    def _mappings(self) -> tuple[Mapping[str, NDArray[Any]], ...]:
        return self.labels, self.sparse, self.dense, self.chances


def _require_length(name: str, column: NDArray[Any], num_rows: int) -> None:
    if column.shape != (num_rows,):
        raise DataError(
            f"column {name!r} has shape {column.shape}, but there are {num_rows} user ids: give ({num_rows},)"
        )


def _require_integers(name: str, column: NDArray[Any]) -> None:
    if not np.issubdtype(column.dtype, np.integer):
        raise DataError(f"column {name!r} holds {column.dtype}, ids are integers; number the values first")


def _require_finite(name: str, column: NDArray[Any]) -> None:
    wrong = np.flatnonzero(~np.isfinite(column))
    if len(wrong):
        rows = ", ".join(map(str, wrong[:3]))
        raise DataError(
            f"column {name!r} has NaN or infinity in {len(wrong)} of {len(column)} rows, the first are {rows}: "
            "leave these rows out or put a number there"
        )


def _require_binary(task: str, label: NDArray[Any]) -> None:
    wrong = label[(label != 0) & (label != 1)]
    if len(wrong):
        raise DataError(f"label {task!r} holds {wrong[0]:g}; a label is 0 or 1")
