"""Few numbers from many, learnt on training speakers: directions in which voices differ, and not utterances.

Shape suffixes: N vectors, D numbers of each, K numbers that are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.errors import DataError
from lhuc_asr.ranges import require_at_least, require_share

_FLOOR = 1e-6


class ProjectionKind(Enum):
    """``none`` leaves vectors as they are; ``standard`` gives every number mean 0 and variance 1; ``pca`` keeps the
    directions of most variance, ``lda`` those in which speakers differ most by how much their utterances do; both give
    them mean 0 and variance 1 too.
    """

    none = "none"
    standard = "standard"
    pca = "pca"
    lda = "lda"


@dataclass(kw_only=True, slots=True)
class ProjectionConfig:
    """What is made of the vectors before a gate sees them.

    Attributes:
        kind: of the projection.
        num_dims: so many directions are kept at most (pca, lda). Few training speakers fill few directions.
        shrinkage: how far the covariance within speakers is drawn to a multiple of the identity (lda), 0 to 1.
    """

    kind: ProjectionKind = ProjectionKind.lda
    num_dims: int = 8
    shrinkage: float = 0.05

    def __post_init__(self) -> None:
        require_at_least(1, self, "condition.projection", "num_dims")
        require_share(self, "condition.projection", "shrinkage")


@dataclass(frozen=True, eq=False)
class Projection:
    """Takes a mean off and multiplies by a matrix.

    Attributes:
        mean: (D,) of the training vectors.
        matrix: (D, K).

    Example:
        >>> vectors = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
        >>> projection = Projection.fit(vectors, ["a", "b", "c"], ProjectionConfig(kind=ProjectionKind.pca))
        >>> [f"{abs(number):.2f}" for (number,) in projection.apply(vectors).tolist()]
        ['1.22', '0.00', '1.22']

    Source: Fisher's linear discriminant, as x-vectors are treated (Snyder et al. 2018, section 3.3); with the
    within-speaker covariance regularised as by Ledoit & Wolf 2004.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @property
    def num_dims(self) -> int:
        """K."""
        return int(self.matrix.shape[1])

    @staticmethod
    def identity(num_dims: int) -> Projection:
        """Leaves vectors as they are."""
        return Projection(np.zeros(num_dims), np.eye(num_dims))

    @staticmethod
    def fit(vectors_ND: NDArray[np.floating], speakers: Sequence[str], config: ProjectionConfig) -> Projection:
        """Learn the projection.

        Args:
            vectors_ND: (N, D) vectors of training utterances.
            speakers: (N,) whose they are.
            config: what is to be made of them.

        Raises:
            DataError: there are no two vectors, or for lda no two speakers, or all vectors are alike.
        """
        x_ND = np.asarray(vectors_ND, np.float64)
        if config.kind is ProjectionKind.none:
            return Projection.identity(x_ND.shape[1])
        if len(x_ND) < 2 or (config.kind is ProjectionKind.lda and len(set(speakers)) < 2):
            raise DataError(
                f"a projection of {len(x_ND)} vectors of {len(set(speakers))} speakers cannot be learnt; two are needed"
            )
        mean_D, deviation_D = x_ND.mean(axis=0), x_ND.std(axis=0)
        if not (deviation_D > _FLOOR).any():
            raise DataError("the vectors of all training utterances are alike; they tell no voices apart")
        scale_D = np.where(deviation_D > _FLOOR, 1 / np.maximum(deviation_D, _FLOOR), 0.0)
        if config.kind is ProjectionKind.standard:
            return Projection(mean_D, np.diag(scale_D))
        standard_ND = (x_ND - mean_D) * scale_D
        directions_DK = _pca(standard_ND) if config.kind is ProjectionKind.pca else _lda(standard_ND, speakers, config)
        kept_DK = directions_DK[:, : config.num_dims]
        return Projection(mean_D, scale_D[:, None] * kept_DK / (standard_ND @ kept_DK).std(axis=0))

    def apply(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """(..., D) to (..., K)."""
        projected: NDArray[np.float32] = ((vectors - self.mean) @ self.matrix).astype(np.float32)
        return projected

    def tensors(self) -> dict[str, Tensor]:
        """Ready for a file."""
        return {"mean": torch.from_numpy(self.mean), "matrix": torch.from_numpy(self.matrix)}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> Projection:
        """What `tensors` gave."""
        return Projection(tensors["mean"].double().numpy(), tensors["matrix"].double().numpy())


def _pca(x_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """(D, K) all directions that have variance, most of it first."""
    values, directions = np.linalg.eigh(x_ND.T @ x_ND / len(x_ND))
    kept = np.flatnonzero(values > _FLOOR * values.max())[::-1]
    found: NDArray[np.float64] = directions[:, kept]
    return found


def _lda(x_ND: NDArray[np.float64], speakers: Sequence[str], config: ProjectionConfig) -> NDArray[np.float64]:
    """(D, K) all directions in which the speakers' means differ, best first."""
    _, index_N = np.unique(np.asarray(speakers), return_inverse=True)
    counts_S = np.bincount(index_N)
    means_SD = np.stack([np.bincount(index_N, column) for column in x_ND.T], axis=1) / counts_S[:, None]
    within_ND = x_ND - means_SD[index_N]
    within_DD = within_ND.T @ within_ND / len(x_ND)
    target = max(np.trace(within_DD), _FLOOR) / len(within_DD)
    within_DD = (1 - config.shrinkage) * within_DD + config.shrinkage * target * np.eye(len(within_DD))
    values, vectors = np.linalg.eigh(within_DD)
    whiten_DD = vectors / np.sqrt(np.maximum(values, _FLOOR * values.max()))
    weighted_SD = np.sqrt(counts_S / len(x_ND))[:, None] * (means_SD - x_ND.mean(axis=0)) @ whiten_DD
    between, directions = np.linalg.eigh(weighted_SD.T @ weighted_SD)
    kept = np.flatnonzero(between > _FLOOR * between.max())[::-1]
    found: NDArray[np.float64] = whiten_DD @ directions[:, kept]
    return found
