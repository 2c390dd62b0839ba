"""A network whose units are scaled by what a gate makes of the voice: one module, so that the training loop takes it.

Shape suffixes: B utterances, T frames, F features, N windows, W frames of a window, K numbers of z, V states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from lhuc_asr.conditioning.table import SpeakerTable
from lhuc_asr.lhuc.gate import Gate
from lhuc_asr.lhuc.gated_sites import GatedSites
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.network import AcousticNetwork

Own = TypeVar("Own", bound="ConditionedNetwork")


class ConditionedNetwork(AcousticNetwork):
    """An acoustic network and its gate.

    Args:
        base: the network; unless it is to be trained as well, it stays in evaluation mode and nothing of it changes.
        sites: what is scaled.
        gate: from z to scales of these sites.
        table: of speakers, whose rows are learnt along and stand in z.
        trains_base: whether the network is trained along with the gate.

    Example:
        >>> import torch
        >>> from lhuc_asr.models.dnn import Dnn, DnnConfig
        >>> base = Dnn(DnnConfig(num_layers=1, hidden_dim=4, context=0), feat_dim=3, num_outputs=2)
        >>> sites = row_sites([Site("layers.0.activation", (4,))])
        >>> network = ConditionedNetwork(base, sites, Gate.for_sites(sites, 5))
        >>> windows_NWF = torch.ones(7, 1, 3)
        >>> with network.attached(), network.hearing(torch.randn(7, 5)):
        ...     torch.equal(network.forward_windows(windows_NWF), base.forward_windows(windows_NWF))
        True
    """

    def __init__(
        self,
        base: AcousticNetwork,
        sites: Sequence[Site],
        gate: Gate,
        *,
        table: SpeakerTable | None = None,
        trains_base: bool = False,
    ) -> None:
        super().__init__()
        self.base, self.gate, self.table = base, gate, table
        self.trains_base = trains_base
        self.config = base.config
        self.feat_dim, self.num_outputs, self.subsampling = base.feat_dim, base.num_outputs, base.subsampling
        if base.has_windows:
            self.context = base.context
        self._gated = GatedSites(sites)
        base.requires_grad_(trains_base)

    def train(self: Own, mode: bool = True) -> Own:
        """Training mode for what is trained; statistics and dropout of a frozen network do not stir."""
        super().train(mode)
        self.base.train(mode and self.trains_base)
        return self

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the gate act inside the block.

        Raises:
            SiteError: scales are attached already, or a site does not act.
        """
        with self._gated.attached(self.base):
            yield

    @contextmanager
    def hearing(self, z: Tensor, rows: Tensor | None = None) -> Iterator[None]:
        """Say whose voices the network hears inside the block.

        Args:
            z: (N, K), a row for each utterance, or for each window.
            rows: (N,) whose rows of the table they have; None is nobody's.
        """
        if self.table is not None and rows is not None:
            z = self.table(z, rows)
        with self._gated.scaled_by(self.gate(z)):
            yield

    @property
    def adaptation_sites(self) -> tuple[str, ...]:
        """Of the network."""
        return tuple(f"base.{name}" for name in self.base.adaptation_sites)

    @property
    def has_windows(self) -> bool:
        """As of the network."""
        return self.base.has_windows

    @property
    def learns_from_frames(self) -> bool:
        """As of the network."""
        return self.base.learns_from_frames

    def forward(self, feats_BTF: Tensor, feat_lens: Tensor | None = None) -> Tensor:
        """(B, T', V) log-probabilities of the voices that are heard."""
        log_probs: Tensor = self.base(feats_BTF, feat_lens)
        return log_probs

    def forward_windows(self, windows_NWF: Tensor) -> Tensor:
        """(N, V) log-probabilities, each window of the voice of its row."""
        return self.base.forward_windows(windows_NWF)

    def constrain(self) -> None:
        """As the network wants it, where it is trained."""
        if self.trains_base:
            self.base.constrain()


def row_sites(sites: Sequence[Site]) -> tuple[Site, ...]:
    """Sites of a network of windows, whose outputs are rows (N, ...): every row may have scales of its own."""
    return tuple(replace(site, layout=_of_rows(site.layout)) for site in sites)


def _of_rows(layout: Layout) -> Layout:
    return Layout("N" + layout.letters.removeprefix("*")) if layout.letters.startswith("*") else layout
