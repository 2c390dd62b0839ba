"""How likely every arc, word and tied state of a lattice is: forward-backward over all of its paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DecodingError

if TYPE_CHECKING:
    from lhuc_asr.decoding.lattices.lattice import Lattice


@dataclass(frozen=True, eq=False)
class ArcPosteriors:
    """Probabilities of arcs, given the frames and that the path is in the lattice.

    Attributes:
        arc: (A,) float64 in [0, 1], share of the paths through each arc.
        log_total: natural log of the summed weight of all paths.
    """

    arc: NDArray[np.float64]
    log_total: float


@dataclass(frozen=True, eq=False)
class FramePosteriors:
    """Probabilities of tied states, frame after frame, only those above zero.

    Attributes:
        num_pdfs: P, tied states of the model.
        offsets: (T + 1,) int64, entries of frame t are ``offsets[t]`` up to ``offsets[t + 1]``.
        pdf: (N,) int32 tied states, ascending within a frame.
        value: (N,) float32 in (0, 1]; they sum to 1 in every frame.

    Example:
        >>> offsets, pdf = np.array([0, 1, 3]), np.array([4, 0, 4], np.int32)
        >>> posteriors = FramePosteriors(5, offsets, pdf, np.array([1.0, 0.25, 0.75], np.float32))
        >>> posteriors.of_path(np.array([4, 0])).tolist()
        [1.0, 0.25]
    """

    num_pdfs: int
    offsets: NDArray[np.int64]
    pdf: NDArray[np.int32]
    value: NDArray[np.float32]

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.offsets) - 1

    def dense(self) -> NDArray[np.float32]:
        """(T, P) the same with all zeros written out."""
        table = np.zeros((self.num_frames, self.num_pdfs), np.float32)
        table[np.repeat(np.arange(self.num_frames), np.diff(self.offsets)), self.pdf] = self.value
        return table

    def of_path(self, pdfs: NDArray[np.int32]) -> NDArray[np.float32]:
        """(T,) probability of one tied state a frame, for example those of the best path: a confidence per frame.

        Raises:
            DecodingError: not one state per frame.
        """
        if len(pdfs) != self.num_frames:
            raise DecodingError(f"a path of {len(pdfs)} frames and posteriors of {self.num_frames}")
        frames = np.repeat(np.arange(self.num_frames, dtype=np.int64), np.diff(self.offsets))
        result = np.zeros(self.num_frames, np.float32)
        on_path = self.pdf == np.asarray(pdfs)[frames]
        result[frames[on_path]] = self.value[on_path]
        return result


def arc_posteriors(lattice: Lattice, *, acoustic_scale: float | None = None, graph_scale: float = 1.0) -> ArcPosteriors:
    """Forward-backward over all paths.

    Args:
        lattice: of one utterance.
        acoustic_scale: factor on the log-likelihoods, above 0; without it the one of the search.
        graph_scale: factor on the graph's costs; below 1 it flattens what the language model says.
    """
    costs, ends = lattice.costs(acoustic_scale, graph_scale), lattice.final_costs(graph_scale)
    log_before = np.full(lattice.num_states, -np.inf)
    log_before[0] = 0.0
    log_after = -ends
    _forward(lattice.source, lattice.target, -costs, log_before)
    _backward(lattice.source, lattice.target, -costs, log_after)
    with np.errstate(over="raise", invalid="raise"):
        arc = np.exp(log_before[lattice.source] - costs + log_after[lattice.target] - log_after[0])
    return ArcPosteriors(np.minimum(arc, 1.0), float(log_after[0]))


def frame_posteriors(
    lattice: Lattice, arcs: ArcPosteriors, pdf_of: NDArray[np.int32], num_pdfs: int
) -> FramePosteriors:
    """Probabilities of tied states from those of the arcs.

    Args:
        lattice: of one utterance.
        arcs: its arcs' probabilities.
        pdf_of: (transition ids + 1,) tied state of every transition id.
        num_pdfs: tied states of the model.
    """
    reads = lattice.transition_id > 0
    keys = lattice.frame[lattice.source[reads]].astype(np.int64) * num_pdfs + pdf_of[lattice.transition_id[reads]]
    known, where = np.unique(keys, return_inverse=True)
    values = np.bincount(where, weights=arcs.arc[reads])
    frames = known // num_pdfs
    totals = np.bincount(frames, weights=values)
    values = (values / totals[frames]).astype(np.float32)
    above_zero = values > 0
    counts = np.bincount(frames[above_zero], minlength=lattice.num_frames)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return FramePosteriors(num_pdfs, offsets, (known % num_pdfs).astype(np.int32)[above_zero], values[above_zero])


def _log_add(one: float, other: float) -> float:
    if one < other:
        one, other = other, one
    return one if other == -np.inf else one + np.log1p(np.exp(other - one))


_log_add_compiled: Any = numba.njit(cache=True)(_log_add)


def _forward_python(source: Any, target: Any, log_weight: Any, log_before: Any) -> None:
    for arc in range(len(source)):
        through = log_before[source[arc]] + log_weight[arc]
        log_before[target[arc]] = _log_add_compiled(log_before[target[arc]], through)


def _backward_python(source: Any, target: Any, log_weight: Any, log_after: Any) -> None:
    """``log_after`` comes with the log weights of ending."""
    for arc in range(len(source) - 1, -1, -1):
        through = log_after[target[arc]] + log_weight[arc]
        log_after[source[arc]] = _log_add_compiled(log_after[source[arc]], through)


_forward: Any = numba.njit(cache=True)(_forward_python)
_backward: Any = numba.njit(cache=True)(_backward_python)
