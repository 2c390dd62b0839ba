"""Criteria that judge whole utterances, as training has them, with what a first pass tells in place of transcripts.

Each makes a goal of what is believed of an utterance, and a loss of the network's outputs for utterances with goals.
The losses are those of `lhuc_asr.training`, unchanged. Letters of shapes: B utterances, T' outputs, V states or labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.errors import AlignmentError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.system.lattice_arcs import state_lattice
from lhuc_asr.training.criteria.ctc import ctc_objective
from lhuc_asr.training.criteria.lfmmi.graph import ChainGraph
from lhuc_asr.training.criteria.lfmmi.lattice_numerator import numerator_of_lattice
from lhuc_asr.training.criteria.lfmmi.numerator import NumeratorCompiler, PhoneSegments
from lhuc_asr.training.criteria.lfmmi.objective import LfMmi
from lhuc_asr.training.criteria.smbr.objective import Smbr, SmbrTarget

Path = NDArray[np.int32]
"""(T',) transition ids of the outputs: what is believed."""

Goal: TypeAlias = ChainGraph | Tensor | SmbrTarget
"""What one utterance is learnt from: a numerator, labels, or a lattice with its reference."""


class SequenceCriterion(Protocol):
    """Judges whole utterances."""

    def goal(self, utterance: str, path: Path, lattice: Lattice | None) -> Goal:
        """What an utterance is learnt from.

        Args:
            utterance: its id.
            path: what is believed.
            lattice: of the first pass, where the settings ask for one.

        Raises:
            AlignmentError: there is nothing to learn from in this utterance.
        """

    def loss(self, outputs_BTV: Tensor, lens_B: Tensor, goals: Sequence[Any], utterances: Sequence[str]) -> Tensor:
        """() a mean over the outputs of all utterances.

        Args:
            outputs_BTV: (B, T', V) what the network gives.
            lens_B: (B,) outputs of each utterance.
            goals: B, of `goal`.
            utterances: B ids, for messages.
        """

    def identity(self) -> list[Any]:
        """JSON values that tell what the model directory adds to the settings."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LfMmiOfBelieved:
    """LF-MMI: what is believed, against all that could be said.

    A path gives phones that may be a little earlier or later than it says. A lattice is a numerator as it is: each of
    its paths counts as far as the first pass holds it for likely, and ever more as the adapted network prefers it.

    Attributes:
        lfmmi: the denominator that the network was trained with.
        compiler: makes numerators of paths.
        hmm: whose transition ids paths and lattices have.
        subsampling: frames from one output to the next.
        tolerance: frames of the features.
        lattice_scale: factor on the log-likelihoods by which a lattice's paths are weighed; None takes the search's.
        from_lattice: learn from lattices, and not from paths.
        told: identity of the denominator.

    Source: Klejch et al. 2019, "Lattice-based lightly-supervised acoustic model training" (arXiv:1905.13150) and
    "Lattice-based unsupervised test-time adaptation of neural network acoustic models" (arXiv:1906.11521).
    """

    lfmmi: LfMmi
    compiler: NumeratorCompiler
    hmm: HmmModel
    subsampling: int
    tolerance: int = 5
    lattice_scale: float | None = None
    from_lattice: bool = False
    told: list[Any] = field(default_factory=list)

    def goal(self, utterance: str, path: Path, lattice: Lattice | None) -> ChainGraph:
        """The numerator."""
        if not self.from_lattice:
            segments = segments_of_outputs(path, self.hmm, self.subsampling)
            return self.compiler.of_segments(segments, tolerance=self.tolerance)
        return numerator_of_lattice(self._weighed(_required(lattice, utterance)))

    def loss(self, outputs_BTV: Tensor, lens_B: Tensor, goals: Sequence[Any], utterances: Sequence[str]) -> Tensor:
        """Nats."""
        return self.lfmmi(outputs_BTV, lens_B, goals, utterances).loss

    def identity(self) -> list[Any]:
        """Of the denominator."""
        return self.told

    def _weighed(self, lattice: Lattice) -> Any:
        """Log weights that are the first pass's posteriors when the network's outputs are added as they were then."""
        heard = lattice.acoustic_cost.astype(np.float64) / lattice.acoustic_scale
        log_weight = heard - lattice.costs(self.lattice_scale)
        return replace(state_lattice(lattice, self.hmm), log_weight=log_weight)


def segments_of_outputs(path: Path, hmm: HmmModel, subsampling: int) -> PhoneSegments:
    """The phones of a path that has a transition id for every output.

    Example:
        >>> hmm = HmmModel.monophone(("SIL", "SPN"))
        >>> segments_of_outputs(np.array([1, 3, 5], np.int32), hmm, 3).num_outputs
        3
    """
    starts = np.flatnonzero(hmm.phone_starts(path))
    num_frames = (len(path) - 1) * subsampling + 1
    return PhoneSegments(hmm.phones_of(path)[starts].tolist(), (starts * subsampling).tolist(), num_frames, subsampling)


@dataclass(frozen=True, eq=False)
class CtcOfBelieved:
    """CTC on the labels that the believed path says; when they appear is left to the network.

    Attributes:
        hmm: of a CTC network (`lhuc_asr.decoding.ctc_graph.ctc_hmm`).
    """

    hmm: HmmModel

    def goal(self, utterance: str, path: Path, lattice: Lattice | None) -> Tensor:
        """(L,) labels.

        Raises:
            AlignmentError: the path says nothing.
        """
        labels = torch.from_numpy(self.hmm.pdfs(path)[self.hmm.phone_starts(path)].astype(np.int64))
        if not bool(labels.any()):
            raise AlignmentError(f"nothing was recognised in utterance {utterance!r}")
        return labels[labels > 0]

    def loss(self, outputs_BTV: Tensor, lens_B: Tensor, goals: Sequence[Any], utterances: Sequence[str]) -> Tensor:
        """Nats."""
        return ctc_objective(outputs_BTV, lens_B, goals, utterances)

    def identity(self) -> list[Any]:
        """Nothing: labels come from paths."""
        return []


@dataclass(frozen=True, eq=False)
class SmbrOfBelieved:
    """sMBR: on the first pass's lattice, the expected share of outputs whose state is that of the believed path.

    Attributes:
        smbr: scale, silence, priors.
        hmm: whose transition ids paths and lattices have.
    """

    smbr: Smbr
    hmm: HmmModel

    def goal(self, utterance: str, path: Path, lattice: Lattice | None) -> SmbrTarget:
        """Lattice and reference."""
        return SmbrTarget(state_lattice(_required(lattice, utterance), self.hmm), self.hmm.pdfs(path))

    def loss(self, outputs_BTV: Tensor, lens_B: Tensor, goals: Sequence[Any], utterances: Sequence[str]) -> Tensor:
        """Minus the expected share, -1 to 0."""
        return self.smbr(outputs_BTV, lens_B, goals).loss

    def identity(self) -> list[Any]:
        """Nothing: scale and priors belong to search and model."""
        return []


def _required(lattice: Lattice | None, utterance: str) -> Lattice:
    if lattice is None:
        raise AlignmentError(f"utterance {utterance!r} has no lattice: the first pass found no path")
    return lattice
