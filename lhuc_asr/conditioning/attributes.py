"""What is written down of speakers, such as age and gender, as vectors.

Shape suffixes: D numbers of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.conditioning.people import Who
from lhuc_asr.data.kaldi_tables import read_rows
from lhuc_asr.errors import ConfigError, DataError

Table = Mapping[str, str]
"""Id of a speaker or of an utterance -> what is written down."""


@dataclass(kw_only=True, slots=True)
class AttributesConfig:
    """Which tables of the data directory tell of the speakers.

    Attributes:
        tables: names of files with lines ``SPEAKER VALUE`` (or ``UTTERANCE VALUE``).
        categories: those of them whose values are names even where they look like numbers.
    """

    tables: list[str] = field(default_factory=lambda: ["spk2age", "spk2gender"])
    categories: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.tables or len(set(self.tables)) < len(self.tables):
            raise ConfigError(f"condition.attributes.tables must name at least one and each once, got {self.tables}")
        if strangers := sorted(set(self.categories) - set(self.tables)):
            raise ConfigError(
                f"condition.attributes.categories names {', '.join(strangers)}, which is none of the tables "
                f"{', '.join(self.tables)}"
            )


@dataclass(frozen=True)
class Attribute:
    """One thing that is written down.

    Attributes:
        table: where.
        values: what it can be; empty where it is a number.
        mean: of the training speakers' numbers, or the share of each value: what is taken for somebody unknown.
    """

    table: str
    values: tuple[str, ...]
    mean: tuple[float, ...]

    @staticmethod
    def of(table: str, found: Sequence[str], *, is_category: bool) -> Attribute:
        """Learn what an attribute can be from the values of training speakers, one of each."""
        numbers = None if is_category else [_number(value) for value in found]
        if numbers is not None and all(number is not None for number in numbers):
            return Attribute(table, (), (float(np.mean([number for number in numbers if number is not None])),))
        values = tuple(sorted(set(found)))
        return Attribute(table, values, tuple(found.count(value) / len(found) for value in values))

    def knows(self, value: str | None) -> bool:
        """Whether a value is one that can be understood; those of training speakers, or any number."""
        return value is not None and (value in self.values if self.values else _number(value) is not None)

    def numbers(self, value: str | None) -> tuple[float, ...]:
        """A number, or 1 for the value and 0 for the others; the mean where the value is unknown."""
        if value is None or not self.knows(value):
            return self.mean
        return tuple(float(value == one) for one in self.values) if self.values else (float(value),)


@dataclass(frozen=True, eq=False)
class Attributes:
    """Vectors of what is written down.

    When not to use them: where one group is small among the training speakers, its scales are those of few people.

    Attributes:
        attributes: what can be written down.
        tables: name -> what is written down of these people.

    Example:
        >>> age, gender = Attribute("spk2age", (), (30.0,)), Attribute("spk2gender", ("f", "m"), (0.5, 0.5))
        >>> written = Attributes((age, gender), {"spk2age": {"anna": "7"}, "spk2gender": {"anna": "f", "ben": "m"}})
        >>> written(Who("anna-1", "anna")).tolist(), written(Who("ben-1", "ben")).tolist()
        ([7.0, 1.0, 0.0], [30.0, 0.0, 1.0])
    """

    attributes: tuple[Attribute, ...]
    tables: Mapping[str, Table]

    @property
    def dim(self) -> int:
        """D."""
        return sum(len(attribute.mean) for attribute in self.attributes)

    def __call__(self, who: Who) -> NDArray[np.float32] | None:
        """(D,) numbers as they are and categories as 0 and 1, to be standardised; None where nothing is known."""
        values = self._values(who)
        if not any(attribute.knows(value) for attribute, value in values):
            return None
        return np.array([number for attribute, value in values for number in attribute.numbers(value)], np.float32)

    def knows(self, who: Who) -> bool:
        """Whether all is known."""
        return all(attribute.knows(value) for attribute, value in self._values(who))

    def of(self, directory: Path) -> Attributes:
        """The same for the people of another data directory.

        Raises:
            DataError: a table is not there, or cannot be read.
        """
        return replace(self, tables=read_attributes(directory, [one.table for one in self.attributes]))

    def _values(self, who: Who) -> list[tuple[Attribute, str | None]]:
        return [(one, _looked_up(self.tables[one.table], who)) for one in self.attributes]


def learn_attributes(directory: Path, people: Iterable[Who], config: AttributesConfig) -> Attributes:
    """Read the tables of the training data, and learn from the training speakers what can stand in them.

    Args:
        directory: of the training data.
        people: training utterances.
        config: which tables.

    Raises:
        DataError: a table is not there, cannot be read, or tells nothing of the training speakers.
    """
    tables = read_attributes(directory, config.tables)
    one_of_each = {who.speaker: who for who in people}.values()
    attributes = []
    for name, table in tables.items():
        found = [value for who in one_of_each if (value := _looked_up(table, who)) is not None]
        if not found:
            raise DataError(
                f"'{directory / name}' tells nothing of the {len(one_of_each)} training speakers; "
                f"its first id is {next(iter(table), '')!r}"
            )
        attributes.append(Attribute.of(name, found, is_category=name in config.categories))
    return Attributes(tuple(attributes), tables)


def read_attributes(directory: Path, names: Iterable[str]) -> dict[str, Table]:
    """Name of a table -> what stands in it.

    Raises:
        DataError: a table is not there, or cannot be read.
    """
    tables: dict[str, Table] = {}
    for name in names:
        if not (directory / name).is_file():
            raise DataError(f"'{directory}' has no table '{name}', which condition.attributes.tables asks for")
        tables[name] = {row.id: row.value for row in read_rows(directory / name) if row.value}
    return tables


def _looked_up(table: Table, who: Who) -> str | None:
    return table.get(who.utterance, table.get(who.speaker))


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
