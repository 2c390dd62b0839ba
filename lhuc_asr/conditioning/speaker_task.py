"""Learning to tell speakers apart from stretches of their speech.

Shape suffixes: N stretches of a minibatch, T frames, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.conditioning.embedding import LevelledFeatures
from lhuc_asr.conditioning.voices import TrainingVoices
from lhuc_asr.errors import DataError
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.training.examples.seeds import Purpose, generator
from lhuc_asr.training.processes.shares import ALL, Share
from lhuc_asr.training.tasks.evaluation import FrameScore
from lhuc_asr.training.tasks.objectives import frame_cross_entropy
from lhuc_asr.training.tasks.task import Arithmetic, Judged, Task

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SpeakerBatch:
    """One minibatch.

    Attributes:
        chunks: (N, T, F) stretches of speech.
        speakers: (N,) which outputs they are of.
        utterances: (N,) ids.
    """

    chunks: Tensor
    speakers: Tensor
    utterances: Sequence[str]


class SpeakerTask(Task[SpeakerBatch]):
    """One stretch of every utterance in an epoch; somebody with another vocal tract is another speaker.

    Args:
        voices: to learn from.
        held_out: ids of other utterances of the same speakers.
        levelled: features of a voice.
        warp: everybody is also heard with vocal tracts of 1 - warp and 1 + warp; 0 is nobody.
        num_frames: T.
        num_chunks: N.

    Raises:
        DataError: there are no two speakers, or no utterance is held out.

    Source: new speakers by perturbation as in Yamamoto et al. 2019, "Speaker augmentation and bandwidth extension for
    deep speaker embedding", Interspeech; here of filterbanks.
    """

    def __init__(
        self,
        voices: TrainingVoices,
        held_out: Sequence[str],
        levelled: LevelledFeatures,
        *,
        warp: float,
        num_frames: int,
        num_chunks: int,
    ) -> None:
        self.voices, self.held_out = voices, list(held_out)
        self.num_frames, self.num_chunks = num_frames, num_chunks
        self._levelled = levelled
        self.factors = (1.0, 1 - warp, 1 + warp) if warp else (1.0,)
        self.speakers = sorted({voices.who(name).speaker for name in voices.utterances})
        self._number = {speaker: number for number, speaker in enumerate(self.speakers)}
        if len(self.speakers) < 2 or not self.held_out:
            raise DataError(
                f"an embedding learns from two speakers with two utterances each or more; found {len(self.speakers)} "
                f"speakers with {len(voices.utterances)} utterances, and {len(self.held_out)} to validate on"
            )

    @property
    def num_outputs(self) -> int:
        """Every speaker with every vocal tract."""
        return len(self.speakers) * len(self.factors)

    def check(self, network: AcousticNetwork) -> None:
        """Raise DataError when a speaker is no output of the network."""
        if network.num_outputs != self.num_outputs:
            raise DataError(f"the network has {network.num_outputs} outputs for {self.num_outputs} speakers")

    def num_batches(self, epoch: int) -> int:
        """Minibatches of an epoch; what is left over is left for others."""
        return max(1, len(self.voices.utterances) // self.num_chunks)

    def batches(self, epoch: int, *, start: int = 0, share: Share = ALL) -> Iterator[SpeakerBatch | None]:
        """Utterances in random order, each with a vocal tract and a stretch drawn at random."""
        seed = self.voices.seed
        order = torch.randperm(len(self.voices.utterances), generator=generator(seed, Purpose.order, epoch)).tolist()
        for number in range(start, self.num_batches(epoch)):
            random = generator(seed, Purpose.augmentation, epoch, number)
            names = [self.voices.utterances[index] for index in order[number * self.num_chunks :][: self.num_chunks]]
            factors = torch.randint(len(self.factors), (len(names),), generator=random).tolist()
            places = torch.rand(len(names), generator=random).tolist()
            drawn = list(zip(names, factors, places, strict=True))[share.number :: share.of]
            yield self._batch(drawn) if drawn else None

    def judge(self, network: AcousticNetwork, batch: SpeakerBatch, arithmetic: Arithmetic) -> Judged:
        """Cross-entropy of the speakers of one minibatch."""
        device = next(network.parameters()).device
        targets = batch.speakers.to(device)
        with arithmetic():
            log_probs = network.forward_windows(batch.chunks.to(device)).float()
        is_right = log_probs.detach().argmax(dim=1) == targets
        return Judged(frame_cross_entropy(log_probs, targets), int(is_right.sum()), len(targets))

    @torch.no_grad()
    def score(self, network: AcousticNetwork) -> FrameScore:
        """How well held-out utterances of the same speakers are told apart, each by a stretch from its middle."""
        was_training = network.training
        network.eval()
        loss, num_correct = 0.0, 0.0
        for first in range(0, len(self.held_out), self.num_chunks):
            names = self.held_out[first : first + self.num_chunks]
            judged = self.judge(network, self._batch([(name, 0, 0.5) for name in names]), torch.no_grad)
            loss += float(judged.objective) * judged.num_frames
            num_correct += judged.num_correct
        network.train(was_training)
        return FrameScore(loss=loss / len(self.held_out), accuracy=num_correct / len(self.held_out))

    def utterances_of(self, batch: SpeakerBatch) -> Sequence[str]:
        """Ids of the utterances."""
        return batch.utterances

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be the same run."""
        return {
            "num_frames": self.num_frames,
            "num_chunks": self.num_chunks,
            "vocal_tracts": list(self.factors),
            "voices": self.voices.identity(),
            "held_out": hashlib.sha256("\n".join(self.held_out).encode()).hexdigest(),
        }

    def _batch(self, drawn: Sequence[tuple[str, int, float]]) -> SpeakerBatch:
        """Stretches of utterances (id, number of the vocal tract, place from 0 to 1)."""
        chunks = [self._chunk(self.voices.raw(name, self.factors[factor]), place) for name, factor, place in drawn]
        outputs = [
            self._number[self.voices.who(name).speaker] + factor * len(self.speakers) for name, factor, _ in drawn
        ]
        return SpeakerBatch(torch.from_numpy(np.stack(chunks)), torch.tensor(outputs), [name for name, _, _ in drawn])

    def _chunk(self, raw_TF: Matrix, place: float) -> Matrix:
        """(T, F) a stretch; one that is too short is heard again."""
        x_TF = self._levelled(raw_TF)
        if len(x_TF) < self.num_frames:
            x_TF = np.tile(x_TF, (-(-self.num_frames // len(x_TF)), 1))
        start = int(place * (len(x_TF) - self.num_frames))
        return x_TF[start : start + self.num_frames]
