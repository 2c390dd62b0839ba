"""Learning from utterances: the same bits after an interruption, the same score in any company, faults by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.interruption import Interrupted, Interruption, jitter, same_bits
from helpers.toy_utterances import ALIGNER, CHAIN, ToyUtterances, toy_mmi, toy_tdnnf, toy_utterances
from lhuc_asr.errors import AlignmentError, ConfigError, DataError
from lhuc_asr.models.tdnnf import TdnnF
from lhuc_asr.training.criteria.criterion import Criterion, StateCrossEntropy
from lhuc_asr.training.criteria.ctc_criterion import Ctc
from lhuc_asr.training.examples.sequence_batches import Augment, SequenceConfig
from lhuc_asr.training.examples.sequence_data import SequenceData
from lhuc_asr.training.loop import TrainingConfig, TrainingReport, train
from lhuc_asr.training.optimiser import OptimiserConfig, OptimiserKind
from lhuc_asr.training.precision import Precision
from lhuc_asr.training.schedule.newbob import NewbobConfig
from lhuc_asr.training.utterance_task import UtteranceTask

SMALL = SequenceConfig(max_frames=120, max_utterances=3, bucket_ratio=2.0)
CONFIG = TrainingConfig(
    checkpoint_minutes=0.0,
    precision=Precision.float32,
    sequences=SMALL,
    optimiser=OptimiserConfig(kind=OptimiserKind.adam, weight_decay=0.01),
    newbob=NewbobConfig(initial_lr=0.01, max_epochs=4, min_epochs=4, stop=-1.0),
)


def task_of(
    speech: ToyUtterances,
    criterion: Criterion,
    *,
    config: SequenceConfig = SMALL,
    augment: Augment | None = jitter,
    subsampling: int = 3,
    seed: int = 4,
) -> UtteranceTask:
    """All utterances but the last two to learn from, those to validate on."""
    states = speech.states()
    parts = [SequenceData.gather(speech.feats, names, states) for names in (speech.names[:-2], speech.names[-2:])]
    return UtteranceTask(*parts, criterion, config, seed=seed, augment=augment, subsampling=subsampling)


def learn(directory: Path, network: TdnnF, *, augment: Augment = jitter, **options: Any) -> TrainingReport:
    """LF-MMI on toy speech."""
    speech = toy_utterances(10, num_phones=(3, 12))
    task = task_of(speech, toy_mmi(speech, smoothing=0.1), augment=augment, **options)
    return train(network, task, CONFIG, directory, seed=5)


def small_network() -> TdnnF:
    """With dropout, so that randomness matters."""
    return toy_tdnnf(CHAIN.num_pdfs, shared_dropout=0.1)


PIECES = SequenceConfig(max_frames=48, chunk_context=6, bucket_ratio=2.0, num_prefetched=0)


@pytest.mark.parametrize(("config", "stops"), [(SMALL, (3, 13)), (PIECES, (20,))], ids=["whole utterances", "pieces"])
def test_an_interrupted_run_ends_with_the_same_bits(
    tmp_path: Path, config: SequenceConfig, stops: tuple[int, ...]
) -> None:
    whole, resumed = small_network(), small_network()
    report = learn(tmp_path / "whole", whole, config=config)
    for at in stops:
        with pytest.raises(Interruption):
            learn(tmp_path / "pieces", small_network(), augment=Interrupted(at), config=config)
    again = learn(tmp_path / "pieces", resumed, config=config)
    assert same_bits(whole, resumed)
    assert again.history == report.history


@pytest.mark.parametrize("config", [SMALL, PIECES], ids=["whole utterances", "pieces"])
def test_lf_mmi_learns(tmp_path: Path, config: SequenceConfig) -> None:
    report = learn(tmp_path, small_network(), config=config)
    assert report.best.valid_loss < 0.6 * report.history[0].valid_loss
    assert report.best.valid_accuracy > report.history[0].valid_accuracy


@pytest.mark.parametrize("kind", ["cross-entropy", "lfmmi", "ctc"])
def test_a_batch_scores_like_its_utterances_one_at_a_time(kind: str) -> None:
    speech = toy_utterances(9, num_phones=(3, 14))
    labels = {name: torch.tensor(said[1:-1]) for name, said in speech.phones.items()}
    made = {
        "cross-entropy": StateCrossEntropy,
        "lfmmi": lambda: toy_mmi(speech, smoothing=0.2),
        "ctc": lambda: Ctc(labels),
    }
    network = toy_tdnnf(ALIGNER.num_pdfs)
    network.eval()
    together, alone = (
        task_of(speech, made[kind](), config=SequenceConfig(max_utterances=size, bucket_ratio=100)) for size in (64, 1)
    )
    one, other = ({}, {})
    for found, task in ((one, together), (other, alone)):
        score = UtteranceTask(
            task.validation.data, task.training.data, task.criterion, task.config, subsampling=3
        ).score(network)
        found.update(loss=score.loss, accuracy=score.accuracy)
    assert len({len(matrix) for matrix in speech.feats.values()}) > 5
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    if kind != "ctc":  # which counts utterances alike in a minibatch, not frames
        assert one["accuracy"] == pytest.approx(other["accuracy"], rel=1e-5)


def test_scoring_leaves_the_mode_of_the_network_alone() -> None:
    speech = toy_utterances(4)
    network = toy_tdnnf(ALIGNER.num_pdfs)
    for mode in (True, False):
        network.train(mode)
        task_of(speech, StateCrossEntropy()).score(network)
        assert network.training is mode


def test_ctc_refuses_what_is_too_long_by_name() -> None:
    speech = toy_utterances(4)
    labels = {name: torch.tensor(said) for name, said in speech.phones.items()}
    longest = max(speech.names[:-2], key=lambda name: len(speech.feats[name]))
    shorter = SequenceConfig(max_frames=len(speech.feats[longest]) - 1)
    with pytest.raises(DataError, match=f"utterances longer than .*'{longest}'"):
        task_of(speech, Ctc(labels), config=shorter)


def test_pieces_begin_at_outputs_of_the_network() -> None:
    speech = toy_utterances(6, num_phones=(8, 14))
    config = SequenceConfig(max_frames=40, chunk_context=4)
    task = task_of(speech, StateCrossEntropy(), config=config)
    pieces = (*task.training.pieces, *task.validation.pieces)
    assert len(pieces) > 6 and all(piece.start % 3 == piece.left % 3 == 0 for piece in pieces)
    task.check(toy_tdnnf(ALIGNER.num_pdfs))
    with pytest.raises(ConfigError, match="made for a network with subsampling 1, this one has 3"):
        task_of(speech, StateCrossEntropy(), config=config, subsampling=1).check(toy_tdnnf(ALIGNER.num_pdfs))


def test_pieces_need_room_for_an_output() -> None:
    with pytest.raises(ConfigError, match="no room between contexts of 12 for one output of 3"):
        task_of(toy_utterances(6), StateCrossEntropy(), config=SequenceConfig(max_frames=24, chunk_context=11))


def test_targets_that_the_network_lacks_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    speech = toy_utterances(6)
    with pytest.raises(DataError, match="none of the network's 4"):
        train(toy_tdnnf(4), task_of(speech, StateCrossEntropy()), CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_words_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    speech = toy_utterances(6)
    criterion = toy_mmi(speech)
    speech.feats["u2"], speech.alignments["u2"] = speech.feats["u2"][:5], speech.alignments["u2"][:5]
    with pytest.raises(AlignmentError, match=r"too short for their words: 'u2' \(2 outputs"):
        train(small_network(), task_of(speech, criterion), CONFIG, tmp_path)


class Diverging(StateCrossEntropy):
    """Is no number any more from some minibatch on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def __call__(self, log_probs_BTV: torch.Tensor, lens_B: torch.Tensor, batch: Any) -> Any:
        self.left -= 1
        return super().__call__(log_probs_BTV * (1.0 if self.left >= 0 else float("nan")), lens_B, batch)


