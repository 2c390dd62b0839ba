"""How well impressions are ranked, over all and within each user, and whether the probabilities can be believed.

Shape suffix: N impressions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lhuc_asr.errors import DataError

NUM_BINS = 10
_TINY = 1e-7

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GroupedAuc:
    """AUC within each user, averaged with the users' impressions as weights.

    Attributes:
        value: NaN where no user has both labels.
        num_users: users whose impressions have both labels; the others say nothing about order.
        num_left_out: users with one label only.
    """

    value: float
    num_users: int
    num_left_out: int


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """The chance that an impression with label 1 is ranked above one with label 0; ties count half.

    Args:
        scores: (N,) the higher, the likelier.
        labels: (N,) 0 or 1.

    Returns:
        0 to 1, 0.5 is chance; NaN where all labels are the same.

    Example:
        >>> auc([0.1, 0.4, 0.3], [0, 1, 0])
        1.0
    """
    return grouped_auc(scores, labels, np.zeros(len(np.asarray(labels)), int)).value


def grouped_auc(scores: ArrayLike, labels: ArrayLike, users: ArrayLike) -> GroupedAuc:
    """AUC within each user (GAUC): what a user sees of the order, whatever the differences between users.

    Args:
        scores: (N,) the higher, the likelier.
        labels: (N,) 0 or 1.
        users: (N,) whose impression it is.

    Example:
        >>> grouped_auc([0.1, 0.4, 0.9, 0.8], [0, 1, 0, 1], [7, 7, 8, 8])
        GroupedAuc(value=0.5, num_users=2, num_left_out=0)

    Source: Zhu et al. 2017, "Optimized cost per click in Taobao display advertising" (arXiv:1703.02091).
    """
    score_N, label_N, (_, user_N) = (
        _checked(scores, labels),
        _checked(labels, labels),
        np.unique(users, return_inverse=True),
    )
    total_U = np.bincount(user_N)
    clicked_U = np.bincount(user_N, label_N, minlength=len(total_U))
    other_U = total_U - clicked_U
    ranks_U = np.bincount(user_N, label_N * _ranks_within(score_N, user_N), minlength=len(total_U))
    usable_U = (clicked_U > 0) & (other_U > 0)
    pairs_U = np.where(usable_U, clicked_U * other_U, 1)
    auc_U = (ranks_U - clicked_U * (clicked_U + 1) / 2) / pairs_U
    weight_U = total_U * usable_U
    value = float((auc_U * weight_U).sum() / weight_U.sum()) if usable_U.any() else float("nan")
    return GroupedAuc(value, int(usable_U.sum()), int((~usable_U).sum()))


def log_loss(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean binary cross-entropy, nats an impression."""
    p_N, label_N = _checked(probabilities, labels).clip(_TINY, 1 - _TINY), _checked(labels, labels)
    return float(-(label_N * np.log(p_N) + (1 - label_N) * np.log1p(-p_N)).mean())


def predicted_over_observed(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Clicks that were promised for each that came: above 1 promises too much; NaN where none came."""
    p_N, label_N = _checked(probabilities, labels), _checked(labels, labels)
    return float(p_N.sum() / label_N.sum()) if label_N.any() else float("nan")


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, *, num_bins: int = NUM_BINS) -> float:
    """How far promised and observed rates lie apart, in the mean over impressions; 0 is perfect.

    Bins hold equally many impressions, since rates of clicks crowd near 0.

    Source: Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning"; ours has equal masses.
    """
    p_N, label_N = _checked(probabilities, labels), _checked(labels, labels)
    bins = np.array_split(np.argsort(p_N, kind="stable"), min(num_bins, len(p_N)))
    return float(sum(abs(p_N[bin_].sum() - label_N[bin_].sum()) for bin_ in bins) / len(p_N))


def _ranks_within(score_N: Array, user_N: NDArray[Any]) -> Array:
    """(N,) rank of each impression among those of its user, from 1; ties share the mean of their ranks."""
    order = np.lexsort((score_N, user_N))
    score, user = score_N[order], user_N[order]
    is_new = np.r_[True, (score[1:] != score[:-1]) | (user[1:] != user[:-1])]
    first = np.flatnonzero(is_new)
    last = np.r_[first[1:], len(score)] - 1
    begin = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    ranks = ((first + last) / 2)[np.cumsum(is_new) - 1] - begin[user] + 1
    ranked = np.empty_like(score_N)
    ranked[order] = ranks
    return ranked


def _checked(values: ArrayLike, labels: ArrayLike) -> Array:
    found = np.asarray(values, np.float64)
    if found.shape != np.shape(labels) or found.ndim != 1 or not len(found):
        raise DataError(f"{np.shape(labels)} labels need as many scores in one row, got {found.shape}")
    if not np.isfinite(found).all():
        raise DataError(f"{int((~np.isfinite(found)).sum())} of {len(found)} scores are NaN or infinite")
    return found
