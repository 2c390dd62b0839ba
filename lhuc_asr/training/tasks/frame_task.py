"""Learning from single frames with their windows, in random order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.errors import DataError
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.tensors import digest
from lhuc_asr.training.examples.frame_data import FrameBatch, FrameData, TrainingData
from lhuc_asr.training.examples.seeds import Purpose, derive_seed, generator
from lhuc_asr.training.processes.shares import ALL, Share
from lhuc_asr.training.tasks.evaluation import FrameScore, score_frames
from lhuc_asr.training.tasks.objectives import count_correct, frame_cross_entropy
from lhuc_asr.training.tasks.task import Arithmetic, Judged, Task, plain

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""(N, W, F) windows and a random stream -> (N, W, F) windows that sound different but mean the same."""


class FrameTask(Task[FrameBatch]):
    """Cross-entropy of the tied states that were aligned with the frames.

    Args:
        data: frames to learn from, and frames of held-out speakers.
        batch_size: frames of a minibatch.
        label_smoothing: share of each target's mass that goes to all states alike.
        seed: of the order of frames and of augmentation.
        augment: changes the training windows; None leaves them as they are.
    """

    def __init__(
        self,
        data: TrainingData,
        *,
        batch_size: int = 256,
        label_smoothing: float = 0.0,
        seed: int = 0,
        augment: Augment | None = None,
    ) -> None:
        self.data, self.batch_size, self.label_smoothing = data, batch_size, label_smoothing
        self.seed, self.augment = seed, augment

    def check(self, network: AcousticNetwork) -> None:
        """Raise DataError when a target is no output of the network."""
        for frames in (self.data.training, self.data.validation):
            require_states(int(frames.targets.max()), network)

    def num_batches(self, epoch: int) -> int:
        """Minibatches of an epoch."""
        return -(-len(self.data.training) // self.batch_size)

    def batches(self, epoch: int, *, start: int = 0, share: Share = ALL) -> Iterator[FrameBatch | None]:
        """All frames in random order; of several processes each takes every so-manieth frame."""
        order = torch.randperm(len(self.data.training), generator=generator(self.seed, Purpose.order, epoch))
        for number, minibatch in enumerate(torch.split(order, self.batch_size)[start:], start=start):
            indices = minibatch[share.number :: share.of]
            if not len(indices):
                yield None
                continue
            batch = self.data.training.batch(indices)
            if self.augment is not None:
                seed = derive_seed(self.seed, Purpose.augmentation, epoch, number) ^ share.number
                batch = batch._replace(windows=self.augment(batch.windows, torch.Generator().manual_seed(seed)))
            yield batch

    def judge(self, network: AcousticNetwork, batch: FrameBatch, arithmetic: Arithmetic) -> Judged:
        """Cross-entropy of one minibatch."""
        device = next(network.parameters()).device
        windows, targets = batch.windows.to(device), batch.states.to(device)
        with arithmetic():
            log_probs = network.forward_windows(windows).float()
        loss = frame_cross_entropy(log_probs, targets, label_smoothing=self.label_smoothing)
        return Judged(loss, count_correct(log_probs, targets), len(targets))

    def score(self, network: AcousticNetwork) -> FrameScore:
        """Cross-entropy and accuracy of the held-out frames."""
        return score_frames(network, self.data.validation)

    def utterances_of(self, batch: FrameBatch) -> Sequence[str]:
        """Ids of the utterances that the frames are of."""
        names = self.data.training.utterances
        return [names[place] for place in batch.utterances.tolist()]

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be the same run."""
        return {
            "batch_size": self.batch_size,
            "label_smoothing": self.label_smoothing,
            "order": self.seed,
            "augmentation": plain(getattr(self.augment, "config", None)) or (self.augment is not None),
            "training_frames": _digest(self.data.training),
            "validation_frames": _digest(self.data.validation),
            "feats": [_digest_of_feats(frames) for frames in (self.data.training, self.data.validation)],
        }


def require_states(highest: int, network: AcousticNetwork) -> None:
    """Raise DataError when the network has no output for a tied state."""
    if highest >= network.num_outputs:
        raise DataError(f"tied state {highest} is none of the network's {network.num_outputs}")


def _digest(data: FrameData) -> str:
    return digest({"targets": data.targets})


def _digest_of_feats(data: FrameData) -> str:
    """Of all features, and of where utterances begin."""
    return digest({"feats": data.frames.padded, "offsets": data.frames.offsets})
