"""How many frames a lattice's paths get right on average, and how that changes with every score.

Letters of shapes: B utterances, T frames, V tied states, A arcs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.errors import DataError
from lhuc_asr.training.criteria.known_gradient import in_threads, with_known_gradient
from lhuc_asr.training.criteria.smbr.state_lattice import StateLattice


@dataclass(frozen=True, eq=False)
class ArcAccuracy:
    """The outcome of forward-backward on one lattice.

    Attributes:
        expected: frames that are right, averaged over the paths by their probability.
        posterior: (A,) chance of each arc.
        slope: (A,) derivative of ``expected`` by the score of each arc: its posterior times how much better than the
            average the paths through it are.
        log_total: natural logarithm of the summed weight of all paths; -inf when there is none.
    """

    expected: float
    posterior: NDArray[np.float64]
    slope: NDArray[np.float64]
    log_total: float


@dataclass(frozen=True, eq=False)
class ExpectedAccuracy:
    """The same for a batch.

    Attributes:
        expected: (B,) right frames of each utterance, averaged over its paths; the gradient flows through it.
        of_frame: (B, T) float64, detached: the chance that a frame is right; 0 in padding.
    """

    expected: Tensor
    of_frame: Tensor


def arc_accuracy(lattice: StateLattice, scores: NDArray[np.float64], right: NDArray[np.float64]) -> ArcAccuracy:
    """Forward-backward with logarithms of path weights and means of right frames.

    Args:
        lattice: of one utterance.
        scores: (A,) log weight of every arc, nats.
        right: (A,) 1 where an arc reads its frame as the right state, else 0.

    Source: Povey & Woodland 2002, "Minimum phone error and I-smoothing for improved discriminative training", ICASSP,
    in the state-level form of Kingsbury 2009, "Lattice-based optimization of sequence classification criteria for
    neural-network acoustic modeling", ICASSP.
    """
    posterior, slope = np.zeros(len(scores)), np.zeros(len(scores))
    arcs = (lattice.source, lattice.target, scores, right)
    expected, log_total = _forward_backward(*arcs, lattice.log_final, posterior, slope)
    return ArcAccuracy(float(expected), posterior, slope, float(log_total))


def expected_accuracy(
    log_likes_BTV: Tensor,
    lattices: Sequence[StateLattice],
    right: Sequence[NDArray[np.float64]],
    *,
    acoustic_scale: float,
) -> ExpectedAccuracy:
    """Expected numbers of right frames, through which a gradient flows.

    Args:
        log_likes_BTV: (B, T, V) log-likelihoods of the tied states, up to a constant per frame.
        lattices: one an utterance; each says by itself how many frames the utterance has.
        right: for every lattice (A,) 1 where an arc reads its frame as the right state, else 0.
        acoustic_scale: factor on the log-likelihoods.

    Raises:
        DataError: the scores of an utterance leave no path; the text names the utterances.
    """
    scores = _numbers(log_likes_BTV)

    def one(index: int) -> ArcAccuracy:
        lattice = lattices[index]
        of_arc = lattice.log_weight.astype(np.float64)
        of_arc[lattice.reads] += acoustic_scale * scores[index, lattice.read_frame, lattice.read_state]
        return arc_accuracy(lattice, of_arc, right[index])

    found = in_threads(one, len(lattices))
    _refuse_lost(found, lattices)
    slopes, of_frame = np.zeros_like(scores), np.zeros(scores.shape[:2])
    for index, (lattice, arcs) in enumerate(zip(lattices, found, strict=True)):
        where, reads = (lattice.read_frame, lattice.read_state), lattice.reads
        np.add.at(slopes[index], where, acoustic_scale * arcs.slope[reads])
        np.add.at(of_frame[index], lattice.read_frame, (arcs.posterior * right[index])[reads])
    expected = torch.tensor([arcs.expected for arcs in found], dtype=torch.float64)
    flowing = with_known_gradient(log_likes_BTV, expected, torch.from_numpy(slopes).to(log_likes_BTV))
    return ExpectedAccuracy(flowing, torch.from_numpy(of_frame).to(log_likes_BTV.device))


def _numbers(log_likes: Tensor) -> NDArray[Any]:
    """(B, T, V) in memory; half precision becomes float32. Sums over paths are in float64 all the same."""
    wide = log_likes.detach().cpu() if log_likes.dtype is torch.float64 else log_likes.detach().cpu().float()
    numbers: NDArray[Any] = wide.numpy()
    return numbers


def _refuse_lost(found: Sequence[ArcAccuracy], lattices: Sequence[StateLattice]) -> None:
    lost = [
        repr(lattice.utterance)
        for arcs, lattice in zip(found, lattices, strict=True)
        if not np.isfinite(arcs.log_total)
    ]
    if lost:
        raise DataError(f"no path of the lattice can be scored for {', '.join(lost)}: decode again")


def _log_add_python(one: float, other: float) -> float:
    high, low = max(one, other), min(one, other)
    return high if low == -np.inf else high + np.log1p(np.exp(low - high))


_log_add: Any = numba.njit(cache=True, nogil=True)(_log_add_python)


def _forward_backward_python(
    source: Any, target: Any, score: Any, right: Any, log_final: Any, posterior: Any, slope: Any
) -> Any:
    """Fill ``posterior`` and ``slope`` (A,); return the expected accuracy and the log weight of all paths.

    A node's mean of right frames is updated with every arc that joins it, so no large sums are ever formed.
    """
    num_nodes, num_arcs = len(log_final), len(source)
    before, right_before = np.full(num_nodes, -np.inf), np.zeros(num_nodes)
    before[0] = 0.0
    for arc in range(num_arcs):
        begin, end = source[arc], target[arc]
        through = before[begin] + score[arc]
        if through > -np.inf:
            total = _log_add(before[end], through)
            share = np.exp(through - total)
            right_before[end] += share * (right_before[begin] + right[arc] - right_before[end])
            before[end] = total
    after, right_after = log_final.astype(np.float64), np.zeros(num_nodes)
    for arc in range(num_arcs - 1, -1, -1):
        begin, end = source[arc], target[arc]
        through = score[arc] + after[end]
        if through > -np.inf:
            total = _log_add(after[begin], through)
            share = np.exp(through - total)
            right_after[begin] += share * (right[arc] + right_after[end] - right_after[begin])
            after[begin] = total
    expected, log_total = right_after[0], after[0]
    if not np.isfinite(log_total):
        return expected, log_total
    for arc in range(num_arcs):
        begin, end = source[arc], target[arc]
        through = before[begin] + score[arc] + after[end]
        if through > -np.inf:
            posterior[arc] = np.exp(through - log_total)
            slope[arc] = posterior[arc] * (right_before[begin] + right[arc] + right_after[end] - expected)
    return expected, log_total


_forward_backward: Any = numba.njit(cache=True, nogil=True)(_forward_backward_python)
