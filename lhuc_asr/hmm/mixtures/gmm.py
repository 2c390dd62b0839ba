"""Gaussian mixtures with diagonal covariances, one per tied state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from lhuc_asr.errors import ModelError
from lhuc_asr.files import atomic_path

LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, eq=False)
class Gmm:
    """All mixtures of a model; the Gaussians of one tied state lie side by side.

    Attributes:
        offsets: (P + 1,) int32, pdf ``p`` owns Gaussians ``offsets[p] ... offsets[p + 1] - 1``, at least one.
        weights: (G,) float64, summing to 1 within each pdf.
        means: (G, F) float64.
        variances: (G, F) float64, positive.

    Example:
        >>> gmm = single_gaussians(np.zeros((1, 2)), np.ones((1, 2)))
        >>> gmm.log_likes(np.zeros((1, 2), np.float32)).round(3)
        array([[-1.838]], dtype=float32)
    """

    offsets: NDArray[np.int32]
    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]

    @property
    def num_pdfs(self) -> int:
        """P, the number of mixtures."""
        return len(self.offsets) - 1

    @property
    def num_gaussians(self) -> int:
        """G, the Gaussians of all mixtures."""
        return len(self.weights)

    @property
    def feat_dim(self) -> int:
        """F, the dimension of a frame."""
        return int(self.means.shape[1])

    def own(self, pdf: int) -> slice:
        """Where the Gaussians of one mixture lie."""
        return slice(int(self.offsets[pdf]), int(self.offsets[pdf + 1]))

    @cached_property
    def constants(self) -> NDArray[np.float64]:
        """(G,) the part of the log-likelihood that does not depend on the frame, weight included."""
        distance = (np.log(self.variances) + self.means**2 / self.variances).sum(axis=1)
        constants: NDArray[np.float64] = np.log(self.weights) - 0.5 * (self.feat_dim * LOG_2PI + distance)
        return constants

    @cached_property
    def compiled(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """(G,) constants, (G, F) means over variances, (G, F) half inverse variances, in single precision."""
        inverse = 1.0 / self.variances
        single = np.float32
        return self.constants.astype(single), (self.means * inverse).astype(single), (0.5 * inverse).astype(single)

    @cached_property
    def _coefficients(self) -> NDArray[np.float32]:
        """(G, 2 F) which multiplies (x, x^2)."""
        _, scaled_means, half_inverse = self.compiled
        return np.concatenate([scaled_means, -half_inverse], axis=1)

    def log_likes(self, feats: NDArray[np.float32], pdfs: NDArray[np.int32] | None = None) -> NDArray[np.float32]:
        """Log-likelihood of every frame under every mixture, or under some.

        Args:
            feats: (T, F) float32.
            pdfs: (U,) which mixtures; all when left out.

        Returns:
            (T, U) float32, nats.
        """
        wanted = np.arange(self.num_pdfs) if pdfs is None else pdfs
        sizes = self.offsets[wanted + 1] - self.offsets[wanted]
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        gaussians = np.repeat(self.offsets[wanted] - bounds[:-1], sizes) + np.arange(bounds[-1])
        both = np.concatenate([feats, feats * feats], axis=1)
        scores = both @ self._coefficients[gaussians].T + self.compiled[0][gaussians]
        return log_sum_within(scores, bounds)

    def posteriors(self, feats: NDArray[np.float32], pdf: int) -> NDArray[np.float64]:
        """How much each Gaussian of one mixture answers for each frame.

        Args:
            feats: (T, F) float32.
            pdf: the mixture.

        Returns:
            (T, G) float64 with the G Gaussians of this mixture; every row sums to 1.
        """
        own, frames_TF = self.own(pdf), feats.astype(np.float64)
        precisions_GF = 1.0 / self.variances[own]
        targets_GF = self.means[own] * precisions_GF
        scores_TG = self.constants[own] + frames_TF @ targets_GF.T - 0.5 * frames_TF**2 @ precisions_GF.T
        likely_TG = np.exp(scores_TG - scores_TG.max(axis=1, keepdims=True))
        shared: NDArray[np.float64] = likely_TG / likely_TG.sum(axis=1, keepdims=True)
        return shared

    def save(self, path: Path) -> None:
        """Write the mixtures as safetensors."""
        tensors: dict[str, NDArray[Any]] = {
            "offsets": self.offsets,
            "weights": self.weights,
            "means": np.ascontiguousarray(self.means),
            "variances": np.ascontiguousarray(self.variances),
        }
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)

    @staticmethod
    def load(path: Path) -> Gmm:
        """Read what ``save`` wrote.

        Raises:
            ModelError: the file is missing or damaged.
        """
        try:
            tensors = load_file(path)
            return Gmm(tensors["offsets"], tensors["weights"], tensors["means"], tensors["variances"])
        except Exception as error:
            raise ModelError(f"{str(path)!r} holds no mixtures: {error}") from error


def single_gaussians(means: NDArray[np.float64], variances: NDArray[np.float64]) -> Gmm:
    """One Gaussian per pdf.

    Args:
        means: (P, F).
        variances: (P, F).
    """
    return Gmm(np.arange(len(means) + 1, dtype=np.int32), np.ones(len(means)), means.copy(), variances.copy())


def log_sum_within(scores: NDArray[np.float32], bounds: NDArray[np.int64]) -> NDArray[np.float32]:
    """(T, U) log of the sum of exponentials of (T, G) scores between each two of the (U + 1,) bounds."""
    if len(bounds) - 1 == scores.shape[1]:
        return scores
    sums = np.empty((len(scores), len(bounds) - 1), np.float32)
    _log_sum_within(scores, bounds, sums)
    return sums


def _log_sum_within_python(scores: Any, bounds: Any, sums: Any) -> None:
    for frame in range(len(scores)):
        for group in range(len(bounds) - 1):
            first, last = bounds[group], bounds[group + 1]
            highest = scores[frame, first]
            for index in range(first + 1, last):
                highest = max(highest, scores[frame, index])
            total = np.float32(0.0)
            for index in range(first, last):
                total += np.exp(scores[frame, index] - highest)
            sums[frame, group] = highest + np.log(total)


_log_sum_within: Any = numba.njit(cache=True, fastmath=True)(_log_sum_within_python)
