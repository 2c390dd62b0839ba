"""fMLLR (constrained MLLR): one affine transform of the features for each speaker, stored and applied.

A transform turns a speaker's frames into those of a typical speaker. How it is estimated stands in
`lhuc_asr.hmm.mixtures.fmllr`. Not for features of a network that never saw transformed features in training, and not
for a few seconds of speech: with 10 s, word errors rise (Swietojanski, Li & Renals 2016, section VI-C).

TRANSFORMS/transforms.json           speakers in order, frames each came from, who got the identity and why
TRANSFORMS/transforms.safetensors    (S, F, F + 1) their matrices

Shapes: S speakers, T frames, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.files import read_json, write_json
from lhuc_asr.tensors import digest, load_tensors, save_tensors

VERSION = 1
_PAGE, _MATRICES = "transforms.json", "transforms.safetensors"


@dataclass(frozen=True, eq=False)
class SpeakerTransform:
    """The affine transform W = [A b] of one speaker: x becomes A x + b.

    Attributes:
        matrix: (F, F + 1) float64, the offset b in its last column.

    Example:
        >>> louder = SpeakerTransform(np.array([[2.0, 1.0]]))
        >>> louder.apply(np.array([[3.0], [4.0]], np.float32)).tolist(), round(louder.log_determinant, 3)
        ([[7.0], [9.0]], 0.693)
    """

    matrix: NDArray[np.float64]

    @staticmethod
    def identity(dim: int) -> SpeakerTransform:
        """The transform that changes nothing."""
        return SpeakerTransform(np.eye(dim, dim + 1))

    @property
    def dim(self) -> int:
        """F, values per frame."""
        return len(self.matrix)

    @property
    def log_determinant(self) -> float:
        """log |det A|, which log-likelihoods of transformed frames need, once a frame, to be those of the frames."""
        return float(np.linalg.slogdet(self.matrix[:, :-1])[1])

    def apply(self, feats: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, F) the frames of this speaker, transformed."""
        single = self.matrix.astype(np.float32)
        transformed: NDArray[np.float32] = feats @ single[:, :-1].T + single[:, -1]
        return transformed


@dataclass(frozen=True, eq=False)
class SpeakerTransforms(Mapping[str, SpeakerTransform]):
    """Speaker -> transform, all of one acoustic model.

    Attributes:
        transforms: speaker -> transform.
        num_frames: speaker -> frames that it was estimated on.
        unchanged: speaker -> why the transform is the identity, of those who could not be estimated.
        model: SHA-256 that tells which model they were estimated with; empty where nothing checks it.

    Example:
        >>> import tempfile
        >>> kept = SpeakerTransforms({"../anna": SpeakerTransform.identity(2)}, {"../anna": 700})
        >>> folder = Path(tempfile.mkdtemp())
        >>> kept.save(folder)
        >>> SpeakerTransforms.load(folder)["../anna"].matrix.tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    transforms: Mapping[str, SpeakerTransform]
    num_frames: Mapping[str, int] = field(default_factory=dict)
    unchanged: Mapping[str, str] = field(default_factory=dict)
    model: str = ""

    def __getitem__(self, speaker: str) -> SpeakerTransform:
        return self.transforms[speaker]

    def __iter__(self) -> Iterator[str]:
        return iter(self.transforms)

    def __len__(self) -> int:
        return len(self.transforms)

    @property
    def sha256(self) -> str:
        """Of speakers and matrices: equal ones give equal features."""
        return digest({speaker: torch.from_numpy(self[speaker].matrix) for speaker in self})

    def beside(self, others: SpeakerTransforms) -> SpeakerTransforms:
        """These, and those of other speakers."""
        return SpeakerTransforms(
            {**self.transforms, **others.transforms},
            {**self.num_frames, **others.num_frames},
            {**self.unchanged, **others.unchanged},
            self.model,
        )

    def save(self, directory: Path) -> None:
        """Write both files; the page comes last, so that transforms which were broken off are none."""
        (directory / _PAGE).unlink(missing_ok=True)
        stacked = np.stack([self[speaker].matrix for speaker in self])
        save_tensors({"transforms": torch.from_numpy(stacked)}, directory / _MATRICES)
        page = {
            "version": VERSION,
            "model": self.model,
            "sha256": self.sha256,
            "speakers": list(self),
            "num_frames": dict(self.num_frames),
            "unchanged": dict(self.unchanged),
        }
        write_json(directory / _PAGE, page)

    @staticmethod
    def load(directory: Path) -> SpeakerTransforms:
        """Read what ``save`` wrote.

        Raises:
            DataError: there are no transforms, or they are damaged or of a newer format.
        """
        page = _read_page(directory / _PAGE)
        stacked = load_tensors(directory / _MATRICES, error=DataError)["transforms"].numpy()
        matrices = dict(zip(page["speakers"], map(SpeakerTransform, stacked), strict=True))
        found = SpeakerTransforms(matrices, page["num_frames"], page["unchanged"], page["model"])
        if found.sha256 != page["sha256"]:
            raise DataError(
                f"the transforms in '{directory}' were altered after they were written; estimate them again"
            )
        return found


def require_transforms(speakers: Iterable[str], transforms: Mapping[str, SpeakerTransform]) -> None:
    """Refuse to leave somebody untransformed in silence.

    Raises:
        DataError: a speaker has no transform.
    """
    missing = sorted(set(speakers) - transforms.keys())
    if missing:
        raise DataError(
            f"{len(missing)} speakers have no transform, such as {missing[0]!r}; "
            f"there are transforms of {len(transforms)} speakers: estimate those of this data"
        )


def _read_page(path: Path) -> dict[str, Any]:
    try:
        page: dict[str, Any] = read_json(path)
        version = page["version"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"there are no transforms in '{path.parent}': {error}") from error
    if version > VERSION:
        raise DataError(f"'{path}' has format version {version}; update lhuc_asr, which reads up to {VERSION}")
    return page
