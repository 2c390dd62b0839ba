"""A linear map from a frame with its neighbours to a few values, the same for all speakers: what LDA and MLLT give.

How it is estimated stands in `lhuc_asr.hmm.projecting`. It is part of the model that learnt from projected features.

Shapes: T frames, F features, W = 2 context + 1 frames in a window, D values after the projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.errors import ModelError
from lhuc_asr.features.splicing import splice
from lhuc_asr.tensors import digest, load_tensors, save_tensors


@dataclass(frozen=True, eq=False)
class FrameProjection:
    """The affine map of a window x to A x + b.

    Attributes:
        matrix: (D, W * F + 1) float64, the offset b in its last column; windows have their earliest frame first.
        context: frames to each side of a window.

    Example:
        >>> slope = FrameProjection(np.array([[-0.5, 0.0, 0.5, 1.0]]), context=1)
        >>> slope.apply(np.array([[2.0], [4.0], [8.0]], np.float32)).tolist()
        [[2.0], [4.0], [3.0]]
    """

    matrix: NDArray[np.float64]
    context: int

    @property
    def dim(self) -> int:
        """D, values per frame afterwards."""
        return len(self.matrix)

    @property
    def feat_dim(self) -> int:
        """F, values per frame before."""
        num_values: int = self.matrix.shape[1] - 1
        return num_values // (2 * self.context + 1)

    @property
    def sha256(self) -> str:
        """Equal ones give equal features."""
        return digest(self._tensors())

    def apply(self, feats: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, D) the (T, F) frames of one utterance, projected; its edge frames are repeated beyond its ends."""
        single = self.matrix.astype(np.float32)
        projected: NDArray[np.float32] = splice(feats, self.context, self.context) @ single[:, :-1].T + single[:, -1]
        return projected

    def turned(self, rows: NDArray[np.float64]) -> FrameProjection:
        """This projection, then a linear map of its values.

        Args:
            rows: (D, D).
        """
        return FrameProjection(rows @ self.matrix, self.context)

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        save_tensors(self._tensors(), path)

    @staticmethod
    def load(path: Path) -> FrameProjection:
        """Read what ``save`` wrote.

        Raises:
            ModelError: the file is missing or damaged, or holds something else.
        """
        tensors = load_tensors(path)
        try:
            return FrameProjection(tensors["matrix"].numpy(), int(tensors["context"]))
        except KeyError as error:
            raise ModelError(f"'{path}' holds no projection of features: it has no {error}") from error

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {"matrix": torch.from_numpy(np.ascontiguousarray(self.matrix)), "context": torch.tensor(self.context)}
