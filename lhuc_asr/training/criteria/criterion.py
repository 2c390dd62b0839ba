"""What whole utterances are judged by; here the settings, what every criterion does, and cross-entropy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from torch import Tensor

from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.ranges import require_at_least
from lhuc_asr.training.criteria.ctc import CtcConfig
from lhuc_asr.training.criteria.lfmmi.objective import LfMmiConfig
from lhuc_asr.training.criteria.lfmmi.phone_lm import PhoneLmConfig
from lhuc_asr.training.criteria.smbr.objective import SmbrConfig
from lhuc_asr.training.examples.sequence_batches import NO_TARGET, SequenceBatch, SequenceBatches
from lhuc_asr.training.examples.sequence_data import Piece
from lhuc_asr.training.tasks.frame_task import require_states
from lhuc_asr.training.tasks.objectives import count_correct, frame_cross_entropy
from lhuc_asr.training.tasks.task import Judged

# B utterances, T' outputs of the network, V tied states or labels


class CriterionKind(Enum):
    """What training lowers."""

    cross_entropy = "cross_entropy"
    lfmmi = "lfmmi"
    ctc = "ctc"
    smbr = "smbr"


_ONLY_OF = {"ctc": CriterionKind.ctc, "smbr": CriterionKind.smbr, "start": None}  # what lies there counts, not where


@dataclass(kw_only=True, slots=True)
class CriterionConfig:
    """What a network is judged by.

    Attributes:
        kind: cross-entropy of aligned tied states, LF-MMI, CTC of transcripts, or sMBR on lattices of a finished model.
        smoothing: weight of cross-entropy beside LF-MMI.
        tolerance: frames by which a phone may be earlier or later than it was aligned, under LF-MMI.
        lfmmi: its leak and regulariser.
        phone_lm: the phone language model of its denominator.
        ctc: what CTC writes.
        smbr: scale, smoothing and silence of sMBR; without an acoustic scale that of the model's decoder is taken.
        start: a finished model directory whose network training begins with, and whose tied states, language model and
            graph are kept; empty begins with random weights, which sMBR cannot.
    """

    kind: CriterionKind = CriterionKind.cross_entropy
    smoothing: float = 0.1
    tolerance: int = 5
    lfmmi: LfMmiConfig = field(default_factory=LfMmiConfig)
    phone_lm: PhoneLmConfig = field(default_factory=PhoneLmConfig)
    ctc: CtcConfig = field(default_factory=CtcConfig)
    smbr: SmbrConfig = field(default_factory=SmbrConfig)
    start: str = ""

    def __post_init__(self) -> None:
        require_at_least(0, self, "criterion", "smoothing", "tolerance")

    def relevant(self) -> dict[str, Any]:
        """The settings that matter, so that a model need not be trained again when another criterion gets more."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if _ONLY_OF.get(field.name, self.kind) is self.kind
        }


class Criterion(ABC):
    """Judges the outputs of the network for whole utterances.

    Attributes:
        needs_whole: whether utterances must not be cut into pieces.
    """

    needs_whole = True

    def prepare(self, pieces: Sequence[Piece], subsampling: int) -> None:  # noqa: B027
        """Make ready what will be needed of these utterances or pieces, all of which begin at an output."""

    @abstractmethod
    def check(self, network: AcousticNetwork, batches: SequenceBatches) -> None:
        """Raise a `LhucError` that names the utterances which cannot be judged."""

    @abstractmethod
    def __call__(self, log_probs_BTV: Tensor, lens_B: Tensor, batch: SequenceBatch) -> Judged:
        """Judge a minibatch.

        Args:
            log_probs_BTV: (B, T', V) what the network gave.
            lens_B: (B,) outputs of each utterance without padding.
            batch: the utterances.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON values that change when the criterion does."""


class StateCrossEntropy(Criterion):
    """Cross-entropy of the states that were aligned with the frames; outputs of a sub-sampled network take every
    so-manieth of them.

    Args:
        label_smoothing: share of each target's mass that goes to all states alike.
    """

    needs_whole = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing, self.subsampling = label_smoothing, 1

    def prepare(self, pieces: Sequence[Piece], subsampling: int) -> None:
        """Take note of how many frames there are to an output."""
        self.subsampling = subsampling

    def check(self, network: AcousticNetwork, batches: SequenceBatches) -> None:
        """Raise DataError when a target is no output of the network."""
        targets = batches.data.targets
        assert targets is not None
        require_states(max(int(targets[name].max()) for name in batches.data.num_frames), network)

    def __call__(self, log_probs_BTV: Tensor, lens_B: Tensor, batch: SequenceBatch) -> Judged:
        """Mean over the frames that have a target."""
        assert batch.targets is not None
        targets_BT = batch.targets[:, :: self.subsampling].to(log_probs_BTV.device)
        chosen_BT = targets_BT != NO_TARGET
        log_probs, targets = log_probs_BTV[chosen_BT], targets_BT[chosen_BT]
        loss = frame_cross_entropy(log_probs, targets, label_smoothing=self.label_smoothing)
        return Judged(loss, count_correct(log_probs, targets), len(targets))

    def identity(self) -> dict[str, Any]:
        """The smoothing; the targets belong to the data."""
        return {"criterion": "cross-entropy", "label_smoothing": self.label_smoothing}
