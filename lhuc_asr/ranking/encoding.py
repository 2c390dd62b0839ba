"""From a click log to tensors: ids become rows of tables, numbers are normalised, unknown ids are counted.

Shape suffixes: N impressions, S id features, D dense features, T tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lhuc_asr.errors import DataError
from lhuc_asr.ranking.schema import ClickLog, Floats, Ids, LogSchema
from lhuc_asr.ranking.vocabulary import UnknownIds, Vocabulary

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Impressions:
    """What a ranking model takes.

    Attributes:
        rows_NS: row of every id in the table of its feature.
        dense_ND: normalised numbers.
        labels_NT: 0 or 1.
    """

    rows_NS: Tensor
    dense_ND: Tensor
    labels_NT: Tensor

    def __len__(self) -> int:
        return len(self.rows_NS)

    def at(self, chosen: Tensor | slice) -> Impressions:
        """Some of them."""
        return Impressions(self.rows_NS[chosen], self.dense_ND[chosen], self.labels_NT[chosen])

    def to(self, device: torch.device) -> Impressions:
        """The same on another device."""
        return Impressions(self.rows_NS.to(device), self.dense_ND.to(device), self.labels_NT.to(device))


@dataclass(frozen=True, slots=True)
class Encoder:
    """What was learnt of the columns of a training log: vocabularies, means and deviations.

    Attributes:
        schema: the columns.
        vocabularies: of every id feature, in the order of the schema.
        mean_D: of every dense feature.
        deviation_D: the same; 1 where a feature never changes.

    Example:
        >>> log = ClickLog(np.array([7, 8]), np.array([1, 2]), np.zeros(2, int), {"click": np.array([0.0, 1.0])})
        >>> Encoder.of(log).encode(log).rows_NS
        tensor([[1, 1, 1],
                [2, 2, 1]])
    """

    schema: LogSchema
    vocabularies: tuple[Vocabulary, ...]
    mean_D: Floats
    deviation_D: Floats

    @staticmethod
    def of(log: ClickLog, *, min_count: int = 1) -> Encoder:
        """Look at a training log.

        Args:
            log: the impressions to be learnt from.
            min_count: ids that come less often share the default row.

        Raises:
            DataError: the log is empty or has no label.
        """
        if not len(log) or not log.labels:
            raise DataError(f"a ranking model learns from impressions with labels, got {len(log)} with {[*log.labels]}")
        dense_ND = _dense(log, log.schema)
        deviation_D = dense_ND.std(axis=0)
        return Encoder(
            log.schema,
            tuple(Vocabulary.of(ids, min_count=min_count) for ids in log.ids.values()),
            dense_ND.mean(axis=0),
            np.where(deviation_D > 0, deviation_D, 1).astype(np.float32),
        )

    @property
    def num_rows(self) -> dict[str, int]:
        """Feature -> rows of its table."""
        return {name: words.num_rows for name, words in zip(self.schema.sparse, self.vocabularies, strict=True)}

    def encode(self, log: ClickLog) -> Impressions:
        """Tensors of a log; unknown ids take the default row, `unknown` counts them and `tell_unknown` says so.

        Raises:
            DataError: the log lacks a feature or a label of the schema, or has others.
        """
        self._require_same(log.schema)
        columns = [words.rows(log.ids[name]) for name, words in zip(self.schema.sparse, self.vocabularies, strict=True)]
        dense_ND = (_dense(log, self.schema) - self.mean_D) / self.deviation_D
        labels = [np.asarray(log.labels[task], np.float32) for task in self.schema.tasks]
        return Impressions(_table(columns), torch.from_numpy(dense_ND), _table(labels))

    def unknown(self, log: ClickLog) -> dict[str, UnknownIds]:
        """Feature -> how many of its ids training had not seen; features without such are left out.

        Raises:
            DataError: the log has other columns than the schema.
        """
        self._require_same(log.schema)
        counted = {name: words.unknown(log.ids[name]) for name, words in self._named().items()}
        return {name: unknown for name, unknown in counted.items() if unknown.num_rows}

    def tell_unknown(self, log: ClickLog, *, part: str) -> None:
        """Note in the journal of the run what `unknown` counts.

        Args:
            log: the impressions.
            part: which they are, such as dev.
        """
        for name, unknown in self.unknown(log).items():
            logger.warning("%s: feature %r: %s are not known and take the default row", part, name, unknown)

    def _named(self) -> Mapping[str, Vocabulary]:
        return dict(zip(self.schema.sparse, self.vocabularies, strict=True))

    def _require_same(self, found: LogSchema) -> None:
        kinds = ("id features", self.schema.sparse, found.sparse), ("dense features", self.schema.dense, found.dense)
        for kind, asked, given in (*kinds, ("labels", self.schema.tasks, found.tasks)):
            if set(asked) != set(given):
                raise DataError(f"the model was made for the {kind} {_list(asked)}, but the log has {_list(given)}")


def _dense(log: ClickLog, schema: LogSchema) -> Floats:
    columns = [np.asarray(log.dense[name], np.float32) for name in schema.dense]
    return np.stack(columns, axis=1) if columns else np.zeros((len(log), 0), np.float32)


def _table(columns: list[Ids] | list[Floats]) -> Tensor:
    return torch.from_numpy(np.stack(columns, axis=1))


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names)) or "none"
