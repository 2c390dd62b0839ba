"""Linear discriminant analysis: the directions in which frames of different tied states lie farthest apart.

Frames are windows of several, so that what changes over time counts too. Within the tied states, the projected frames
would have covariance I; the rows are then scaled so that the frames they come from have variance 1, and moved so that
these have mean 0, as networks and floors of variances expect it.

Shapes: T frames, W values in a window, C classes, D values after the projection.

Source: Haeb-Umbach & Ney 1992, ICASSP.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from lhuc_asr.errors import ConfigError
from lhuc_asr.features.projection import FrameProjection
from lhuc_asr.ranges import require_at_least

Floats = NDArray[np.float64]

_MOST_ALIKE = 1e10
"""Condition number of the covariance within classes, beyond which single precision is too coarse for the projection."""


@dataclass(kw_only=True, slots=True)
class LdaConfig:
    """Whether features are projected, and how the projection is found.

    Attributes:
        dim: values per frame after the projection; 0 leaves features as they are.
        context: frames to each side that a frame is spliced with before.
        mllt_passes: before which passes over the triphones, counted from 0, MLLT turns the projected features so that
            diagonal covariances fit them; empty for LDA alone.

    A model that training begins with (``criterion.start``) keeps its projection.
    """

    dim: int = 0
    context: int = 4
    mllt_passes: list[int] = field(default_factory=lambda: [2, 4, 6, 12])

    def __post_init__(self) -> None:
        require_at_least(0, self, "lda", "dim", "context")
        if any(number < 0 for number in self.mllt_passes):
            raise ConfigError(f"lda.mllt_passes must be 0 or more, got {self.mllt_passes}")

    @property
    def is_used(self) -> bool:
        """Whether features are projected."""
        return self.dim > 0


@dataclass(eq=False, slots=True)
class LdaStatistics:
    """What windows of known classes say.

    Attributes:
        counts: (C,) windows of each class.
        sums: (C, W) sum of these.
        squares: (W, W) sum of all windows times themselves.
    """

    counts: Floats
    sums: Floats
    squares: Floats

    @staticmethod
    def empty(num_classes: int, window: int) -> LdaStatistics:
        """Statistics of no window."""
        return LdaStatistics(np.zeros(num_classes), np.zeros((num_classes, window)), np.zeros((window, window)))

    def accumulate(self, windows: NDArray[np.float32], classes: NDArray[np.int32]) -> None:
        """Add windows.

        Args:
            windows: (T, W).
            classes: (T,) from 0.
        """
        windows_TW = windows.astype(np.float64)
        self.counts += np.bincount(classes, minlength=len(self.counts))
        np.add.at(self.sums, classes, windows_TW)
        self.squares += windows_TW.T @ windows_TW

    def add(self, other: LdaStatistics) -> None:
        """Add the statistics of another worker."""
        self.counts += other.counts
        self.sums += other.sums
        self.squares += other.squares

    @property
    def mean(self) -> Floats:
        """(W,) of all windows."""
        mean: Floats = self.sums.sum(axis=0) / self.counts.sum()
        return mean

    @property
    def covariance(self) -> Floats:
        """(W, W) of all windows."""
        covariance: Floats = self.squares / self.counts.sum() - np.outer(self.mean, self.mean)
        return covariance

    @property
    def covariance_between(self) -> Floats:
        """(W, W) of the means of the classes, each as often as it occurs."""
        shares_C1 = (self.counts / self.counts.sum())[:, None]
        apart_CW = self.sums / np.maximum(self.counts, 1.0)[:, None] - self.mean
        between: Floats = (shares_C1 * apart_CW).T @ apart_CW
        return between

    def projection(self, dim: int, context: int) -> FrameProjection:
        """The projection on the directions that tell classes apart best, the best one first.

        Args:
            dim: D, at most W.
            context: of the windows.

        Raises:
            numpy.linalg.LinAlgError: the windows lie in fewer directions than they have values, or there are too few
                classes: C classes differ along C - 1 directions.
        """
        num_classes = int((self.counts > 0).sum())
        if dim >= num_classes:
            raise np.linalg.LinAlgError(f"{num_classes} classes differ along no more than {num_classes - 1} directions")
        between = self.covariance_between
        within = self.covariance - between
        if not np.linalg.cond(within) < _MOST_ALIKE:
            raise np.linalg.LinAlgError("the frames are too few or too much alike")
        _, directions = eigh(between, within)
        rows = directions[:, ::-1][:, :dim].T
        largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
        rows = rows * np.sign(largest)  # which of both signs an eigenvector gets is left to chance otherwise
        rows = rows / deviations(self.covariance, rows)[:, None]
        return FrameProjection(np.column_stack([rows, -rows @ self.mean]), context)


def deviations(covariance: Floats, rows: Floats) -> Floats:
    """(D,) standard deviation along each of (D, W) rows of what has a (W, W) covariance."""
    along: Floats = np.sqrt(np.einsum("dw,wv,dv->d", rows, covariance, rows))
    return along
