"""The best linear transform of frames, one row after another.

Under Gaussians with diagonal covariances, what a transform W = [A b] makes of the log-likelihood is, up to a constant,

    Q(W) = beta log |det A| + sum_i (w_i k_i - w_i G_i w_i / 2)

where w_i is row i and beta counts frames. All rows but one held still, the best w_i is known in closed form, so rows
are updated in turn and Q never falls. The transform of a speaker (fMLLR) is of this form, and so is that of all
speakers (MLLT), which has no offset and no linear term.

Shapes: F features, E = F + 1 where there is an offset (a frame with a 1 appended), otherwise E = F.

Source: Gales 1998, Computer Speech and Language 12, section 2.2 and appendix A; Gales 1999, IEEE Transactions on
Speech and Audio Processing 7 (semi-tied covariances).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ENOUGH_GAIN = 1e-7
"""Nats a frame that a sweep over all rows must win for another sweep."""


@dataclass(frozen=True, eq=False)
class RowObjective:
    """Q, by the statistics that it is made of.

    Attributes:
        num_frames: beta.
        k: (F, E).
        g: (F, E, E) symmetric.

    Example:
        >>> variances = np.array([4.0, 9.0])
        >>> squares = RowObjective(1, np.zeros((2, 2)), np.stack([np.diag(variances)] * 2))
        >>> np.abs(squares.maximised(np.eye(2), num_sweeps=5)).round(3).tolist()
        [[0.5, 0.0], [0.0, 0.333]]
    """

    num_frames: int
    k: Floats
    g: Floats

    def value(self, matrix: Floats) -> float:
        """Q(W), nats; its differences are those of log-likelihoods at fixed Gaussians.

        Args:
            matrix: (F, E) W.
        """
        log_determinant = float(np.linalg.slogdet(matrix[:, : len(matrix)])[1])
        quadratic = np.einsum("fe,feh,fh->", matrix, self.g, matrix)
        return self.num_frames * log_determinant + float((matrix * self.k).sum() - quadratic / 2)

    def maximised(self, begin: Floats, *, num_sweeps: int) -> Floats:
        """(F, E) the transform that makes Q largest.

        Args:
            begin: (F, E) where the updates begin; Q is never lower afterwards.
            num_sweeps: at most so many sweeps over all rows.

        Raises:
            numpy.linalg.LinAlgError: the frames do not determine a transform, for they are too few or too much alike.
        """
        inverse_g = np.asarray(np.linalg.inv(self.g), np.float64)
        if not np.linalg.cond(self.g).max() < 1 / np.finfo(np.float64).eps:
            raise np.linalg.LinAlgError("the frames do not determine a transform")
        matrix, before = begin.copy(), self.value(begin)
        for _ in range(num_sweeps):
            self._sweep(matrix, inverse_g)
            now = self.value(matrix)
            if now - before < _ENOUGH_GAIN * self.num_frames:
                break
            before = now
        return matrix

    def _sweep(self, matrix: Floats, inverse_g: Floats) -> None:
        """Update every row once, in place; the inverse of A follows each row by a rank-one correction."""
        dim = len(matrix)
        inverse_FF = np.linalg.inv(matrix[:, :dim])
        cofactor_E = np.zeros(matrix.shape[1])
        for row in range(dim):
            column_F = inverse_FF[:, row].copy()
            cofactor_E[:dim] = column_F
            matrix[row] = _best_row(self.num_frames, self.k[row], inverse_g[row], cofactor_E)
            change_F = matrix[row, :dim] @ inverse_FF
            ratio = change_F[row]
            change_F[row] -= 1.0
            inverse_FF -= np.outer(column_F, change_F / ratio)


def _best_row(num_frames: int, k_E: Floats, inverse_g_EE: Floats, cofactor_E: Floats) -> Floats:
    """The row that makes Q largest, the others held still.

    The row is (alpha c + k) G^-1 with the cofactors c and a root alpha of alpha^2 e1 + alpha e2 = beta; of both roots
    the one with the larger Q is taken.
    """
    e1 = float(cofactor_E @ inverse_g_EE @ cofactor_E)
    e2 = float(cofactor_E @ inverse_g_EE @ k_E)
    root = sqrt(e2 * e2 + 4 * e1 * num_frames)

    def gain(alpha: float) -> float:
        return float(num_frames * np.log(abs(alpha * e1 + e2)) - alpha * alpha * e1 / 2)

    alpha = max((-e2 + root) / (2 * e1), (-e2 - root) / (2 * e1), key=gain)
    best: Floats = (alpha * cofactor_E + k_E) @ inverse_g_EE
    return best
