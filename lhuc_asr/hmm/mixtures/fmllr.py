"""Estimating fMLLR: the affine transform under which a speaker's frames are most likely for Gaussian mixtures.

With the Gaussians of every frame known, the log-likelihood of the transformed frames is, up to a constant,

    Q(W) = beta log |det A| + sum_i (w_i k_i - w_i G_i w_i / 2)

where w_i is row i of W = [A b], beta counts frames, and k_i and G_i are the statistics below. All rows but one held
still, the best w_i is known in closed form, so rows are updated in turn and Q never falls.

Shapes: T frames, F features, E = F + 1 (a frame with a 1 appended), G Gaussians.

Source: Gales 1998, Computer Speech and Language 12, section 2.2 and appendix A; Kaldi's least count of 500 frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.features.fmllr import SpeakerTransform
from lhuc_asr.hmm.mixtures.gmm import Gmm
from lhuc_asr.ranges import require_at_least

Floats = NDArray[np.float64]

_ENOUGH_GAIN = 1e-7
"""Nats a frame that a sweep over all rows must win for another sweep."""


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

    def auxiliary(self, transform: SpeakerTransform) -> float:
        """Q(W), nats; its differences are those of log-likelihoods at fixed Gaussians."""
        rows = transform.matrix
        quadratic = np.einsum("fe,feh,fh->", rows, self.g, rows)
        return self.num_frames * transform.log_determinant + float((rows * self.k).sum() - quadratic / 2)


def estimate(statistics: FmllrStatistics, begin: SpeakerTransform, *, num_sweeps: int = 40) -> SpeakerTransform:
    """The transform that makes ``auxiliary`` largest, row by row.

    Args:
        statistics: of one speaker.
        begin: where the updates begin; ``auxiliary`` is never lower afterwards.
        num_sweeps: at most so many sweeps over all rows.

    Raises:
        numpy.linalg.LinAlgError: the frames do not determine a transform, for they are too few or too much alike.
    """
    inverse_g = np.asarray(np.linalg.inv(statistics.g), np.float64)
    if not np.linalg.cond(statistics.g).max() < 1 / np.finfo(np.float64).eps:
        raise np.linalg.LinAlgError("the frames do not determine a transform")
    matrix, before = begin.matrix.copy(), statistics.auxiliary(begin)
    for _ in range(num_sweeps):
        _sweep(matrix, statistics, inverse_g)
        now = statistics.auxiliary(SpeakerTransform(matrix))
        if now - before < _ENOUGH_GAIN * statistics.num_frames:
            break
        before = now
    return SpeakerTransform(matrix)


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


def _sweep(matrix: Floats, statistics: FmllrStatistics, inverse_g: Floats) -> None:
    """Update every row once, in place; the inverse of A follows each row by a rank-one correction."""
    inverse_FF = np.linalg.inv(matrix[:, :-1])
    for row in range(len(matrix)):
        column_F = inverse_FF[:, row].copy()
        cofactor_E = np.append(column_F, 0.0)
        matrix[row] = _best_row(statistics.num_frames, statistics.k[row], inverse_g[row], cofactor_E)
        change_F = matrix[row, :-1] @ inverse_FF
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


def _expected(gmm: Gmm, feats: NDArray[np.float32], pdfs: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """(T, F) expected 1 / variance and (T, F) expected mean / variance of the Gaussians that answer for each frame."""
    precisions_GF = 1.0 / gmm.variances
    targets_GF = gmm.means * precisions_GF
    precisions_TF, targets_TF = np.empty((2, *feats.shape))
    for pdf in np.unique(pdfs):
        own, here = slice(gmm.offsets[pdf], gmm.offsets[pdf + 1]), pdfs == pdf
        posteriors_TG = _posteriors(
            feats[here].astype(np.float64), gmm.constants[own], targets_GF[own], precisions_GF[own]
        )
        precisions_TF[here] = posteriors_TG @ precisions_GF[own]
        targets_TF[here] = posteriors_TG @ targets_GF[own]
    return precisions_TF, targets_TF


def _posteriors(feats_TF: Floats, constants_G: Floats, targets_GF: Floats, precisions_GF: Floats) -> Floats:
    """(T, G) how much each Gaussian of one mixture answers for each frame."""
    scores_TG = constants_G + feats_TF @ targets_GF.T - 0.5 * feats_TF**2 @ precisions_GF.T
    likely_TG = np.exp(scores_TG - scores_TG.max(axis=1, keepdims=True))
    shared: Floats = likely_TG / likely_TG.sum(axis=1, keepdims=True)
    return shared
