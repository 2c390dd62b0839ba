"""Learning from whole utterances, judged by a criterion."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lhuc_asr.errors import ConfigError, first_few
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.progress import track
from lhuc_asr.tensors import digest
from lhuc_asr.training.criteria.criterion import Criterion
from lhuc_asr.training.examples.sequence_batches import (
    Augment,
    LongUtterances,
    SequenceBatch,
    SequenceBatches,
    SequenceConfig,
)
from lhuc_asr.training.examples.sequence_data import SequenceData
from lhuc_asr.training.processes.shares import ALL, Share
from lhuc_asr.training.tasks.evaluation import FrameScore
from lhuc_asr.training.tasks.task import Arithmetic, Judged, Task, plain


class UtteranceTask(Task[SequenceBatch]):
    """A criterion on minibatches of whole utterances of about the same length.

    Args:
        training: utterances to learn from.
        validation: utterances of held-out speakers.
        criterion: what the outputs are judged by.
        config: how large minibatches are; utterances are cut only where the criterion allows it.
        seed: of order and augmentation.
        augment: changes the features of each utterance; None leaves them as they are.
        subsampling: of the network; where utterances are cut, pieces begin at one of its outputs.

    Raises:
        DataError: an utterance is too long and must not be cut; the text names it.
    """

    def __init__(
        self,
        training: SequenceData,
        validation: SequenceData,
        criterion: Criterion,
        config: SequenceConfig | None = None,
        *,
        seed: int = 0,
        augment: Augment | None = None,
        subsampling: int = 1,
    ) -> None:
        config = config or SequenceConfig()
        if criterion.needs_whole:
            config = _refusing(config)
        self.criterion, self.config, self.seed, self.subsampling = criterion, config, seed, subsampling
        self.training = SequenceBatches(training, config, seed=seed, augment=augment, multiple=subsampling)
        self.validation = SequenceBatches(validation, config, multiple=subsampling)
        criterion.prepare((*self.training.pieces, *self.validation.pieces), subsampling)
        self._planned: dict[int, int] = {}

    def check(self, network: AcousticNetwork) -> None:
        """Raise where the criterion does not fit network or utterances, or the network has another sub-sampling."""
        if network.subsampling != self.subsampling:
            raise ConfigError(
                f"the task was made for a network with subsampling {self.subsampling}, this one has "
                f"{network.subsampling}: pieces of utterances would begin between its outputs"
            )
        for batches in (self.training, self.validation):
            self.criterion.check(network, batches)

    def num_batches(self, epoch: int) -> int:
        """Minibatches of an epoch."""
        if epoch not in self._planned:
            self._planned = {epoch: self.training.num_batches(epoch)}
        return self._planned[epoch]

    def batches(self, epoch: int, *, start: int = 0, share: Share = ALL) -> Iterator[SequenceBatch | None]:
        """A process's share of the minibatches of an epoch, prepared ahead; None where it has no part of one."""
        return self.training.shares(epoch, start=start, share=share)

    def judge(self, network: AcousticNetwork, batch: SequenceBatch, arithmetic: Arithmetic) -> Judged:
        """The criterion on one minibatch."""
        device = next(network.parameters()).device
        with arithmetic():
            log_probs_BTV = network(batch.feats.to(device), batch.lens.to(device))
        return self.criterion(log_probs_BTV.float(), network.output_lens(batch.lens), batch)

    @torch.no_grad()
    def score(self, network: AcousticNetwork) -> FrameScore:
        """The criterion on the held-out utterances; the mode that the network was in comes back."""
        was_training = network.training
        network.eval()
        loss, num_correct, num_frames = 0.0, 0.0, 0
        for batch in self.validation.epoch(0):
            judged = self.judge(network, batch, torch.no_grad)
            loss += float(judged.objective) * judged.num_frames
            num_correct += judged.num_correct
            num_frames += judged.num_frames
        network.train(was_training)
        return FrameScore(loss=loss / num_frames, accuracy=num_correct / num_frames)

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be the same run."""
        pieces = (*self.training.pieces, *self.validation.pieces)
        config = _refusing(self.config) if all(piece.is_whole for piece in pieces) else self.config
        return {
            **self.criterion.identity(),
            "order": self.seed,
            "sequences": {name: value for name, value in plain(config).items() if name != "num_prefetched"},
            "augmentation": plain(getattr(self.training.augment, "config", None)) or self.training.augment is not None,
            "training_utterances": _digest(self.training.data),
            "validation_utterances": _digest(self.validation.data),
            "feats": [_digest_of_feats(batches.data) for batches in (self.training, self.validation)],
        }

    def utterances_of(self, batch: SequenceBatch) -> Sequence[str]:
        """Ids of the utterances, one for each piece."""
        return batch.utterances

    def describe(self, batch: SequenceBatch) -> str:
        """The utterances of a minibatch."""
        return f" (utterances {first_few([repr(name) for name in batch.utterances])})"


def _refusing(config: SequenceConfig) -> SequenceConfig:
    """The same for whole utterances alone."""
    return replace(config, long_utterances=LongUtterances.refuse, chunk_context=0)


def _digest(data: SequenceData) -> str:
    """Of ids, lengths and targets."""
    names: Mapping[str, int] = dict(sorted(data.num_frames.items()))
    tensors = {f"{name} length": torch.tensor(length) for name, length in names.items()}
    if data.targets is not None:
        tensors |= {name: torch.from_numpy(data.targets[name].astype("int64")) for name in names}
    return digest(tensors)


def _digest_of_feats(data: SequenceData) -> str:
    """Of the features, of which one utterance at a time is in memory."""
    total = hashlib.sha256()
    for name in track(sorted(data.num_frames), "checking features"):
        total.update(digest({name: torch.from_numpy(data.feats[name])}).encode())
    return total.hexdigest()
