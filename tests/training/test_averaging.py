"""The mean of the best epochs: what it is, when it is taken, and that a kill changes nothing."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.interruption import Interrupted, Interruption
from helpers.toy_speech import toy_config, toy_data, toy_network, toy_train
from lhuc_asr.files import read_json, sha256, write_json
from lhuc_asr.models.weights import load_weights
from lhuc_asr.tensors import load_tensors
from lhuc_asr.training.checkpoint import VERSION
from lhuc_asr.training.loop import TrainingConfig
from lhuc_asr.training.schedule.averaging import best_epochs, mean_weights
from lhuc_asr.training.schedule.newbob import Measure, NewbobConfig
from lhuc_asr.training.tasks.evaluation import score_frames


def averaging(num_averaged: int = 3, *, lr: float = 0.3, measure: Measure = Measure.loss) -> TrainingConfig:
    newbob = NewbobConfig(initial_lr=lr, max_epochs=6, min_epochs=6, measure=measure)
    return toy_config(num_averaged=num_averaged, go_back=False, newbob=newbob)


@given(st.lists(st.floats(allow_nan=True)), st.integers(1, 5))
def test_the_best_epochs_are_those_with_the_lowest_measure(measured: list[float], count: int) -> None:
    best = best_epochs(measured, count)
    finite = [value for value in measured if abs(value) < float("inf")]
    assert [measured[epoch - 1] for epoch in best] == sorted(finite)[:count]
    assert len(set(best)) == len(best)
    if best:
        assert best[0] == measured.index(min(finite)) + 1


def test_the_mean_is_that_of_every_number() -> None:
    names = ("norm.running_mean", "weight")
    epochs = [{name: torch.randn(3, 4) for name in names} | {"count": torch.tensor(9 - i)} for i in range(3)]
    mean = mean_weights(epochs)
    for name in names:
        torch.testing.assert_close(mean[name], sum(epoch[name] for epoch in epochs) / 3)
    assert mean["count"] == 9


def test_the_network_ends_with_the_mean_of_the_best_epochs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = toy_network(batch_norm=True)
    with caplog.at_level(logging.INFO, logger="lhuc_asr.training"):
        report = toy_train(tmp_path, network, averaging(lr=1.0))
    assert report.average is not None and report.averaged
    losses = [epoch.valid_loss for epoch in report.history]
    assert sorted(losses)[:3] == [losses[epoch - 1] for epoch in report.averaged]
    expected = mean_weights([load_tensors(tmp_path / f"best-{epoch:04d}.safetensors") for epoch in report.averaged])
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    assert score_frames(network, toy_data().validation) == report.average
    assert report.average.loss <= report.best.valid_loss
    assert any("taken instead of epoch" in message for message in caplog.messages)


def test_a_mean_that_does_worse_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = toy_network(dropout=0.0)
    with caplog.at_level(logging.INFO, logger="lhuc_asr.training"):
        report = toy_train(tmp_path, network, averaging(6, lr=0.3))  # epochs among them from when little was learnt
    assert report.average is not None
    assert report.average.loss > report.best.valid_loss
    assert report.averaged == ()
    assert score_frames(network, toy_data().validation) == report.best.score
    assert any("worse, so the network is that of epoch" in message for message in caplog.messages)


@pytest.mark.parametrize("measure", list(Measure))
@pytest.mark.parametrize("stops", [(5,), (17, 20)])
def test_interrupted_runs_end_with_the_same_mean(tmp_path: Path, measure: Measure, stops: tuple[int, ...]) -> None:
    config = averaging(2, lr=1.0, measure=measure)
    whole, pieces = toy_network(batch_norm=True), toy_network(batch_norm=True)
    report = toy_train(tmp_path / "whole", whole, config)
    for at in stops:
        with pytest.raises(Interruption):
            toy_train(tmp_path / "pieces", toy_network(batch_norm=True), config, augment=Interrupted(at))
    resumed = toy_train(tmp_path / "pieces", pieces, config)
    assert (resumed.history, resumed.averaged, resumed.average) == (report.history, report.averaged, report.average)
    assert all(torch.equal(tensor, pieces.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_as_many_epochs_are_kept_as_are_averaged(tmp_path: Path) -> None:
    report = toy_train(tmp_path, toy_network(), averaging(3))
    losses = [epoch.valid_loss for epoch in report.history]
    best = sorted(range(1, 7), key=lambda epoch: losses[epoch - 1])[:3]
    kept = {path.name for path in tmp_path.glob("best-*")}
    assert kept == {f"best-{epoch:04d}.safetensors" for epoch in best}


def test_an_epoch_that_was_taken_back_can_be_among_the_best(tmp_path: Path) -> None:
    config = toy_config(num_averaged=2, newbob=NewbobConfig(initial_lr=2.0, max_epochs=6, min_epochs=6))
    report = toy_train(tmp_path, toy_network(), config)
    for path in tmp_path.glob("best-*"):
        epoch = report.history[int(path.stem.partition("-")[2]) - 1]
        network = toy_network()
        load_weights(network, load_tensors(path), source=str(path))
        assert score_frames(network, toy_data().validation) == epoch.score


def test_checkpoints_of_version_1_are_resumed(tmp_path: Path) -> None:
    """An index as it was written before several epochs were kept."""
    whole, resumed = toy_network(), toy_network()
    toy_train(tmp_path / "whole", whole)
    with pytest.raises(Interruption):
        toy_train(tmp_path, toy_network(), augment=Interrupted(19))
    path = tmp_path / "checkpoint.json"
    index = read_json(path)
    (best,) = index["progress"].pop("kept")
    index["progress"]["best_epoch"] = best
    index["files"]["best"] = index["files"].pop(str(best))
    index["version"] = 1
    write_json(path, index)
    toy_train(tmp_path, resumed)
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_a_checkpoint_lists_its_files(tmp_path: Path) -> None:
    toy_train(tmp_path, toy_network(), averaging(2))
    index = json.loads((tmp_path / "checkpoint.json").read_text())
    assert index["version"] == VERSION
    assert {"last", *map(str, index["progress"]["kept"])} == index["files"].keys()
    assert all(sha256(tmp_path / entry["name"]) == entry["sha256"] for entry in index["files"].values())
