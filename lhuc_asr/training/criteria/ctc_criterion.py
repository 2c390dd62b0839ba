"""CTC as a criterion of whole utterances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kaldialign
import torch
from torch import Tensor

from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.tensors import digest
from lhuc_asr.training.criteria.criterion import Criterion
from lhuc_asr.training.criteria.ctc import check_lengths, ctc_objective
from lhuc_asr.training.examples.sequence_batches import SequenceBatch, SequenceBatches
from lhuc_asr.training.tasks.frame_task import require_states
from lhuc_asr.training.tasks.task import Judged

# B utterances, T' outputs of the network, V labels


class Ctc(Criterion):
    """CTC on labels of transcripts.

    Args:
        labels: utterance id -> (L,) labels without blanks.
    """

    def __init__(self, labels: Mapping[str, Tensor]) -> None:
        self.labels = labels

    def check(self, network: AcousticNetwork, batches: SequenceBatches) -> None:
        """Raise AlignmentError where an utterance is too short for its labels."""
        num_frames = batches.data.num_frames
        lens = network.output_lens(torch.tensor(list(num_frames.values()))).tolist()
        labels = {name: self.labels[name] for name in num_frames}
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
