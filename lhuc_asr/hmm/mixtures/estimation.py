"""Learning Gaussian mixtures from aligned frames: statistics, the EM update, and splitting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.mixtures.gmm import Gmm

MIN_VARIANCE = 0.001
"""Floor of every variance of normalised features; 0.01 costs 2.7 nats a frame on delta-deltas."""

MIN_OCCUPANCY = 10.0
"""Frames that a Gaussian needs to be kept, unless it is the last of its pdf."""

MIN_SPLIT_OCCUPANCY = 50.0
"""Frames that every Gaussian of a pdf shall have on average after a split; fewer overfit."""

SPLIT_STEP = 0.01
"""How far the halves of a split Gaussian part, in standard deviations."""

MIN_WEIGHT = 1e-5


@dataclass(eq=False, slots=True)
class GmmStatistics:
    """What one pass over aligned frames gathers for the update.

    Attributes:
        occupancy: (G,) frames that each Gaussian answers for.
        sums: (G, F) sum of those frames.
        squares: (G, F) sum of their squares.
        log_like: of all frames on their pdfs, nats.
        num_frames: frames seen.
    """

    occupancy: NDArray[np.float64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    log_like: float = 0.0
    num_frames: int = 0

    @staticmethod
    def empty(gmm: Gmm) -> GmmStatistics:
        """Statistics of no frame."""
        shape = gmm.means.shape
        return GmmStatistics(np.zeros(shape[0]), np.zeros(shape), np.zeros(shape))

    def accumulate(self, gmm: Gmm, feats: NDArray[np.float32], pdfs: NDArray[np.int32]) -> None:
        """Add the frames of one utterance.

        Args:
            gmm: the mixtures that share each frame out among their Gaussians.
            feats: (T, F).
            pdfs: (T,) the mixture of every frame.
        """
        self.log_like += _accumulate(
            np.ascontiguousarray(feats, np.float32),
            pdfs,
            gmm.offsets,
            *gmm.compiled,
            self.occupancy,
            self.sums,
            self.squares,
        )
        self.num_frames += len(feats)

    def add(self, other: GmmStatistics) -> None:
        """Add the statistics of another worker."""
        self.occupancy += other.occupancy
        self.sums += other.sums
        self.squares += other.squares
        self.log_like += other.log_like
        self.num_frames += other.num_frames

    @property
    def log_like_per_frame(self) -> float:
        """Nats."""
        return self.log_like / self.num_frames if self.num_frames else float("nan")


def update(gmm: Gmm, statistics: GmmStatistics) -> Gmm:
    """The mixtures that fit the statistics best: one step of expectation maximisation.

    Gaussians that answer for too few frames are dropped; a pdf without frames stays as it is.
    """
    pdf_of = _pdf_of(gmm)
    occupancy = statistics.occupancy
    enough = occupancy >= MIN_OCCUPANCY
    share = np.maximum(occupancy, 1e-10)[:, None]
    means = np.where(enough[:, None], statistics.sums / share, gmm.means)
    spread = np.maximum(statistics.squares / share - means**2, MIN_VARIANCE)
    variances = np.where(enough[:, None], spread, gmm.variances)
    pdf_occupancy = np.bincount(pdf_of, occupancy, gmm.num_pdfs)[pdf_of]
    weights = np.where(pdf_occupancy > 0, occupancy / np.maximum(pdf_occupancy, 1e-10), gmm.weights)
    keep = enough | _is_largest(gmm, occupancy)
    weights = np.maximum(weights, MIN_WEIGHT)[keep]
    pdf_of = pdf_of[keep]
    weights /= np.bincount(pdf_of, weights, gmm.num_pdfs)[pdf_of]
    return Gmm(_offsets(pdf_of, gmm.num_pdfs), weights, means[keep], variances[keep])


def split(
    gmm: Gmm, pdf_occupancy: NDArray[np.float64], num_gaussians: int, generator: np.random.Generator, *, power: float
) -> Gmm:
    """Grow the mixtures by splitting their heaviest Gaussians along their standard deviations.

    Args:
        gmm: mixtures to grow.
        pdf_occupancy: (P,) frames of every mixture.
        num_gaussians: how many there shall be in all; fewer where the frames do not suffice.
        generator: of the small random steps by which the halves part.
        power: mixtures grow with this power of their frames.
    """
    wanted = _share_out(np.diff(gmm.offsets), pdf_occupancy, num_gaussians, power)
    parts: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = []
    for pdf in range(gmm.num_pdfs):
        own = gmm.own(pdf)
        weights, means, variances = gmm.weights[own], gmm.means[own], gmm.variances[own]
        while len(weights) < wanted[pdf]:
            heaviest = int(weights.argmax())
            step = SPLIT_STEP * np.sqrt(variances[heaviest]) * generator.standard_normal(gmm.feat_dim)
            weights = np.append(weights, weights[heaviest] / 2)
            weights[heaviest] /= 2
            means = np.vstack([means, means[heaviest] + step])
            means[heaviest] -= step
            variances = np.vstack([variances, variances[heaviest]])
        parts.append((weights, means, variances))
    offsets = np.concatenate([[0], np.cumsum([len(part[0]) for part in parts])]).astype(np.int32)
    return Gmm(offsets, *(np.concatenate([part[index] for part in parts]) for index in range(3)))


def _share_out(
    sizes: NDArray[np.int32], pdf_occupancy: NDArray[np.float64], num_gaussians: int, power: float
) -> NDArray[np.int64]:
    """(P,) how many Gaussians each pdf shall have: the one with most powered frames per Gaussian grows first."""
    wanted = sizes.astype(np.int64)
    powered = pdf_occupancy**power
    for _ in range(num_gaussians - int(wanted.sum())):
        score = np.where(pdf_occupancy >= MIN_SPLIT_OCCUPANCY * (wanted + 1), powered / wanted, 0.0)
        pdf = int(score.argmax())
        if score[pdf] <= 0:
            break
        wanted[pdf] += 1
    return wanted


def _pdf_of(gmm: Gmm) -> NDArray[np.int64]:
    """(G,) the pdf of every Gaussian."""
    return np.repeat(np.arange(gmm.num_pdfs), np.diff(gmm.offsets))


def _offsets(pdf_of: NDArray[np.int64], num_pdfs: int) -> NDArray[np.int32]:
    return np.searchsorted(pdf_of, np.arange(num_pdfs + 1)).astype(np.int32)


def _is_largest(gmm: Gmm, occupancy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(G,) True for one Gaussian of every pdf: the one with most frames."""
    order = np.lexsort((-occupancy, _pdf_of(gmm)))
    largest = np.zeros(gmm.num_gaussians, bool)
    largest[order[gmm.offsets[:-1]]] = True
    return largest


