"""Phonetic questions found in the data: groups of phones that sound alike, so that nobody has to write them down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.states.topology import SILENCE
from lhuc_asr.hmm.tying.statistics import TreeStatistics, log_likelihood


def find_questions(statistics: TreeStatistics, *, num_phones: int, num_states: int) -> list[frozenset[int]]:
    """Every group that arises while phones are merged bottom-up, once for each HMM state, and every single phone.

    Args:
        statistics: of all contexts.
        num_phones: phones in all; those that never occur are asked about singly.
        num_states: HMM states per phone.

    Returns:
        Sets of phone ids, smallest first. Silence only appears alone and together with no other phone.
    """
    groups = {frozenset({phone}) for phone in range(1, num_phones + 1)}
    for state in range(num_states):
        moments = _phone_moments(statistics, state, num_phones)
        groups.update(_merge_order(moments))
    everything = frozenset(range(1, num_phones + 1))
    return sorted(groups - {everything}, key=lambda group: (len(group), sorted(group)))


def _phone_moments(statistics: TreeStatistics, state: int, num_phones: int) -> NDArray[np.float64]:
    """(phones + 1, 1 + 2 F) moments of one state of every phone."""
    moments = np.zeros((num_phones + 1, statistics.moments.shape[1]))
    own = statistics.contexts[:, 3] == state
    np.add.at(moments, statistics.contexts[own, 1], statistics.moments[own])
    return moments


def _merge_order(moments: NDArray[np.float64]) -> list[frozenset[int]]:
    """Merge the two closest groups again and again; returns every merged group."""
    phones = [phone for phone in range(len(moments)) if moments[phone, 0] > 0 and phone != SILENCE]
    groups = [frozenset({phone}) for phone in phones]
    sums = moments[phones]
    likes = log_likelihood(sums)
    loss = np.full((len(groups), len(groups)), np.inf)
    for first in range(len(groups)):
        loss[first, first + 1 :] = likes[first] + likes[first + 1 :] - log_likelihood(sums[first] + sums[first + 1 :])
    merged = []
    for _ in range(len(groups) - 1):
        first, second = (int(index) for index in np.unravel_index(int(loss.argmin()), loss.shape))
        groups[first] |= groups[second]
        merged.append(groups[first])
        sums[first] += sums[second]
        likes[first] = log_likelihood(sums[first])
        gone = np.isinf(np.minimum(loss[first], loss[:, first]))
        gone[second] = True
        distance = np.where(gone, np.inf, likes[first] + likes - log_likelihood(sums[first] + sums))
        loss[second], loss[:, second] = np.inf, np.inf
        loss[first, first + 1 :], loss[:first, first] = distance[first + 1 :], distance[:first]
    return merged
