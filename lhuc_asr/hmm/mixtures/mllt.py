"""Maximum likelihood linear transform: turns features, for all speakers alike, so that diagonal covariances fit them.

With the Gaussians of every frame known, and their variances after the turn fixed, the log-likelihood is, up to a
constant, of the form that `lhuc_asr.hmm.mixtures.row_updates` makes largest, with

    G_i = sum over Gaussians of S / variance_i

where S is the scatter of the frames of a Gaussian around its mean. The means turn with the features.

Shapes: T frames, F features, G Gaussians.

Source: Gales 1999, IEEE Transactions on Speech and Audio Processing 7 (semi-tied covariances, one class); Kaldi's
``gmm-acc-mllt`` and ``est-mllt``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.mixtures.gmm import Gmm
from lhuc_asr.hmm.mixtures.row_updates import Floats, RowObjective

NUM_SWEEPS = 200
"""At most so many sweeps over the rows."""


@dataclass(eq=False, slots=True)
class MlltStatistics:
    """What aligned frames say about the turn.

    Attributes:
        num_frames: beta.
        g: (F, F, F) sums of 1 / variance times scatter.
    """

    num_frames: int
    g: Floats

    @staticmethod
    def empty(dim: int) -> MlltStatistics:
        """Statistics of no frame."""
        return MlltStatistics(0, np.zeros((dim, dim, dim)))

    def accumulate(self, gmm: Gmm, feats: NDArray[np.float32], pdfs: NDArray[np.int32]) -> None:
        """Add frames, as many at a time as memory holds: the fewer calls, the faster.

        Args:
            gmm: the mixtures.
            feats: (T, F).
            pdfs: (T,) the mixture of every frame.
        """
        self.num_frames += len(feats)
        for pdf in np.unique(pdfs):
            frames_TF, own = feats[pdfs == pdf], gmm.own(pdf)
            posteriors_TG = gmm.posteriors(frames_TF, pdf)
            scatters_GFF = np.stack(
                [_scatter(frames_TF - mean, share) for mean, share in zip(gmm.means[own], posteriors_TG.T, strict=True)]
            )
            self.g += np.tensordot(1.0 / gmm.variances[own], scatters_GFF, axes=(0, 0))

    def add(self, other: MlltStatistics) -> None:
        """Add the statistics of another worker."""
        self.num_frames += other.num_frames
        self.g += other.g

    @property
    def objective(self) -> RowObjective:
        """What the turn shall make largest."""
        return RowObjective(self.num_frames, np.zeros(self.g.shape[:2]), self.g)


def estimate(statistics: MlltStatistics, *, num_sweeps: int = NUM_SWEEPS) -> Floats:
    """(F, F) the turn that makes the objective largest.

    Args:
        statistics: of all speakers.
        num_sweeps: at most so many sweeps over its rows.

    Raises:
        numpy.linalg.LinAlgError: the frames do not determine it, for they are too few or too much alike.
    """
    return statistics.objective.maximised(np.eye(len(statistics.g)), num_sweeps=num_sweeps)


def turned(gmm: Gmm, rows: Floats, scales: Floats) -> Gmm:
    """The mixtures of turned and then scaled features.

    Args:
        gmm: of the features before.
        rows: (F, F) what `estimate` gave; variances hold after it.
        scales: (F,) of each turned feature.
    """
    return replace(gmm, means=gmm.means @ rows.T * scales, variances=gmm.variances * scales**2)


def _scatter(centred_TF: Floats, share_T: Floats) -> Floats:
    scatter: Floats = (share_T[:, None] * centred_TF).T @ centred_TF
    return scatter
