"""Speaker-adaptive training: the plain run where it must be, the same bits after a break, and a world that it wins."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.interruption import Interrupted, Interruption, jitter, same_bits
from helpers.toy_speech import toy_config, toy_data, toy_network, toy_train
from lhuc_asr.errors import ConfigError
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.lhuc.row_updates import RowUpdateKind
from lhuc_asr.lhuc.sat import SatConfig, SpeakerAdaptiveTraining, SpeakerRouting
from lhuc_asr.lhuc.scale_table import ScaleTable
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.training.examples.frame_data import FrameData, TrainingData
from lhuc_asr.training.loop import TrainingConfig, TrainingReport, train
from lhuc_asr.training.optimiser import OptimiserConfig, OptimiserKind
from lhuc_asr.training.schedule.newbob import NewbobConfig
from lhuc_asr.training.tasks.conditioned_task import ConditionedTask
from lhuc_asr.training.tasks.frame_task import Augment, FrameTask

SPEAKERS = {"u0": "anna", "u1": "anna", "u2": "ben", "u3": "cleo"}


def conditioned(network: Dnn, task: FrameTask, sat: SatConfig, speaker_of: dict[str, str]) -> ConditionedTask[object]:
    sites = choose_sites(network, network.adaptation_sites, sat.layers)
    routing = SpeakerRouting(speaker_of, sat)
    table = ScaleTable(sites, len(routing.speakers), sat.amplitude)
    return ConditionedTask(task, SpeakerAdaptiveTraining(table, routing, sat))


def sat_train(
    directory: Path,
    network: Dnn,
    sat: SatConfig,
    config: TrainingConfig | None = None,
    *,
    augment: Augment | None = jitter,
) -> tuple[TrainingReport, torch.Tensor]:
    """The toy run with scales; the report and the table."""
    config = config or toy_config()
    task = conditioned(network, FrameTask(toy_data(), batch_size=32, seed=5, augment=augment), sat, SPEAKERS)
    report = train(network, task, config, directory, seed=5)
    assert task.conditioning is not None
    return report, task.conditioning.state()["r"]


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_scales_that_stay_the_identity_leave_the_plain_run_bit_for_bit(tmp_path: Path, share: float) -> None:
    plain, adaptive = toy_network(batch_norm=True), toy_network(batch_norm=True)
    expected = toy_train(tmp_path / "plain", plain)
    sat = SatConfig(share=share, learn_independent=False, lr_factor=0.0)
    report, table = sat_train(tmp_path / "sat", adaptive, sat)
    assert same_bits(plain, adaptive) and report.history == expected.history
    assert not table.any()


def test_all_speech_through_row_0_that_is_frozen_is_the_plain_run(tmp_path: Path) -> None:
    plain, adaptive = toy_network(), toy_network()
    toy_train(tmp_path / "plain", plain)
    _, table = sat_train(tmp_path / "sat", adaptive, SatConfig(share=1.0, learn_independent=False))
    assert same_bits(plain, adaptive) and not table.any()


@pytest.mark.parametrize(("share", "moved"), [(0.0, [False, True, True, True]), (1.0, [True, False, False, False])])
def test_only_rows_that_are_taken_move(tmp_path: Path, share: float, moved: list[bool]) -> None:
    _, table = sat_train(tmp_path, toy_network(), SatConfig(share=share))
    assert [bool(row.any()) for row in table] == moved


@pytest.mark.parametrize("kind", list(RowUpdateKind))
@pytest.mark.parametrize("stops", [(1,), (9,), (13, 2)])
def test_interrupted_runs_end_with_the_same_bits(tmp_path: Path, kind: RowUpdateKind, stops: tuple[int, ...]) -> None:
    config = toy_config(
        optimiser=OptimiserConfig(kind=OptimiserKind[kind.name]), newbob=NewbobConfig(initial_lr=0.05, max_epochs=3)
    )
    sat = SatConfig(share=0.5, update=kind)
    whole, pieces = toy_network(), toy_network()
    report, table = sat_train(tmp_path / "whole", whole, sat, config)
    for at in stops:
        with pytest.raises(Interruption):
            sat_train(tmp_path / "pieces", toy_network(), sat, config, augment=Interrupted(at))
    resumed, again = sat_train(tmp_path / "pieces", pieces, sat, config)
    assert same_bits(whole, pieces) and torch.equal(table, again)
    assert resumed.history == report.history


def test_scales_go_back_with_the_weights(tmp_path: Path) -> None:
    def run(num_epochs: int) -> tuple[Dnn, TrainingReport, torch.Tensor]:
        network, newbob = toy_network(), NewbobConfig(initial_lr=6.0, max_epochs=num_epochs, stop=0.0)
        return network, *sat_train(tmp_path / str(num_epochs), network, SatConfig(share=0.5), toy_config(newbob=newbob))

    losses = [epoch.valid_loss for epoch in run(6)[1].history]
    worse = next(number for number, (one, two) in enumerate(itertools.pairwise(losses), start=1) if two > one)
    (back, _, table), (best, _, best_table) = run(worse + 1), run(worse)
    assert same_bits(back, best) and torch.equal(table, best_table)


def test_a_run_with_other_scales_is_not_taken_up(tmp_path: Path) -> None:
    sat_train(tmp_path, toy_network(), SatConfig(share=0.5))
    with pytest.raises(ConfigError, match="conditioning was"):
        sat_train(tmp_path, toy_network(), SatConfig(share=0.6))


def test_accumulated_minibatches_are_one_step_of_all_their_frames(tmp_path: Path) -> None:
    def run(batch_size: int, num_accumulated: int) -> torch.Tensor:
        network = toy_network(dropout=0.0)
        config = toy_config(batch_size=batch_size, num_accumulated=num_accumulated)
        task = FrameTask(toy_data(), batch_size=batch_size, seed=5)
        made = conditioned(network, task, SatConfig(share=0.0), SPEAKERS)
        train(network, made, config, tmp_path / str(batch_size), seed=5)
        assert made.conditioning is not None
        return made.conditioning.state()["r"]

    torch.testing.assert_close(run(30, 4), run(120, 1), rtol=1e-3, atol=1e-5)


def scaled_world(num_speakers: int, names: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, str]]:
    """Frames whose state is the largest of three bumps, each of which every speaker shifts in a way of his own."""
    rng = np.random.default_rng(7)
    feats, targets, speaker_of = {}, {}, {}
    for speaker in range(num_speakers):
        gains = np.exp(rng.normal(scale=1.0, size=3))
        for number in range(2):
            name = f"{names}{speaker}-{number}"
            x = rng.normal(size=(150, 3)).astype(np.float32)
            feats[name] = x
            targets[name] = (gains / (1 + np.exp(-2 * x))).argmax(axis=1)
            speaker_of[name] = f"{names}{speaker}"
    return feats, targets, speaker_of


def test_a_world_where_speakers_differ_by_scales_is_won(tmp_path: Path) -> None:
    feats, targets, speaker_of = scaled_world(8, "s")
    learnt = FrameData.gather(feats, targets, sorted(feats), context=0)
    data = TrainingData(learnt, learnt)
    config = TrainingConfig(
        optimiser=OptimiserConfig(kind=OptimiserKind.adam),
        newbob=NewbobConfig(initial_lr=0.02, max_epochs=15, stop=-1.0),
        batch_size=64,
        go_back=False,
    )

    def accuracy(name: str, sat: SatConfig | None) -> float:
        network = Dnn(DnnConfig(num_layers=1, hidden_dim=12, context=0), feat_dim=3, num_outputs=3, seed=1)
        task = FrameTask(data, batch_size=64, seed=1)
        made = task if sat is None else conditioned(network, task, sat, speaker_of)
        return train(network, made, config, tmp_path / name, seed=1).history[-1].train_accuracy

    plain = accuracy("plain", None)
    adaptive = accuracy("sat", SatConfig(share=0.0, update=RowUpdateKind.adam))
    assert adaptive > plain + 0.1