def _accumulate_python(  # noqa: PLR0913, PLR0917 - a compiled kernel takes plain arrays
    feats: Any,
    pdfs: Any,
    offsets: Any,
    constants: Any,
    scaled_means: Any,
    half_inverse: Any,
    occupancy: Any,
    sums: Any,
    squares: Any,
) -> float:
    """Share every frame out among the Gaussians of its pdf; returns the log-likelihood."""
    dim = feats.shape[1]
    scores = np.empty(np.max(offsets[1:] - offsets[:-1]), np.float32)
    total = 0.0
    for frame in range(len(feats)):
        first, last = offsets[pdfs[frame]], offsets[pdfs[frame] + 1]
        highest = np.float32(-np.inf)
        for gaussian in range(first, last):
            score = constants[gaussian]
            for axis in range(dim):
                value = feats[frame, axis]
                score += value * (scaled_means[gaussian, axis] - value * half_inverse[gaussian, axis])
            scores[gaussian - first] = score
            highest = max(highest, score)
        normaliser = 0.0
        for index in range(last - first):
            normaliser += np.exp(scores[index] - highest)
        total += highest + np.log(normaliser)
        for gaussian in range(first, last):
            posterior = np.exp(scores[gaussian - first] - highest) / normaliser
            if posterior > 1e-5:
                occupancy[gaussian] += posterior
                for axis in range(dim):
                    value = feats[frame, axis]
                    sums[gaussian, axis] += posterior * value
                    squares[gaussian, axis] += posterior * value * value
    return total


_accumulate: Any = numba.njit(cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"})(_accumulate_python)
