"""MovieLens: ratings of films, as ``ml-1m`` (``.dat`` files) or as ``ml-latest`` and its like (``.csv`` files).

Everything in it was watched and rated, so there is no click; the task is ``like``, a rating of so many stars or more.
What is in a film's list of genres counts as one id: ``Comedy|Drama`` is neither ``Comedy`` nor ``Drama``.

Source: https://grouplens.org/datasets/movielens/ and the README of each version.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.ranking.data.tables import (
    num_absent,
    read_fields,
    read_numbers,
    read_words,
    trait_ids,
    whole_numbers,
)
from lhuc_asr.ranking.data.timed import TimedLog
from lhuc_asr.ranking.schema import ClickLog, Ids

_log = logging.getLogger(__name__)
_YEAR = re.compile(r"\((\d{4})\)\s*$")

Traits = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Ratings:
    """One of the layouts, read: (N,) columns of ratings, traits of films, and traits of people where there are some."""

    user: Ids
    film: Ids
    stars: NDArray[np.float64]
    times: Ids
    films: Traits
    people: Traits = field(default_factory=dict)
    traits_of_people: tuple[str, ...] = ()


def read_movielens(root: Path, *, like_from: float = 4.0) -> TimedLog:
    """Read MovieLens; which layout it is, the files tell.

    Args:
        root: folder with ``ratings.dat``, ``movies.dat`` and ``users.dat``, or with ``ratings.csv`` and ``movies.csv``.
        like_from: stars from which a rating counts as liking.

    Raises:
        DataError: files or columns are missing, or a line cannot be read.
    """
    ratings = _read_dat(root) if (root / "ratings.dat").is_file() else _read_csv(root)
    _tell_absent(ratings, root)
    log = ClickLog(
        user_id=ratings.user,
        item_id=ratings.film,
        domain=np.zeros(len(ratings.user), dtype=np.int64),
        labels={"like": (ratings.stars >= like_from).astype(np.float32)},
        sparse={
            **trait_ids(ratings.films, ratings.film, ("year", "genres")),
            **trait_ids(ratings.people, ratings.user, ratings.traits_of_people),
        },
    )
    return TimedLog(log, ratings.times)


def _read_dat(root: Path) -> _Ratings:
    path = root / "ratings.dat"
    try:
        table = np.array([[float(one) for one in fields] for fields in read_fields(path, 4)]).reshape(-1, 4)
    except ValueError as error:
        raise DataError(f"'{path}' needs numbers between '::': {error}") from error
    if not len(table):
        raise DataError(f"'{path}' is empty")
    user, film, times = (
        whole_numbers(table[:, place], name, path) for place, name in ((0, "user"), (1, "film"), (3, "time"))
    )
    return _Ratings(
        user=user,
        film=film,
        stars=table[:, 2],
        times=times,
        films={key: (_year(title), genres) for key, title, genres in read_fields(root / "movies.dat", 3)},
        people={key: (gender, age, work) for key, gender, age, work, _ in read_fields(root / "users.dat", 5)},
        traits_of_people=("gender", "age_group", "occupation"),
    )


def _read_csv(root: Path) -> _Ratings:
    path = root / "ratings.csv"
    table = read_numbers(path, ("userId", "movieId", "rating", "timestamp"))
    films = read_words(root / "movies.csv", ("title", "genres"), key="movieId")
    return _Ratings(
        user=whole_numbers(table["userId"], "userId", path),
        film=whole_numbers(table["movieId"], "movieId", path),
        stars=table["rating"],
        times=whole_numbers(table["timestamp"], "timestamp", path),
        films={key: (_year(title), genres) for key, (title, genres) in films.items()},
    )


def _year(title: str) -> str:
    """The year at the end of a title, or nothing."""
    found = _YEAR.search(title)
    return found.group(1) if found else ""


def _tell_absent(ratings: _Ratings, root: Path) -> None:
    tables = (("films", ratings.films, ratings.film), ("people", ratings.people, ratings.user))
    for what, table, keys in tables:
        if table and (count := num_absent(table, keys)):
            _log.warning("%d %s with ratings are in no table of '%s': their traits are unknown ids", count, what, root)
