"""The best that any ranking could reach on a log whose true chances are known.

The order by the true chance is optimal for the area under the ROC curve: no model that sees the same impressions ranks
better on average. With the chances, the area needs no drawn labels:

    AUC(s) = sum over pairs i, j of p_i (1 - p_j) [s_i > s_j]  /  sum over pairs of p_i (1 - p_j)

which is how many pairs of a clicked and an unclicked impression one must expect, and how many of them are in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.ranking.schema import ClickLog, Ids

Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Attainable:
    """Expected areas of the order by true chances.

    Attributes:
        auc: over all impressions.
        gauc: mean of the areas inside each user's impressions, weighted by how many there are.
        num_users: with two impressions at least, for one has no order.
    """

    auc: float
    gauc: float
    num_users: int


def attainable(log: ClickLog, task: str) -> Attainable:
    """What the true chances themselves reach as scores.

    Raises:
        DataError: the log's chances are not known.
    """
    if task not in log.chances:
        known = ", ".join(log.chances) or "none"
        raise DataError(
            f"the true chances of {task!r} are not known, those of {known} are: only logs made up have them"
        )
    chances = log.chances[task]
    areas, weights = expected_areas(chances, chances, log.user_id)
    return Attainable(expected_auc(chances, chances), float(np.average(areas, weights=weights)), len(areas))


def expected_auc(scores: Array, chances: Array) -> float:
    """Share of the expected pairs (clicked, unclicked) that scores put in order; ties count half.

    Args:
        scores: (N,) of any model.
        chances: (N,) true probabilities of a click.

    Returns:
        NaN where no pair can be expected, as with one impression.
    """
    order = np.argsort(scores, kind="stable")
    ranked, likely = np.asarray(scores)[order], np.asarray(chances, dtype=np.float64)[order]
    unlikely = 1.0 - likely
    below = np.concatenate([[0.0], np.cumsum(unlikely)])
    first, last = np.searchsorted(ranked, ranked, side="left"), np.searchsorted(ranked, ranked, side="right")
    tied = below[last] - below[first] - unlikely  # those of the same score, without the impression itself
    in_order = float(likely @ (below[first] + 0.5 * tied))
    pairs = float(likely.sum() * unlikely.sum() - likely @ unlikely)
    return in_order / pairs if pairs > 0 else float("nan")


def expected_areas(scores: Array, chances: Array, users: Ids) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The expected area inside each user's impressions, and their number, for users with two at least."""
    order = np.argsort(users, kind="stable")
    borders = np.flatnonzero(np.diff(users[order])) + 1
    groups = [group for group in np.split(order, borders) if len(group) > 1]
    areas = [expected_auc(scores[group], chances[group]) for group in groups]
    return np.array(areas), np.array([len(group) for group in groups])
