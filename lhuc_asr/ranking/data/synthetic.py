"""A click log that is made up: people with tastes of their own, items with traits, and the true chance of every click.

Nothing is hidden but the tastes: a model sees who was shown what, the item's category, author and length, the person's
age group, the hour and the place in the product. What a person likes can be learnt only from that person's clicks.
Items are shown by their fame and to everybody alike, so the log does not tell tastes by what it shows.

Shape suffixes: N impressions, U users, I items, C categories, G age groups, D domains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.ranges import require_at_least, require_share_below_one
from lhuc_asr.ranking.data.timed import TimedLog, Times
from lhuc_asr.ranking.schema import ClickLog

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

_DAYS, _SECONDS_A_DAY = 30, 86_400
_NUM_AGES, _NUM_HOURS = 6, 24
_PULL = np.array([0.7, 1.0, 1.3])  # how much tastes count in each domain: least where people are led, most in search
_READINESS = np.array([-1.0, -0.6, -0.4])  # log-odds of a click in each domain


@dataclass(kw_only=True, slots=True)
class SyntheticConfig:
    """A world of people and items.

    Attributes:
        num_users: people; how much each is shown is drawn from a log-normal distribution.
        num_items: items, shown by Zipf's law.
        num_impressions: rows of the log.
        num_categories: kinds of items; a person likes or dislikes each.
        num_authors: makers of items, good and bad ones.
        taste: standard deviation, in log-odds, of what a person feels for a category.
        activity: standard deviation of the logarithm of how much people are shown.
        late: share of the users and of the items that first appear at some time during the log.
    """

    num_users: int = 600
    num_items: int = 600
    num_impressions: int = 150_000
    num_categories: int = 8
    num_authors: int = 60
    taste: float = 1.5
    activity: float = 1.0
    late: float = 0.1

    def __post_init__(self) -> None:
        counts = ("num_users", "num_items", "num_impressions", "num_categories", "num_authors")
        require_at_least(1, self, "click_log", *counts)
        require_at_least(0, self, "click_log", "taste", "activity")
        require_share_below_one(self, "click_log", "late")


@dataclass(frozen=True, slots=True)
class People:
    """Who is shown things.

    Attributes:
        ages: (U,) age group.
        tastes_UC: log-odds that each adds to a click on a category; a part of it goes with age.
        patience: (U,) log-odds that a standard deviation of length adds.
        shares: (U,) of all impressions.
        first_seen: (U,) seconds.
    """

    ages: Rows
    tastes_UC: Array
    patience: Array
    shares: Array
    first_seen: Array


@dataclass(frozen=True, slots=True)
class Items:
    """What is shown.

    Attributes:
        categories: (I,).
        authors: (I,).
        lengths: (I,) standard deviations from the mean.
        worth: (I,) log-odds that the item and its author add for everybody.
        fame: (I,) shares of all impressions.
        first_seen: (I,) seconds.
    """

    categories: Rows
    authors: Rows
    lengths: Array
    worth: Array
    fame: Array
    first_seen: Array


@dataclass(frozen=True, slots=True)
class _Shown:
    """(N,) user, item, domain and second of every impression."""

    user: Rows
    item: Rows
    domain: Rows
    times: Times


def synthetic_log(config: SyntheticConfig | None = None, *, seed: int = 0) -> TimedLog:
    """Make up a log with two tasks, ``click`` and ``like`` (which takes a click first), and their true chances.

    Args:
        config: the world.
        seed: equal seeds give equal logs.

    Returns:
        The log in the order of time, its ``chances`` filled in; user ids begin at 1000 and item ids at 5000.

    Example:
        >>> made = synthetic_log(SyntheticConfig(num_users=5, num_items=7, num_impressions=100))
        >>> len(made.log), made.log.schema.tasks, sorted(made.log.chances)
        (100, ('click', 'like'), ['click', 'like'])
    """
    config = config or SyntheticConfig()
    rng = np.random.default_rng(seed)
    people, items = _draw_people(config, rng), _draw_items(config, rng)
    shown = _draw_impressions(people, items, config, rng)
    pull = _attraction(people, items, shown, rng)
    click = _sigmoid(pull)
    like_if_clicked = _sigmoid(0.8 * pull - 1.0)
    clicked = rng.random(len(click)) < click
    liked = clicked & (rng.random(len(click)) < like_if_clicked)
    labels = {"click": clicked, "like": liked}
    chances = {"click": click, "like": click * like_if_clicked}
    return TimedLog(_as_log(people, items, shown, labels, chances), shown.times)


def _draw_people(config: SyntheticConfig, rng: np.random.Generator) -> People:
    count = config.num_users
    ages = rng.integers(_NUM_AGES, size=count)
    tastes_GC = rng.normal(scale=0.3 * config.taste, size=(_NUM_AGES, config.num_categories))
    own_UC = rng.normal(scale=config.taste, size=(count, config.num_categories))
    return People(
        ages=ages,
        tastes_UC=tastes_GC[ages] + own_UC,
        patience=rng.normal(scale=0.5 * config.taste, size=count),
        shares=_normalised(np.exp(rng.normal(scale=config.activity, size=count))),
        first_seen=_first_seen(count, config.late, rng),
    )


def _draw_items(config: SyntheticConfig, rng: np.random.Generator) -> Items:
    count = config.num_items
    authors = rng.integers(config.num_authors, size=count)
    worth_of_authors = rng.normal(scale=0.4, size=config.num_authors)
    return Items(
        categories=rng.integers(config.num_categories, size=count),
        authors=authors,
        lengths=rng.normal(size=count),
        worth=worth_of_authors[authors] + rng.normal(scale=0.5, size=count),
        fame=_normalised(rng.permutation(np.arange(1, count + 1) ** -0.7)),
        first_seen=_first_seen(count, config.late, rng),
    )


def _first_seen(count: int, late: float, rng: np.random.Generator) -> Array:
    """When each appears: most before the log begins, the others at some time; the first is never late."""
    is_late = rng.random(count) < late
    is_late[0] = False
    return np.where(is_late, rng.random(count) * _DAYS * _SECONDS_A_DAY, 0.0)


def _draw_impressions(people: People, items: Items, config: SyntheticConfig, rng: np.random.Generator) -> _Shown:
    times = np.sort(rng.integers(_DAYS * _SECONDS_A_DAY, size=config.num_impressions))
    return _Shown(
        user=_draw_present(people.shares, people.first_seen, times, rng),
        item=_draw_present(items.fame, items.first_seen, times, rng),
        domain=rng.integers(len(_PULL), size=len(times)),
        times=times,
    )


def _draw_present(shares: Array, first_seen: Array, times: Times, rng: np.random.Generator) -> Rows:
    """(N,) one for each time, by shares, among those who are there by then."""
    drawn = rng.choice(len(shares), p=shares, size=len(times))
    while (early := np.flatnonzero(first_seen[drawn] > times)).size:
        drawn[early] = rng.choice(len(shares), p=shares, size=early.size)
    return drawn


def _attraction(people: People, items: Items, shown: _Shown, rng: np.random.Generator) -> Array:
    """(N,) log-odds of a click."""
    category = items.categories[shown.item]
    length = items.lengths[shown.item]
    mood_HC = rng.normal(scale=0.3, size=(_NUM_HOURS, people.tastes_UC.shape[1]))  # what goes when, for everybody
    place_DC = rng.normal(scale=0.4, size=(len(_PULL), people.tastes_UC.shape[1]))  # and where
    taste = people.tastes_UC[shown.user, category] + people.patience[shown.user] * length
    common = items.worth[shown.item] + mood_HC[_hours(shown.times), category] + place_DC[shown.domain, category]
    return _READINESS[shown.domain] + common + _PULL[shown.domain] * taste


def _as_log(
    people: People, items: Items, shown: _Shown, labels: dict[str, NDArray[np.bool_]], chances: dict[str, Array]
) -> ClickLog:
    return ClickLog(
        user_id=shown.user + 1000,
        item_id=shown.item + 5000,
        domain=shown.domain,
        labels={task: label.astype(np.float32) for task, label in labels.items()},
        sparse={
            "author_id": items.authors[shown.item],
            "category": items.categories[shown.item],
            "age_group": people.ages[shown.user],
            "hour": _hours(shown.times),
        },
        dense={"length": items.lengths[shown.item].astype(np.float32)},
        chances={task: chance.astype(np.float32) for task, chance in chances.items()},
    )


def _hours(times: Times) -> Rows:
    return times // 3600 % _NUM_HOURS


def _normalised(weights: Array) -> Array:
    shares: Array = weights / weights.sum()
    return shares


def _sigmoid(x: Array) -> Array:
    chances: Array = 1.0 / (1.0 + np.exp(-x))
    return chances
