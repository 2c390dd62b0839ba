"""Columns of the text files in which public click logs come, and ids for what stands there in words."""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.ranking.schema import Ids

ABSENT = -1
"""The id of a trait of somebody or something that a table does not list."""


def read_numbers(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Columns of numbers of a CSV file with a header.

    Args:
        path: the file; it may be long, and is read by numpy's own parser.
        names: the columns.

    Raises:
        DataError: the file or a column is missing, there are no lines, or a field is no number.
    """
    places = _places(path, names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no lines at all: an error of our own follows
            table = np.loadtxt(
                path, delimiter=",", skiprows=1, usecols=places, ndmin=2, encoding="utf-8", quotechar='"'
            )
    except ValueError as error:
        raise DataError(f"'{path}' needs numbers in the columns {', '.join(names)}: {error}") from error
    if not len(table):
        raise DataError(f"'{path}' has a header and no lines")
    return {name: table[:, column] for column, name in enumerate(names)}


def read_words(path: Path, names: Sequence[str], *, key: str) -> dict[str, tuple[str, ...]]:
    """Columns of words of a CSV file with a header.

    Args:
        path: the file.
        names: the columns.
        key: the column whose values lead to the others.

    Returns:
        Key -> the words of its line, in the order of ``names``.

    Raises:
        DataError: the file or a column is missing, a line is too short, or a key stands twice.
    """
    first, *places = _places(path, [key, *names])
    found: dict[str, tuple[str, ...]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for number, line in enumerate(csv.reader(stream), start=1):
            if number == 1 or not line:
                continue
            if len(line) <= max(first, *places):
                raise DataError(f"'{path}', line {number}: {len(line)} fields, the header has more")
            _add(found, line[first], tuple(line[place] for place in places), path)
    return found


def read_fields(path: Path, count: int) -> Iterator[list[str]]:
    """The fields of every line of a file whose separator is ``::``, as MovieLens 1M has it.

    Raises:
        DataError: the file is missing, or a line has another number of fields.
    """
    require_file(path)
    with path.open(encoding="latin-1") as stream:
        for number, line in enumerate(stream, start=1):
            fields = line.rstrip("\r\n").split("::")
            if len(fields) != count:
                raise DataError(f"'{path}', line {number}: {count} fields between '::' are needed, got {len(fields)}")
            yield fields


def require_file(path: Path) -> None:
    """Complain that a file is missing, and name what the folder has.

    Raises:
        DataError: it is.
    """
    if not path.is_file():
        beside = sorted(found.name for found in path.parent.glob("*")) if path.parent.is_dir() else []
        raise DataError(f"there is no '{path}'; the folder has: {', '.join(beside[:8]) or 'nothing'}")


def trait_ids(table: Mapping[str, tuple[str, ...]], keys: Ids, names: Sequence[str]) -> dict[str, Ids]:
    """Traits of those who occur in a log, as ids.

    Args:
        table: key -> one word for each trait.
        keys: (N,) keys, as they stand in the log.
        names: of the traits.

    Returns:
        Trait -> (N,) the `word_id` of the word, `ABSENT` where the table lacks the key.
    """
    known, inverse = np.unique(keys, return_inverse=True)
    found = {}
    for place, name in enumerate(names):
        ids = [word_id(table[str(key)][place]) if str(key) in table else ABSENT for key in known.tolist()]
        found[name] = np.array(ids, dtype=np.int64)[inverse]
    return found


def num_absent(table: Mapping[str, tuple[str, ...]], keys: Ids) -> int:
    """How many different keys of a log the table lacks."""
    return sum(str(key) not in table for key in np.unique(keys).tolist())


def word_id(word: str) -> int:
    """A number of 63 bits for a word: everywhere and always the same, so that logs of other days fit a trained model.

    Example:
        >>> word_id("Comedy") == word_id("Comedy"), word_id("Comedy") == word_id("Drama")
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big") >> 1


def whole_numbers(column: NDArray[np.float64], name: str, path: Path) -> Ids:
    """Numbers that must be whole, as integers.

    Raises:
        DataError: one of them is not.
    """
    wrong = np.flatnonzero(column != np.round(column))  # true for NaN as well
    if len(wrong):
        raise DataError(f"'{path}', column {name!r}: {column[wrong[0]]:g} in line {wrong[0] + 2} is no whole number")
    return column.astype(np.int64)


def _places(path: Path, names: Sequence[str]) -> list[int]:
    """Where the columns stand, by the header."""
    require_file(path)
    with path.open(encoding="utf-8", newline="") as stream:
        header = [name.strip().lstrip("\ufeff") for name in next(csv.reader(stream), [])]
    missing = [name for name in names if name not in header]
    if missing:
        raise DataError(f"'{path}' lacks the columns {', '.join(missing)}; it has: {', '.join(header) or 'nothing'}")
    return [header.index(name) for name in names]


def _add(found: dict[str, tuple[str, ...]], key: str, words: tuple[str, ...], path: Path) -> None:
    if key in found:
        raise DataError(f"'{path}' lists {key!r} twice")
    found[key] = words
