"""All settings of conditioning: what tells a voice, how a gate learns to listen to it, and on which speech."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from lhuc_asr.conditioning.attributes import AttributesConfig
from lhuc_asr.conditioning.projection import ProjectionConfig
from lhuc_asr.conditioning.speaker_network import EmbeddingConfig
from lhuc_asr.conditioning.statistics import StatisticsConfig
from lhuc_asr.conditioning.table import TableConfig
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.vocal_tract import require_warp
from lhuc_asr.lhuc.gate import GateConfig
from lhuc_asr.ranges import require_at_least, require_positive, require_share_below_one
from lhuc_asr.training.loop import TrainingConfig
from lhuc_asr.training.optimiser import OptimiserConfig, OptimiserKind
from lhuc_asr.training.schedule.newbob import NewbobConfig
from lhuc_asr.units import Seconds


class VectorKind(Enum):
    """What tells who is speaking. Of sound: ``statistics`` of the utterance's own filterbanks, and an ``embedding`` by
    a network that learns to tell the training speakers apart. Of what is known before: a ``file`` of anybody's vectors,
    ``attributes`` such as age and gender, and a ``table`` of the training speakers.
    """

    statistics = "statistics"
    embedding = "embedding"
    file = "file"
    attributes = "attributes"
    table = "table"

    @property
    def is_heard(self) -> bool:
        """Whether it is made of sound."""
        return self in (VectorKind.statistics, VectorKind.embedding)


class Hearing(Enum):
    """What a prediction follows from: the whole ``utterance``; ``causal`` what came before in the same utterance, frame
    by frame, for streams; ``session`` the utterance and those of the same speaker before it.
    """

    utterance = "utterance"
    causal = "causal"
    session = "session"


def _gate() -> GateConfig:
    return GateConfig(hidden_dims=[], bias=False)


def _training() -> TrainingConfig:
    return TrainingConfig(
        batch_size=512,
        decay=0.1,
        go_back=False,
        num_averaged=3,
        optimiser=OptimiserConfig(kind=OptimiserKind.adam, weight_decay=0.1),
        newbob=NewbobConfig(initial_lr=0.001, start_halving=-1.0, stop=-1.0, max_epochs=10),
    )


@dataclass(kw_only=True, slots=True)
class ConditionConfig:
    """How scales are predicted, and how that is learnt.

    There are few training speakers, and the network has learnt each of them by heart; so by default every epoch hears
    them with other vocal tracts, for which the network still has something to gain, and little is left of a vector.

    Attributes:
        vectors: what tells who is speaking; several are put side by side.
        statistics: of filterbanks.
        embedding: the network that learns it, and how.
        vectors_from: of ``file``: `lhuc_asr.conditioning.vector_file` tells the formats. Training wants the vectors of
            the training speech, and every use those of its own data.
        attributes: which tables of the data directory tell of the speakers.
        table: of the training speakers; learnt with the gate, and not projected.
        projection: what is made of the vectors of every kind.
        shrink_seconds: what is heard in so many seconds of speech is drawn half-way to the average voice, in shorter
            speech more; so a stream begins with the average voice.
        gate: from vectors to scales. Without biases the average voice gets the network as it is, so that a gate can
            learn nothing but how voices differ: with them it goes on learning the training speakers by heart.
        joint: train the network along with the gate, and write it as a model of its own; else it stays as it is, bit
            for bit.
        warp: in training, every speaker of every epoch gets a vocal tract length from 1 - warp to 1 + warp; what is
            known of the speaker stays what it is.
        noise: standard deviation of noise on vectors in training, whose own deviation is 1.
        dropout: share of the utterances in training that are heard without their vector, as the average voice; each
            kind of vectors is left out on its own.
        frames_per_epoch: an epoch takes utterances at random until they have so many frames; 0 takes all. Held-out
            speakers choose the best epochs, so short ones stop in time.
        training: how gate, and with ``joint`` network, learn; minibatches are of frames.
        hearing: in use, how much of the speech a prediction follows from.
        update_seconds: a causal prediction is made anew that often.
        memory_seconds: causal and session predictions remember so much speech.
    """

    vectors: list[VectorKind] = field(default_factory=lambda: [VectorKind.statistics])
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    vectors_from: str | None = None
    attributes: AttributesConfig = field(default_factory=AttributesConfig)
    table: TableConfig = field(default_factory=TableConfig)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    shrink_seconds: Seconds = 0.5
    gate: GateConfig = field(default_factory=_gate)
    joint: bool = False
    warp: float = 0.2
    noise: float = 0.2
    dropout: float = 0.1
    frames_per_epoch: int = 60_000
    training: TrainingConfig = field(default_factory=_training)
    hearing: Hearing = Hearing.utterance
    update_seconds: Seconds = 0.2
    memory_seconds: Seconds = 60.0

    def __post_init__(self) -> None:
        if not self.vectors or len(set(self.vectors)) < len(self.vectors):
            names = [kind.name for kind in self.vectors]
            raise ConfigError(f"condition.vectors must name at least one kind and each once, got {names}")
        require_warp(self.warp, "condition")
        require_at_least(0, self, "condition", "shrink_seconds", "noise", "frames_per_epoch")
        require_positive(self, "condition", "update_seconds", "memory_seconds")
        require_share_below_one(self, "condition", "dropout")
