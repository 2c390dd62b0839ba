"""What whole utterances are judged by: cross-entropy of aligned states, CTC, LF-MMI."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import kaldialign
import torch
from torch import Tensor

from lhuc_asr.errors import AlignmentError, ConfigError
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.tensors import digest
from lhuc_asr.training.ctc import check_lengths, ctc_objective
from lhuc_asr.training.frame_task import require_states
from lhuc_asr.training.lfmmi.graph import ChainGraph
from lhuc_asr.training.lfmmi.objective import LfMmi, LfMmiConfig, chain_cross_entropy
from lhuc_asr.training.lfmmi.phone_lm import PhoneLmConfig
from lhuc_asr.training.objectives import frame_cross_entropy
from lhuc_asr.training.sequence_batches import NO_TARGET, SequenceBatch
from lhuc_asr.training.sequence_data import SequenceData
from lhuc_asr.training.task import Judged, plain

# B utterances, T' outputs of the network, V tied states or labels


class CriterionKind(Enum):
    """What training lowers."""

    cross_entropy = "cross_entropy"
    lfmmi = "lfmmi"


@dataclass(kw_only=True, slots=True)
class CriterionConfig:
    """What a network is judged by.

    Attributes:
        kind: cross-entropy of aligned tied states, or LF-MMI.
        smoothing: weight of cross-entropy beside LF-MMI.
        tolerance: frames by which a phone may be earlier or later than it was aligned, under LF-MMI.
        lfmmi: its leak and regulariser.
        phone_lm: the phone language model of its denominator.
    """

    kind: CriterionKind = CriterionKind.cross_entropy
    smoothing: float = 0.1
    tolerance: int = 5
    lfmmi: LfMmiConfig = field(default_factory=LfMmiConfig)
    phone_lm: PhoneLmConfig = field(default_factory=PhoneLmConfig)

    def __post_init__(self) -> None:
        if self.smoothing < 0:
            raise ConfigError(f"criterion.smoothing must be 0 or more, got {self.smoothing}")
        if self.tolerance < 0:
            raise ConfigError(f"criterion.tolerance must be 0 frames or more, got {self.tolerance}")


class Criterion(ABC):
    """Judges the outputs of the network for whole utterances.

    Attributes:
        needs_whole: whether utterances must not be cut into pieces.
    """

    needs_whole = True

    @abstractmethod
    def check(self, network: AcousticNetwork, data: SequenceData) -> None:
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
        self.label_smoothing = label_smoothing

    def check(self, network: AcousticNetwork, data: SequenceData) -> None:
        """Raise DataError when a target is no output of the network."""
        assert data.targets is not None
        require_states(max(int(data.targets[name].max()) for name in data.num_frames), network)

    def __call__(self, log_probs_BTV: Tensor, lens_B: Tensor, batch: SequenceBatch) -> Judged:
        """Mean over the frames that have a target."""
        assert batch.targets is not None
        step = -(-batch.targets.shape[1] // log_probs_BTV.shape[1])
        targets_BT = batch.targets[:, ::step].to(log_probs_BTV.device)
        chosen_BT = targets_BT != NO_TARGET
        log_probs, targets = log_probs_BTV[chosen_BT], targets_BT[chosen_BT]
        loss = frame_cross_entropy(log_probs, targets, label_smoothing=self.label_smoothing)
        return Judged(loss, int((log_probs.detach().argmax(dim=1) == targets).sum()), len(targets))

    def identity(self) -> dict[str, Any]:
        """The smoothing; the targets belong to the data."""
        return {"criterion": "cross-entropy", "label_smoothing": self.label_smoothing}


class Mmi(Criterion):
    """LF-MMI, held in place by some cross-entropy against the numerator's posteriors on the same outputs.

    Args:
        lfmmi: the denominator and its settings.
        numerators: utterance id -> what was said.
        smoothing: weight of the cross-entropy.

    Source: Povey et al. 2016 (Interspeech), section 2.7.1, where the cross-entropy has an output layer of its own; on
    the same outputs it is the f-smoothing of Su et al. 2013, "Error back propagation for sequence training of
    context-dependent deep networks for conversational speech transcription".
    """

    def __init__(self, lfmmi: LfMmi, numerators: Mapping[str, ChainGraph], *, smoothing: float = 0.0) -> None:
        self.lfmmi, self.numerators, self.smoothing = lfmmi, numerators, smoothing

    def check(self, network: AcousticNetwork, data: SequenceData) -> None:
        """Raise AlignmentError where an utterance is too short for its words, or DataError for a lacking output."""
        lens = network.output_lens(torch.tensor(list(data.num_frames.values()))).tolist()
        short = [
            f"{name!r} ({num_outputs} outputs, {needed} needed)"
            for name, num_outputs in zip(data.num_frames, lens, strict=True)
            if num_outputs < (needed := self.numerators[name].min_frames())
        ]
        if short:
            more = f" and {len(short) - 5} more" if len(short) > 5 else ""
            raise AlignmentError(f"utterances too short for their words: {', '.join(short[:5])}{more}")
        require_states(self.lfmmi.denominator.num_pdfs - 1, network)

    def __call__(self, log_probs_BTV: Tensor, lens_B: Tensor, batch: SequenceBatch) -> Judged:
        """The loss a frame; how right it was is the chance that said and sayable agree on the state."""
        names = batch.utterances
        result = self.lfmmi(log_probs_BTV, lens_B, [self.numerators[name] for name in names], names)
        objective = result.loss
        if self.smoothing:
            held = chain_cross_entropy(log_probs_BTV, result.numerator_posteriors)
            objective = objective + self.smoothing * held
        return Judged(objective, result.agreement * result.num_frames, result.num_frames)

    def identity(self) -> dict[str, Any]:
        """Settings, and the sizes of the graphs."""
        denominator = self.lfmmi.denominator
        return {
            "criterion": "lfmmi",
            **plain(self.lfmmi.config),
            "smoothing": self.smoothing,
            "denominator": [denominator.num_states, denominator.num_arcs],
            "numerators": sum(graph.num_arcs for graph in self.numerators.values()),
        }


class Ctc(Criterion):
    """CTC on labels of transcripts.

    Args:
        labels: utterance id -> (L,) labels without blanks.
    """

    def __init__(self, labels: Mapping[str, Tensor]) -> None:
        self.labels = labels

    def check(self, network: AcousticNetwork, data: SequenceData) -> None:
        """Raise AlignmentError where an utterance is too short for its labels."""
        lens = network.output_lens(torch.tensor(list(data.num_frames.values()))).tolist()
        labels = {name: self.labels[name] for name in data.num_frames}
        check_lengths(labels, dict(zip(labels, lens, strict=True)))
        require_states(max(int(one.max()) for one in labels.values()), network)

    def __call__(self, log_probs_BTV: Tensor, lens_B: Tensor, batch: SequenceBatch) -> Judged:
        """The loss a frame; right are the labels of the best path, alignments apart, less those that are wrong."""
        names = batch.utterances
        labels = [self.labels[name] for name in names]
        objective = ctc_objective(log_probs_BTV, lens_B, labels, names)
        num_frames = int(lens_B.sum())
        share = sum(map(_share_right, log_probs_BTV.detach().argmax(dim=2).cpu(), lens_B.tolist(), labels)) / len(names)
        return Judged(objective, share * num_frames, num_frames)

    def identity(self) -> dict[str, Any]:
        """The labels of all utterances."""
        return {"criterion": "ctc", "labels": digest(dict(self.labels))}


def _share_right(path_T: Tensor, length: int, labels_L: Tensor) -> float:
    """1 less the label error rate of the best path, 0 at least."""
    found = [label for label in torch.unique_consecutive(path_T[:length]).tolist() if label]
    num_wrong = int(kaldialign.edit_distance(labels_L.tolist(), found)["total"])
    return max(0.0, 1.0 - num_wrong / len(labels_L))
