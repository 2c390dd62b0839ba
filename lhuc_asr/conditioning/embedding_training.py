"""Training the network that tells speakers apart, and how well it does on people whom it has not met."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from lhuc_asr.conditioning.embedding import LevelledFeatures, VoiceEmbedding
from lhuc_asr.conditioning.speaker_network import EmbeddingConfig, SpeakerNetwork
from lhuc_asr.conditioning.speaker_task import SpeakerTask
from lhuc_asr.conditioning.verification import Verification, verify
from lhuc_asr.conditioning.voices import TrainingVoices
from lhuc_asr.features.pipeline import FeatureConfig
from lhuc_asr.training.loop import train

logger = logging.getLogger(__name__)

_MEASURED = 100
"""Minibatches from which mean and variance of the input are taken."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingReport:
    """How well an embedding tells speakers apart.

    Attributes:
        num_speakers: whom it has learnt from.
        accuracy: share of other utterances of theirs that are taken for the right one of them, 0 to 1; to be taken for
            the right one with another vocal tract does not count.
        num_strangers: speakers whom it has not met.
        verification: of their utterances; None where they make no pairs.
    """

    num_speakers: int
    accuracy: float
    num_strangers: int
    verification: Verification | None

    def __str__(self) -> str:
        told = f"embedding: {100 * self.accuracy:.1f} % of held-out utterances are told to be of the right one of "
        told += f"{self.num_speakers} speakers; of {self.num_strangers} held-out speakers, "
        if self.verification is None:
            return f"{told}no two utterances can be compared"
        return f"{told}equal error rate {100 * self.verification.eer:.1f} % of {self.verification.num_pairs} pairs"


@dataclass(frozen=True, kw_only=True)
class EmbeddingTraining:
    """Trains the network, and goes on where it was broken off.

    Attributes:
        voices: to learn from.
        held_out: ids of other utterances of the same speakers, which steer the training.
        strangers: ids of utterances of other speakers.
        features: of the model.
        config: of the network.
        warp: further speakers have vocal tracts of 1 - warp and 1 + warp.
        directory: for checkpoints.
    """

    voices: TrainingVoices
    held_out: Sequence[str]
    strangers: Sequence[str]
    features: FeatureConfig
    config: EmbeddingConfig
    warp: float
    directory: Path

    def run(self) -> tuple[VoiceEmbedding, EmbeddingReport]:
        """Train.

        Raises:
            DataError: there are no two speakers with two utterances each.
        """
        task = SpeakerTask(
            self.voices,
            self.held_out,
            LevelledFeatures(self.features),
            warp=self.warp,
            num_frames=max(1, round(1000 * self.config.chunk_seconds / self.features.frame_shift_ms)),
            num_chunks=self.config.num_chunks,
        )
        network = self._network(task)
        train(network, task, self.config.training, self.directory, seed=self.voices.seed)
        listen = VoiceEmbedding(network, self.features)
        report = self._report(listen, len(task.speakers), task.score(network).accuracy)
        logger.info("%s", report)
        return listen, report

    def _network(self, task: SpeakerTask) -> SpeakerNetwork:
        """Fresh, its input with mean 0 and variance 1 over the first minibatches."""
        levelled = LevelledFeatures(self.features)
        network = SpeakerNetwork(self.config, levelled.dim, task.num_outputs, seed=self.voices.seed)
        batches = (batch for batch in islice(task.batches(0), _MEASURED) if batch is not None)
        frames_NF = torch.cat([batch.chunks.flatten(0, 1) for batch in batches])
        network.mean.copy_(frames_NF.mean(dim=0))
        network.scale.copy_(1 / frames_NF.std(dim=0).clamp(min=1e-3))
        return network

    def _report(self, listen: VoiceEmbedding, num_speakers: int, accuracy: float) -> EmbeddingReport:
        """Vectors are counted from the mean of held-out utterances of speakers whom the network has met."""
        met = np.stack([listen(self.voices.raw(name, 1.0)) for name in self.held_out])
        vectors = np.stack([listen(self.voices.raw(name, 1.0)) for name in self.strangers]) - met.mean(axis=0)
        speakers = [self.voices.who(name).speaker for name in self.strangers]
        return EmbeddingReport(
            num_speakers=num_speakers,
            accuracy=accuracy,
            num_strangers=len(set(speakers)),
            verification=verify(vectors, speakers),
        )
