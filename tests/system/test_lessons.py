"""From aligned speech to a task: which kind of task, which states, which phones."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.toy_lessons import SPEECH, lessons
from helpers.toy_utterances import ALIGNER, CHAIN, DIM
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.models.dnn import DnnConfig
from lhuc_asr.models.kinds import build_network
from lhuc_asr.models.network import AcousticNetwork, NetworkConfig
from lhuc_asr.models.tdnn import TdnnConfig
from lhuc_asr.system.lessons import make_task, tied_states
from lhuc_asr.training.criteria.criterion import CriterionConfig, CriterionKind, StateCrossEntropy
from lhuc_asr.training.criteria.mmi_criterion import Mmi
from lhuc_asr.training.examples.sequence_batches import SequenceConfig
from lhuc_asr.training.loop import TrainingConfig
from lhuc_asr.training.tasks.frame_task import FrameTask
from lhuc_asr.training.utterance_task import UtteranceTask

LFMMI = CriterionConfig(kind=CriterionKind.lfmmi)


def network(hmm: HmmModel = ALIGNER, config: NetworkConfig | None = None) -> AcousticNetwork:
    config = config or TdnnConfig(hidden_dim=8, dilations=[1, 3], subsampling=3)
    return build_network(config, DIM, hmm.num_pdfs)


def test_networks_of_windows_learn_from_frames() -> None:
    task = make_task(
        lessons(), network(config=DnnConfig(hidden_dim=8, num_layers=1)), CriterionConfig(), TrainingConfig()
    )
    assert isinstance(task, FrameTask)
    assert len(task.data.training) == sum(len(SPEECH.feats[name]) for name in SPEECH.names[:-2])


@pytest.mark.parametrize(
    ("criterion", "kind", "hmm"), [(CriterionConfig(), StateCrossEntropy, ALIGNER), (LFMMI, Mmi, CHAIN)]
)
def test_others_learn_from_utterances(criterion: CriterionConfig, kind: type, hmm: HmmModel) -> None:
    task = make_task(lessons(hmm), network(hmm), criterion, TrainingConfig())
    assert isinstance(task, UtteranceTask) and isinstance(task.criterion, kind)
    assert list(task.training.data.num_frames) == SPEECH.names[:-2]
    assert list(task.validation.data.num_frames) == SPEECH.names[-2:]
    task.check(network(hmm))


def test_even_networks_of_windows_learn_lf_mmi_from_utterances() -> None:
    windows = network(CHAIN, DnnConfig(hidden_dim=8, num_layers=1))
    assert isinstance(make_task(lessons(CHAIN), windows, LFMMI, TrainingConfig()), UtteranceTask)


@pytest.mark.parametrize("criterion", [CriterionConfig(), LFMMI])
def test_long_utterances_are_cut_at_outputs(criterion: CriterionConfig) -> None:
    short = TrainingConfig(sequences=SequenceConfig(max_frames=32, chunk_context=4))
    task = make_task(lessons(CHAIN), network(CHAIN), criterion, short)
    assert isinstance(task, UtteranceTask)
    assert len(task.training.pieces) > len(SPEECH.names)
    task.check(network(CHAIN))
    covered = dict.fromkeys(SPEECH.names[:-2], 0)
    for piece in task.training.pieces:
        covered[piece.utterance] += piece.end - piece.start
    assert covered == {name: len(SPEECH.feats[name]) for name in covered}


def test_states_are_those_of_the_model_that_is_learnt() -> None:
    path = SPEECH.alignments["u0"]
    assert np.array_equal(tied_states(path, ALIGNER, ALIGNER), ALIGNER.pdfs(path))
    assert np.array_equal(tied_states(path, ALIGNER, CHAIN), ALIGNER.phones_of(path) - 1)
    assert lessons(CHAIN).states.keys() == set(SPEECH.names)


def test_segments_are_the_phones_that_were_said() -> None:
    found = lessons().segments(3)
    assert {name: list(one.phones) for name, one in found.items()} == SPEECH.phones
    assert all(one.factor == 3 and one.num_frames == len(SPEECH.feats[name]) for name, one in found.items())


def test_the_phone_model_knows_training_utterances_alone() -> None:
    task = make_task(lessons(CHAIN), network(CHAIN), LFMMI, TrainingConfig())
    assert isinstance(task, UtteranceTask) and isinstance(task.criterion, Mmi)
    counted = {phone for following in task.criterion.spoken.compiler.lm.log_probs.values() for phone in following}
    assert counted - {0} == {phone for name in SPEECH.names[:-2] for phone in SPEECH.phones[name]}
    assert task.criterion.numerators.keys() == set(SPEECH.names)