def test_an_objective_that_is_no_number_names_the_utterances_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    speech = toy_utterances(8)
    task = task_of(speech, Diverging(after=3), config=SequenceConfig(max_utterances=1))
    names = [batch.utterances[0] for batch in task.batches(0)]
    with pytest.raises(DataError, match=rf"the objective is nan in minibatch 4 of epoch 1 \(utterances '{names[3]}'\)"):
        train(toy_tdnnf(ALIGNER.num_pdfs), task, CONFIG, tmp_path)
    healthy = toy_tdnnf(ALIGNER.num_pdfs)
    resumed = task_of(speech, StateCrossEntropy(), config=SequenceConfig(max_utterances=1))
    read: list[str] = []
    resumed.batches, batches = lambda epoch, **options: _noted(read, batches(epoch, **options)), resumed.batches  # type: ignore[method-assign]
    train(healthy, resumed, CONFIG, tmp_path)
    assert read[0] == names[3], "it went on after the last minibatch that was learnt from"


def _noted(read: list[str], batches: Any) -> Any:
    for batch in batches:
        read.append(batch.utterances[0])
        yield batch


def test_features_that_are_no_numbers_stop_with_the_utterance_named(tmp_path: Path) -> None:
    speech = toy_utterances(8)
    speech.feats["u3"] = speech.feats["u3"].copy()
    speech.feats["u3"][4, 2] = np.nan
    task = task_of(speech, toy_mmi(speech), config=SequenceConfig(max_utterances=1))
    with pytest.raises(DataError, match="the features of utterance 'u3' are not all finite"):
        train(small_network(), task, CONFIG, tmp_path)
    learnt = [
        batch.utterances[0] for batch in task_of(toy_utterances(8), toy_mmi(speech), config=task.config).batches(0)
    ]
    assert (tmp_path / "checkpoint.json").exists() == (learnt[0] != "u3")


def test_the_run_knows_its_utterances_and_criterion() -> None:
    speech, other = toy_utterances(8), toy_utterances(8, seed=1)

    def identity(speech: ToyUtterances = speech, **options: Any) -> dict[str, Any]:
        return task_of(speech, toy_mmi(speech, **options.pop("mmi", {})), **options).identity()

    assert identity() == identity()
    others = [identity(other), identity(mmi={"smoothing": 0.3}), identity(augment=None), identity(config=PIECES)]
    louder = replace(speech, feats={**speech.feats, "u5": 2 * speech.feats["u5"]})
    later = replace(speech, alignments={**speech.alignments, "u5": np.roll(speech.alignments["u5"], 1)})
    others += [task_of(changed, toy_mmi(speech)).identity() for changed in (louder, later)]
    others += [task_of(speech, toy_mmi(speech), seed=6).identity()]
    assert all(identity() != one for one in others)
    assert (
        identity(config=SequenceConfig(max_frames=120, max_utterances=3, bucket_ratio=2.0, num_prefetched=0))
        == identity()
    )
