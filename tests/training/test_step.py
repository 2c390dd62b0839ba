"""Minibatches that count as one: the same step as one minibatch of all their frames."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers.toy_speech import toy_config, toy_data, toy_network, toy_train
from lhuc_asr.errors import DataError
from lhuc_asr.models.dnn import Dnn
from lhuc_asr.models.tdnnf import TdnnF, TdnnFConfig
from lhuc_asr.training.optimiser import OptimiserConfig, build_optimiser, set_lr
from lhuc_asr.training.step import Stepper, Tally
from lhuc_asr.training.tasks.frame_task import FrameTask


def stepped(network: Dnn, sizes: list[int], *, max_gradient_norm: float = 0.0) -> Tally:
    """One step along minibatches of these sizes, of the same frames in the same order."""
    task = FrameTask(toy_data())
    optimiser = build_optimiser(network, OptimiserConfig(momentum=0.0))
    set_lr(optimiser, 0.5)
    stepper = Stepper(network.train(), task, optimiser, max_gradient_norm=max_gradient_norm)
    batches: list[tuple[Tensor, Tensor]] = []
    for indices in torch.split(torch.arange(sum(sizes)), sizes):
        batches.append(task.data.training.batch(indices))
    return stepper.step(batches, epoch=0, first=0, number=0)


@pytest.mark.parametrize("max_gradient_norm", [0.0, 0.01])
@pytest.mark.parametrize("sizes", [[32, 32], [40, 7, 17], [1, 63]])
def test_several_minibatches_are_one_step_of_all_their_frames(sizes: list[int], max_gradient_norm: float) -> None:
    one, several = toy_network(dropout=0.0), toy_network(dropout=0.0)
    expected = stepped(one, [64], max_gradient_norm=max_gradient_norm)
    found = stepped(several, sizes, max_gradient_norm=max_gradient_norm)
    assert (found.num_correct, found.num_frames) == (expected.num_correct, 64)
    assert found.loss_sum == pytest.approx(expected.loss_sum, rel=1e-6)
    for ours, theirs in zip(several.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_run_of_accumulated_minibatches_follows_one_of_larger_ones(tmp_path: Path) -> None:
    small = toy_config(batch_size=32, num_accumulated=2)
    curves = [
        toy_train(tmp_path / str(config.batch_size), toy_network(dropout=0.0), config, augment=None).history
        for config in (small, toy_config(batch_size=64))
    ]
    for ours, theirs in zip(*curves, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-5)
        assert ours.valid_loss == pytest.approx(theirs.valid_loss, rel=1e-5)


class Constrained(TdnnF):
    """Counts how often it is brought back."""

    num_calls = 0

    def constrain(self) -> None:
        self.num_calls += 1


@pytest.mark.parametrize(("num_accumulated", "expected"), [(1, 2), (2, 1), (3, 0)])
def test_weights_are_brought_back_after_every_fourth_step(tmp_path: Path, num_accumulated: int, expected: int) -> None:
    shape = TdnnFConfig(hidden_dim=8, bottleneck_dim=4, dilations=[1, 0])
    network = Constrained(shape, feat_dim=5, num_outputs=6)
    config = toy_config(num_accumulated=num_accumulated)
    config.newbob.max_epochs = 1
    toy_train(tmp_path, network, config)  # type: ignore[arg-type]
    assert network.num_calls == expected


def test_an_objective_that_is_not_finite_is_named(tmp_path: Path) -> None:
    network = toy_network()
    with torch.no_grad():
        network.output.weight.fill_(float("inf"))
    with pytest.raises(DataError, match=r"the objective is (nan|inf) in minibatch 1 of epoch 1"):
        stepped(network, [8, 8])
