"""sMBR as a criterion of whole utterances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.errors import AlignmentError, first_few
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.tensors import digest, digest_all
from lhuc_asr.training.criteria.criterion import Criterion
from lhuc_asr.training.criteria.smbr.objective import Smbr, SmbrTarget
from lhuc_asr.training.examples.sequence_batches import SequenceBatch, SequenceBatches
from lhuc_asr.training.tasks.frame_task import require_states
from lhuc_asr.training.tasks.task import Judged, plain

# B utterances, T' outputs of the network, V tied states


class SmbrCriterion(Criterion):
    """The expected share of outputs whose tied state is that of the reference.

    Args:
        smbr: scale, smoothing, silence, priors.
        targets: utterance id -> lattice and reference.
    """

    def __init__(self, smbr: Smbr, targets: Mapping[str, SmbrTarget]) -> None:
        self.smbr, self.targets = smbr, targets

    def check(self, network: AcousticNetwork, batches: SequenceBatches) -> None:
        """Raise AlignmentError where a lattice has another length than its utterance, DataError for a lacking state."""
        num_frames = batches.data.num_frames
        lens = network.output_lens(torch.tensor(list(num_frames.values()))).tolist()
        wrong = [
            f"{name!r} ({length} outputs, {found} in the lattice)"
            for name, length in zip(num_frames, lens, strict=True)
            if length != (found := self.targets[name].lattice.num_frames)
        ]
        if wrong:
            raise AlignmentError(f"lattices of other lengths than their utterances: {first_few(wrong)}")
        targets = [self.targets[name] for name in num_frames]
        require_states(max(max(one.lattice.num_states - 1, int(one.reference.max())) for one in targets), network)

    def __call__(self, log_probs_BTV: Tensor, lens_B: Tensor, batch: SequenceBatch) -> Judged:
        """Minus the expected share of right outputs, or its mixture with the cross-entropy."""
        result = self.smbr(log_probs_BTV, lens_B, [self.targets[name] for name in batch.utterances])
        return Judged(result.loss, float(result.accuracy) * result.num_frames, result.num_frames)

    def identity(self) -> dict[str, Any]:
        """Settings, references and lattices."""
        return {
            "criterion": "smbr",
            **plain(self.smbr.config),
            "references": digest({name: torch.from_numpy(one.reference) for name, one in self.targets.items()}),
            "lattice_arcs": sum(len(one.lattice.source) for one in self.targets.values()),
            "lattices": digest_all({name: one.lattice for name, one in self.targets.items()}),
        }
