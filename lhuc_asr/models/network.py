"""What every acoustic network offers to training, decoding and adaptation."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class AcousticNetwork(nn.Module, ABC):
    """Features in, log-probabilities of tied states out; the letters of the shapes hold for the whole room.

    B utterances, T frames, F features, N windows, W frames of a window (2 * context + 1), H hidden units, V states.

    Attributes:
        context: frames on either side of a frame that its window holds.
        num_outputs: V.
    """

    context: int
    num_outputs: int

    @property
    @abstractmethod
    def adaptation_sites(self) -> tuple[str, ...]:
        """Names of the modules whose outputs are hidden units, bottom to top."""

    @abstractmethod
    def forward(self, feats_BTF: Tensor, feat_lens: Tensor | None = None) -> Tensor:
        """Log-probabilities (B, T, V) of whole utterances; beyond ``feat_lens`` (B,) lies padding."""

    @abstractmethod
    def forward_windows(self, windows_NWF: Tensor) -> Tensor:
        """Log-probabilities (N, V) of the middle frames of windows."""
