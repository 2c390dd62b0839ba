"""Networks whose every output depends on the whole utterance."""

from __future__ import annotations

from torch import Tensor

from lhuc_asr.errors import ModelError
from lhuc_asr.models.network import AcousticNetwork


class WholeUtteranceNetwork(AcousticNetwork):
    """A network without windows: an output depends on all frames, or on all that came before."""

    @property
    def has_windows(self) -> bool:
        """It has none."""
        return False

    @property
    def context(self) -> int:  # type: ignore[override]
        """There is none.

        Raises:
            ModelError: always.
        """
        raise self._has_no_windows()

    def forward_windows(self, windows_NWF: Tensor) -> Tensor:
        """There are no windows.

        Raises:
            ModelError: always.
        """
        raise self._has_no_windows()

    def _has_no_windows(self) -> ModelError:
        return ModelError(
            f"a network of kind {self.config.kind.name} has no windows of frames: give it whole utterances (forward), "
            "or choose another kind of network"
        )
