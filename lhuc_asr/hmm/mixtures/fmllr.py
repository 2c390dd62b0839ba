"""Estimating fMLLR: the affine transform under which a speaker's frames are most likely for Gaussian mixtures.

With the Gaussians of every frame known, the log-likelihood of the transformed frames is, up to a constant, of the form
that `lhuc_asr.hmm.mixtures.row_updates` makes largest.

Shapes: T frames, F features, E = F + 1 (a frame with a 1 appended), G Gaussians.

Source: Gales 1998, Computer Speech and Language 12, section 2.2 and appendix A; Kaldi's least count of 500 frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.features.fmllr import SpeakerTransform
from lhuc_asr.hmm.mixtures.gmm import Gmm
from lhuc_asr.hmm.mixtures.row_updates import Floats, RowObjective
from lhuc_asr.ranges import require_at_least


@dataclass(kw_only=True, slots=True)
class FmllrConfig:
    """How transforms are estimated, and whether a model is trained on transformed features.

    Attributes:
        sat_rounds: rounds of speaker-adaptive training of the GMM (transforms, then mixtures); the network then learns
            from the transformed features. 0 trains a model without transforms; a model that training begins with
            (``criterion.start``) keeps its mixtures, without further rounds.
        sat_passes: passes over the mixtures in each of these rounds.
        num_estimates: how often a transform is estimated anew for new speech, each time on better alignments.
        num_iterations: how often frames are shared out anew among Gaussians in one estimate.
        num_sweeps: at most so many sweeps over the rows of a transform.
        min_frames: frames that a speaker needs; with fewer the features stay as they are.
    """

    sat_rounds: int = 0
    sat_passes: int = 4
    num_estimates: int = 2
    num_iterations: int = 2
    num_sweeps: int = 40
    min_frames: int = 500

    def __post_init__(self) -> None:
        require_at_least(0, self, "fmllr", "sat_rounds")
        counts = ("sat_passes", "num_estimates", "num_iterations", "num_sweeps", "min_frames")
        require_at_least(1, self, "fmllr", *counts)

    @property
    def is_used(self) -> bool:
        """Whether the model is trained on transformed features."""
        return self.sat_rounds > 0


@dataclass(eq=False, slots=True)
class FmllrStatistics:
    """What the frames of one speaker say about the transform.

    Attributes:
        num_frames: beta.
        k: (F, E) sums of mean / variance times frame.
        g: (F, E, E) sums of 1 / variance times frame times frame.
    """

    num_frames: int
    k: Floats
    g: Floats

    @staticmethod
    def empty(dim: int) -> FmllrStatistics:
        """Statistics of no frame."""
        return FmllrStatistics(0, np.zeros((dim, dim + 1)), np.zeros((dim, dim + 1, dim + 1)))

    def accumulate(
        self, gmm: Gmm, feats: NDArray[np.float32], pdfs: NDArray[np.int32], transform: SpeakerTransform
    ) -> None:
        """Add frames.

        Args:
            gmm: the mixtures under which they shall become likely.
            feats: (T, F), as they are.
            pdfs: (T,) the mixture of every frame.
            transform: as it is known so far; it decides which Gaussians of a mixture answer for a frame.
        """
        precisions_TF, targets_TF = _expected(gmm, transform.apply(feats), pdfs)
        frames_TE = np.pad(feats.astype(np.float64), ((0, 0), (0, 1)), constant_values=1.0)
        self.num_frames += len(feats)
        self.k += targets_TF.T @ frames_TE
        for row, precision_T in enumerate(precisions_TF.T):
            self.g[row] += (precision_T[:, None] * frames_TE).T @ frames_TE

    @property
    def objective(self) -> RowObjective:
        """What the transform shall make largest."""
        return RowObjective(self.num_frames, self.k, self.g)


def estimate(statistics: FmllrStatistics, begin: SpeakerTransform, *, num_sweeps: int) -> SpeakerTransform:
    """The transform that makes the objective largest, row by row.

    Args:
        statistics: of one speaker.
        begin: where the updates begin; the objective is never lower afterwards.
        num_sweeps: at most so many sweeps over all rows.

    Raises:
        numpy.linalg.LinAlgError: the frames do not determine a transform, for they are too few or too much alike.
    """
    return SpeakerTransform(statistics.objective.maximised(begin.matrix, num_sweeps=num_sweeps))


def estimate_on_frames(
    gmm: Gmm,
    feats: NDArray[np.float32],
    pdfs: NDArray[np.int32],
    config: FmllrConfig,
    begin: SpeakerTransform | None = None,
) -> SpeakerTransform:
    """The transform of one speaker, frames being shared out among the Gaussians of their mixtures anew every time.

    Args:
        gmm: the mixtures.
        feats: (T, F) all frames of the speaker.
        pdfs: (T,) their mixtures.
        config: how often.
        begin: what is known of the speaker; None means nothing.

    Raises:
        numpy.linalg.LinAlgError: the frames do not determine a transform.
    """
    transform = begin or SpeakerTransform.identity(gmm.feat_dim)
    for _ in range(config.num_iterations):
        statistics = FmllrStatistics.empty(gmm.feat_dim)
        statistics.accumulate(gmm, feats, pdfs, transform)
        transform = estimate(statistics, transform, num_sweeps=config.num_sweeps)
    return transform


def _expected(gmm: Gmm, feats: NDArray[np.float32], pdfs: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """(T, F) expected 1 / variance and (T, F) expected mean / variance of the Gaussians that answer for each frame."""
    precisions_GF = 1.0 / gmm.variances
    targets_GF = gmm.means * precisions_GF
    precisions_TF, targets_TF = np.empty((2, *feats.shape))
    for pdf in np.unique(pdfs):
        own, here = gmm.own(pdf), pdfs == pdf
        posteriors_TG = gmm.posteriors(feats[here], pdf)
        precisions_TF[here] = posteriors_TG @ precisions_GF[own]
        targets_TF[here] = posteriors_TG @ targets_GF[own]
    return precisions_TF, targets_TF
