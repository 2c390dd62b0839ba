"""A GMM-HMM: how it grows, and what it is once it has grown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lhuc_asr.hmm.alignment import AlignConfig, AlignmentSet
from lhuc_asr.hmm.mixtures.gmm import Gmm
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.ranges import require_at_least


@dataclass(kw_only=True, slots=True)
class GmmConfig:
    """How the GMM-HMM grows.

    Attributes:
        num_leaves: tied states of the tree, the outputs of the network; fewer where the speech does not suffice.
        min_occupancy: frames that a tied state needs.
        min_gain: log-likelihood, nats, that a split of a tied state must win.
        num_gaussians: Gaussians of the triphone model in all.
        mono_gaussians: Gaussians of the monophone model in all.
        mono_iterations: passes with monophones.
        mono_utterances: shortest utterances on which monophones are trained; 0 means all.
        triphone_rounds: how often the tree is grown, each time on better alignments.
        triphone_iterations: passes in each round.
        realign_every: triphone passes between two alignments.
        split_power: mixtures grow with this power of their frames.
        align: beams and scales.
        seed: of the small random steps by which split Gaussians part.
    """

    num_leaves: int = 1000
    min_occupancy: float = 100.0
    min_gain: float = 150.0
    num_gaussians: int = 8000
    mono_gaussians: int = 1000
    mono_iterations: int = 20
    mono_utterances: int = 1000
    triphone_rounds: int = 2
    triphone_iterations: int = 14
    realign_every: int = 4
    split_power: float = 0.25
    align: AlignConfig = field(default_factory=AlignConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("num_leaves", "num_gaussians", "mono_gaussians", "mono_iterations", "triphone_iterations")
        require_at_least(1, self, "gmm", *counts, "triphone_rounds", "realign_every", "min_occupancy")
        require_at_least(0, self, "gmm", "min_gain", "mono_utterances")


@dataclass(frozen=True, eq=False)
class GmmSystem:
    """A trained GMM-HMM with the alignments that it gives its training speech."""

    hmm: HmmModel
    gmm: Gmm
    alignments: AlignmentSet

    def save(self, directory: Path) -> None:
        """Write ``hmm.json``, ``gmm.safetensors`` and the alignments."""
        self.hmm.save(directory / "hmm.json")
        self.gmm.save(directory / "gmm.safetensors")
        self.alignments.save(directory)

    @staticmethod
    def load(directory: Path) -> GmmSystem:
        """Read what ``save`` wrote.

        Raises:
            ModelError: a file is missing or damaged.
        """
        return GmmSystem(
            HmmModel.load(directory / "hmm.json"), Gmm.load(directory / "gmm.safetensors"), AlignmentSet.load(directory)
        )
