"""What a network is taught: aligned speech, cut into frames or left whole, and the criterion that judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.alignment import Alignment
from lhuc_asr.hmm.chain import chain_alignment
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.system.training_speech import TrainingSpeech
from lhuc_asr.training.criteria.criterion import Criterion, CriterionConfig, CriterionKind, StateCrossEntropy
from lhuc_asr.training.criteria.lfmmi.chain_topology import ChainTopology
from lhuc_asr.training.criteria.lfmmi.denominator import denominator_graph, log_starts
from lhuc_asr.training.criteria.lfmmi.numerator import NumeratorCompiler, PhoneSegments
from lhuc_asr.training.criteria.lfmmi.objective import LfMmi
from lhuc_asr.training.criteria.lfmmi.phone_graph import PhoneGraph
from lhuc_asr.training.criteria.lfmmi.phone_lm import PhoneLm
from lhuc_asr.training.criteria.mmi_criterion import Mmi, SpokenPhones
from lhuc_asr.training.examples.frame_data import FrameData, TrainingData
from lhuc_asr.training.examples.sequence_data import SequenceData
from lhuc_asr.training.loop import TrainingConfig
from lhuc_asr.training.tasks.frame_task import Augment, FrameTask
from lhuc_asr.training.tasks.task import Task
from lhuc_asr.training.utterance_task import UtteranceTask


@dataclass(frozen=True, eq=False, kw_only=True)
class Lessons:
    """Speech whose phones are known frame by frame.

    Attributes:
        speech: utterances and features.
        alignments: utterance -> (T,) transition ids of ``aligner``, for every frame of the features.
        aligner: the model that aligned the speech.
        hmm: the model whose tied states the network learns; another one than ``aligner`` has one state a phone.
        training: ids to learn from; they have alignments.
        validation: ids of held-out speakers; likewise.
    """

    speech: TrainingSpeech
    alignments: Mapping[str, Alignment]
    aligner: HmmModel
    hmm: HmmModel
    training: Sequence[str]
    validation: Sequence[str]

    @cached_property
    def states(self) -> dict[str, NDArray[np.int32]]:
        """Utterance -> (T,) tied state of every frame of the features."""
        return {name: tied_states(self.alignments[name], self.aligner, self.hmm) for name in self.names}

    @property
    def names(self) -> tuple[str, ...]:
        """All ids."""
        return (*self.training, *self.validation)

    def segments(self, subsampling: int) -> dict[str, PhoneSegments]:
        """Utterance -> its phones."""
        return {
            name: PhoneSegments.of_alignment(self.aligner, self.alignments[name], factor=subsampling)
            for name in self.names
        }


def tied_states(alignment: Alignment, aligner: HmmModel, hmm: HmmModel) -> NDArray[np.int32]:
    """(T,) tied states of ``hmm`` for an alignment of the same model, or of one with more states a phone."""
    return hmm.pdfs(alignment if hmm is aligner else chain_alignment(alignment, aligner, hmm))


def make_task(
    lessons: Lessons,
    network: AcousticNetwork,
    criterion: CriterionConfig,
    training: TrainingConfig,
    *,
    seed: int = 0,
    augment: Augment | None = None,
) -> Task[Any]:
    """What suits network and criterion: frames in any order where that costs nothing, else whole utterances.

    Args:
        lessons: aligned speech.
        network: which is to learn.
        criterion: what it is judged by.
        training: sizes of minibatches and label smoothing.
        seed: of order and augmentation.
        augment: changes windows or utterances.
    """
    if network.learns_from_frames and criterion.kind is CriterionKind.cross_entropy:
        return FrameTask(
            TrainingData(_frames(lessons, lessons.training, network), _frames(lessons, lessons.validation, network)),
            batch_size=training.batch_size,
            label_smoothing=training.label_smoothing,
            seed=seed,
            augment=augment,
        )
    return UtteranceTask(
        _utterances(lessons, lessons.training),
        _utterances(lessons, lessons.validation),
        _criterion(lessons, network, criterion, training),
        training.sequences,
        seed=seed,
        augment=augment,
        subsampling=network.subsampling,
    )


def _criterion(
    lessons: Lessons, network: AcousticNetwork, criterion: CriterionConfig, training: TrainingConfig
) -> Criterion:
    if criterion.kind is CriterionKind.cross_entropy:
        return StateCrossEntropy(training.label_smoothing)
    return mmi(lessons, criterion, network.subsampling)


def mmi(lessons: Lessons, config: CriterionConfig, subsampling: int) -> Mmi:
    """LF-MMI with a denominator estimated from the phones of the training utterances."""
    segments = lessons.segments(subsampling)
    said = [PhoneGraph.of_phones(segments[name].phones) for name in lessons.training]
    lm, topology = PhoneLm.estimate(said, config.phone_lm), ChainTopology.of_tree(lessons.hmm.tree)
    denominator = denominator_graph(lm, topology)
    starts = log_starts(lm, topology, denominator)
    compiler = NumeratorCompiler(lm, topology, log_start=float(denominator.start[0]), log_starts=starts)
    spoken = SpokenPhones(compiler, segments, tolerance=config.tolerance)
    return Mmi(LfMmi(denominator, config.lfmmi), spoken, smoothing=config.smoothing)


def _frames(lessons: Lessons, names: Sequence[str], network: AcousticNetwork) -> FrameData:
    return FrameData.gather(lessons.speech.feats, lessons.states, names, context=network.context)


def _utterances(lessons: Lessons, names: Sequence[str]) -> SequenceData:
    return SequenceData.gather(lessons.speech.feats, names, lessons.states, num_frames=lessons.speech.num_frames)
