"""Learning from single frames, each with the vector of the voice that it was heard in.

Shape suffixes: N frames of a minibatch, U utterances of an epoch, W frames of a window, F features, K numbers of z.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.conditioning.description import VoiceDescriber
from lhuc_asr.conditioning.network import ConditionedNetwork
from lhuc_asr.conditioning.voices import TrainingVoices
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.tensors import digest
from lhuc_asr.training.evaluation import FrameScore
from lhuc_asr.training.frame_data import FrameData
from lhuc_asr.training.frame_task import require_states
from lhuc_asr.training.objectives import frame_cross_entropy
from lhuc_asr.training.seeds import Purpose, generator
from lhuc_asr.training.shares import ALL, Share
from lhuc_asr.training.task import Arithmetic, Judged, Task

_SCORED = 2048


@dataclass(frozen=True, eq=False)
class HeardFrames:
    """Frames of some utterances, and whose voices they are.

    Attributes:
        data: windows and tied states.
        z: (U, K) of each utterance.
    """

    data: FrameData
    z: Tensor

    @staticmethod
    def gather(
        names: Sequence[str],
        feats: Mapping[str, NDArray[np.float32]],
        z: Mapping[str, NDArray[np.float32]],
        states: Mapping[str, NDArray[np.int32]],
        *,
        context: int,
    ) -> HeardFrames:
        """Collect the frames of utterances.

        Raises:
            DataError: an utterance has no states, or not as many as frames.
        """
        data = FrameData.gather(feats, states, names, context=context)
        return HeardFrames(data, torch.from_numpy(np.stack([z[name] for name in names])))

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, eq=False)
class HeardBatch:
    """One minibatch.

    Attributes:
        windows: (N, W, F).
        states: (N,) tied states.
        z: (N, K) of the voices.
        utterances: (N,) ids of the utterances that they are of.
    """

    windows: Tensor
    states: Tensor
    z: Tensor
    utterances: Sequence[str]


class VoiceTask(Task[HeardBatch]):
    """Cross-entropy of the tied states of frames, heard in known voices.

    Args:
        voices: of the training speakers.
        describer: from sound to z.
        states: utterance -> (T,) tied states.
        validation: frames of held-out speakers.
        batch_size: frames of a minibatch.
        noise: standard deviation of noise on z.
        dropout: share of the utterances that are heard as the average voice.
    """

    def __init__(
        self,
        voices: TrainingVoices,
        describer: VoiceDescriber,
        states: Mapping[str, NDArray[np.int32]],
        validation: HeardFrames,
        *,
        batch_size: int = 512,
        noise: float = 0.0,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        self.voices, self.describer, self.states, self.validation = voices, describer, states, validation
        self.batch_size, self.noise, self.dropout, self.label_smoothing = batch_size, noise, dropout, label_smoothing
        self._context = validation.data.frames.context
        self._heard: tuple[int, HeardFrames] | None = None

    def check(self, network: AcousticNetwork) -> None:
        """Raise DataError when a target is no output of the network."""
        require_states(int(self.validation.data.targets.max()), network)
        require_states(max(int(self.states[name].max()) for name in self.voices.utterances), network)

    def num_batches(self, epoch: int) -> int:
        """Minibatches of an epoch."""
        num_frames = sum(len(self.states[name]) for name in self.voices.chosen(epoch))
        return -(-num_frames // self.batch_size)

    def batches(self, epoch: int, *, start: int = 0, share: Share = ALL) -> Iterator[HeardBatch | None]:
        """Frames of all utterances of an epoch in random order; noise is drawn anew for every frame."""
        heard = self._of_epoch(epoch)
        random = generator(self.voices.seed, Purpose.order, epoch, batch=1)
        order = torch.randperm(len(heard), generator=random)
        kept_U = torch.rand(len(heard.z), generator=random) >= self.dropout
        z_UK = heard.z * kept_U[:, None]
        for number, minibatch in enumerate(torch.split(order, self.batch_size)[start:], start=start):
            indices = minibatch[share.number :: share.of]
            if not len(indices):
                yield None
                continue
            windows, states, utterance_N = heard.data.batch(indices)
            z_NK = z_UK[utterance_N]
            own = generator(self.voices.seed, Purpose.augmentation, epoch, number)
            noise_NK = torch.randn(z_NK.shape, generator=own) * self.noise
            z_NK = z_NK + noise_NK * kept_U[utterance_N][:, None]
            yield HeardBatch(windows, states, z_NK, [heard.data.utterances[place] for place in utterance_N.tolist()])

    def judge(self, network: AcousticNetwork, batch: HeardBatch, arithmetic: Arithmetic) -> Judged:
        """Cross-entropy of one minibatch."""
        assert isinstance(network, ConditionedNetwork)
        device = next(network.parameters()).device
        targets = batch.states.to(device)
        with arithmetic(), network.hearing(batch.z.to(device)):
            log_probs = network.forward_windows(batch.windows.to(device)).float()
        loss = frame_cross_entropy(log_probs, targets, label_smoothing=self.label_smoothing)
        return Judged(loss, int((log_probs.detach().argmax(dim=1) == targets).sum()), len(targets))

    def score(self, network: AcousticNetwork) -> FrameScore:
        """Cross-entropy and accuracy of the held-out speakers, each utterance with its own z."""
        assert isinstance(network, ConditionedNetwork)
        return self._score(network, self.validation.z)

    def score_of_average(self, network: ConditionedNetwork) -> FrameScore:
        """The same when every voice is taken for the average one."""
        return self._score(network, torch.zeros_like(self.validation.z))

    @torch.no_grad()
    def _score(self, network: ConditionedNetwork, z_UK: Tensor) -> FrameScore:
        was_training = network.training
        network.eval()
        loss, num_correct = 0.0, 0.0
        for indices in torch.split(torch.arange(len(self.validation)), _SCORED):
            windows, states, utterance_N = self.validation.data.batch(indices)
            judged = self.judge(network, HeardBatch(windows, states, z_UK[utterance_N], ()), torch.no_grad)
            loss += float(judged.objective) * judged.num_frames
            num_correct += judged.num_correct
        network.train(was_training)
        return FrameScore(loss=loss / len(self.validation), accuracy=num_correct / len(self.validation))

    def utterances_of(self, batch: HeardBatch) -> Sequence[str]:
        """Ids of the utterances that the frames are of."""
        return batch.utterances

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be the same run."""
        return {
            "batch_size": self.batch_size,
            "label_smoothing": self.label_smoothing,
            "noise": self.noise,
            "dropout": self.dropout,
            "training_utterances": hashlib.sha256("\n".join(self.voices.utterances).encode()).hexdigest(),
            "validation": digest({"targets": self.validation.data.targets, "z": self.validation.z}),
        }

    def _of_epoch(self, epoch: int) -> HeardFrames:
        """Frames and voices of an epoch; the last one is kept, for runs that are taken up again in the middle."""
        if self._heard is None or self._heard[0] != epoch:
            self._heard = None
            names = self.voices.chosen(epoch)
            feats, z = {}, {}
            for name in names:
                voice = self.voices.voice(name, epoch)
                feats[name], z[name] = voice.feats, self.describer(voice.raw)
            self._heard = epoch, HeardFrames.gather(names, feats, z, self.states, context=self._context)
        return self._heard[1]
