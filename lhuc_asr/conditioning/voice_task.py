"""Learning from single frames, each with the vector of the voice that it was heard in.

Shape suffixes: N frames of a minibatch, U utterances of an epoch, W frames of a window, F features, K numbers of z.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.conditioning.description import VoiceDescriber
from lhuc_asr.conditioning.network import ConditionedNetwork
from lhuc_asr.conditioning.table import NOBODY, nobodys
from lhuc_asr.conditioning.voices import TrainingVoices, Voice
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.tensors import digest
from lhuc_asr.training.examples.frame_data import FrameData
from lhuc_asr.training.examples.seeds import Purpose, generator
from lhuc_asr.training.processes.shares import ALL, Share
from lhuc_asr.training.tasks.evaluation import FrameScore
from lhuc_asr.training.tasks.frame_task import require_states
from lhuc_asr.training.tasks.objectives import count_correct, frame_cross_entropy
from lhuc_asr.training.tasks.task import Arithmetic, Judged, Task

_SCORED = 2048


@dataclass(frozen=True, eq=False)
class HeardFrames:
    """Frames of some utterances, and whose voices they are.

    Attributes:
        data: windows and tied states.
        z: (U, K) of each utterance.
        rows: (U,) each utterance's row of the table of speakers, or `NOBODY`.
    """

    data: FrameData
    z: Tensor
    rows: Tensor

    @staticmethod
    def gather(
        names: Sequence[str],
        feats: Mapping[str, NDArray[np.float32]],
        z: Mapping[str, NDArray[np.float32]],
        states: Mapping[str, NDArray[np.int32]],
        *,
        context: int,
        rows: Mapping[str, int] | None = None,
    ) -> HeardFrames:
        """Collect the frames of utterances.

        Args:
            names: of utterances.
            feats: utterance id -> (T, F) normalised.
            z: utterance id -> (K,).
            states: utterance id -> (T,) tied states.
            context: frames of a window to either side.
            rows: utterance id -> its row of the table of speakers; None where there is no table.

        Raises:
            DataError: an utterance has no states, or not as many as frames.
        """
        data = FrameData.gather(feats, states, names, context=context)
        rows_U = torch.tensor([NOBODY if rows is None else rows[name] for name in names])
        return HeardFrames(data, torch.from_numpy(np.stack([z[name] for name in names])), rows_U)

    def unheard(self) -> HeardFrames:
        """The same frames, every voice taken for the average one."""
        return replace(self, z=torch.zeros_like(self.z), rows=torch.full_like(self.rows, NOBODY))

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, eq=False)
class Hearer:
    """Makes frames to learn from out of voices.

    Attributes:
        describe: from sound, and what is known, to z.
        states: utterance -> (T,) tied states.
        context: frames of a window to either side.
        row_of: speaker -> row of the table of speakers.
    """

    describe: VoiceDescriber
    states: Mapping[str, NDArray[np.int32]]
    context: int
    row_of: Callable[[str], int] = nobodys

    def __call__(self, voices: Iterable[Voice]) -> HeardFrames:
        """The frames of voices, each with its z and the row of its speaker.

        Raises:
            DataError: a voice cannot be described, has no states, or not as many as frames.
        """
        feats, z, rows = {}, {}, {}
        for voice in voices:
            feats[voice.utterance], z[voice.utterance] = voice.feats, self.describe(voice.raw, [voice.who])
            rows[voice.utterance] = self.row_of(voice.who.speaker)
        return HeardFrames.gather(list(feats), feats, z, self.states, context=self.context, rows=rows)


@dataclass(frozen=True, eq=False)
class HeardBatch:
    """One minibatch.

    Attributes:
        windows: (N, W, F).
        states: (N,) tied states.
        z: (N, K) of the voices.
        rows: (N,) of the table of speakers.
        utterances: (N,) ids of the utterances that they are of.
    """

    windows: Tensor
    states: Tensor
    z: Tensor
    rows: Tensor
    utterances: Sequence[str]


class VoiceTask(Task[HeardBatch]):
    """Cross-entropy of the tied states of frames, heard in known voices.

    Args:
        voices: of the training speakers.
        hearer: from voices to frames.
        validation: frames of held-out speakers.
        batch_size: frames of a minibatch.
        noise: standard deviation of noise on z.
        dropout: share of the utterances that are heard as the average voice, for each kind of vectors anew.
    """

    def __init__(
        self,
        voices: TrainingVoices,
        hearer: Hearer,
        validation: HeardFrames,
        *,
        batch_size: int = 512,
        noise: float = 0.0,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        self.voices, self.hearer, self.validation = voices, hearer, validation
        self.batch_size, self.noise, self.dropout, self.label_smoothing = batch_size, noise, dropout, label_smoothing
        self._heard: tuple[int, HeardFrames] | None = None

    def check(self, network: AcousticNetwork) -> None:
        """Raise DataError when a target is no output of the network."""
        require_states(int(self.validation.data.targets.max()), network)
        require_states(max(int(self.hearer.states[name].max()) for name in self.voices.utterances), network)

    def num_batches(self, epoch: int) -> int:
        """Minibatches of an epoch."""
        num_frames = sum(len(self.hearer.states[name]) for name in self.voices.chosen(epoch))
        return -(-num_frames // self.batch_size)

    def batches(self, epoch: int, *, start: int = 0, share: Share = ALL) -> Iterator[HeardBatch | None]:
        """Frames of all utterances of an epoch in random order; noise is drawn anew for every frame."""
        heard = self._of_epoch(epoch)
        random = generator(self.voices.seed, Purpose.order, epoch, batch=1)
        order = torch.randperm(len(heard), generator=random)
        widths = torch.tensor(list(self.hearer.describe.parts.values()))
        kept_UP = torch.rand(len(heard.z), len(widths), generator=random) >= self.dropout
        kept_UK = kept_UP.repeat_interleave(widths, dim=1)
        z_UK, rows_U = heard.z * kept_UK, torch.where(kept_UP[:, -1], heard.rows, NOBODY)
        for number, minibatch in enumerate(torch.split(order, self.batch_size)[start:], start=start):
            indices = minibatch[share.number :: share.of]
            if not len(indices):
                yield None
                continue
            windows, states, utterance_N = heard.data.batch(indices)
            z_NK = z_UK[utterance_N]
            own = generator(self.voices.seed, Purpose.augmentation, epoch, number)
            noise_NK = torch.randn(z_NK.shape, generator=own) * self.noise
            z_NK = z_NK + noise_NK * kept_UK[utterance_N]
            names = [heard.data.utterances[place] for place in utterance_N.tolist()]
            yield HeardBatch(windows, states, z_NK, rows_U[utterance_N], names)

    def judge(self, network: AcousticNetwork, batch: HeardBatch, arithmetic: Arithmetic) -> Judged:
        """Cross-entropy of one minibatch."""
        assert isinstance(network, ConditionedNetwork)
        device = next(network.parameters()).device
        targets = batch.states.to(device)
        with arithmetic(), network.hearing(batch.z.to(device), batch.rows.to(device)):
            log_probs = network.forward_windows(batch.windows.to(device)).float()
        loss = frame_cross_entropy(log_probs, targets, label_smoothing=self.label_smoothing)
        return Judged(loss, count_correct(log_probs, targets), len(targets))

    def score(self, network: AcousticNetwork) -> FrameScore:
        """Cross-entropy and accuracy of the held-out speakers, each utterance with its own z."""
        return self.score_of(network, self.validation)

    def score_of_average(self, network: AcousticNetwork) -> FrameScore:
        """The same when every voice is taken for the average one."""
        return self.score_of(network, self.validation.unheard())

    @torch.no_grad()
    def score_of(self, network: AcousticNetwork, frames: HeardFrames) -> FrameScore:
        """Cross-entropy and accuracy of some frames; the mode that the network was in comes back."""
        was_training = network.training
        network.eval()
        loss, num_correct = 0.0, 0.0
        for indices in torch.split(torch.arange(len(frames)), _SCORED):
            windows, states, utterance_N = frames.data.batch(indices)
            batch = HeardBatch(windows, states, frames.z[utterance_N], frames.rows[utterance_N], ())
            judged = self.judge(network, batch, torch.no_grad)
            loss += float(judged.objective) * judged.num_frames
            num_correct += judged.num_correct
        network.train(was_training)
        return FrameScore(loss=loss / len(frames), accuracy=num_correct / len(frames))

    def utterances_of(self, batch: HeardBatch) -> Sequence[str]:
        """Ids of the utterances that the frames are of."""
        return batch.utterances

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be the same run."""
        held_out = self.validation.data
        return {
            "batch_size": self.batch_size,
            "label_smoothing": self.label_smoothing,
            "noise": self.noise,
            "dropout": self.dropout,
            "voices": self.voices.identity(),
            "validation": digest(
                {"targets": held_out.targets, "feats": held_out.frames.padded, "z": self.validation.z}
            ),
        }

    def _of_epoch(self, epoch: int) -> HeardFrames:
        """Frames and voices of an epoch; the last one is kept, for runs that are taken up again in the middle."""
        if self._heard is None or self._heard[0] != epoch:
            self._heard = None
            voices = (self.voices.voice(name, epoch) for name in self.voices.chosen(epoch))
            self._heard = epoch, self.hearer(voices)
        return self._heard[1]
