"""Training learns, keeps the best, leaves the world as it was, and says what it did."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.toy_speech import NUM_STATES, jitter, toy_config, toy_data, toy_network, toy_train
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.training.examples.frame_data import FrameBatch
from lhuc_asr.training.loop import TrainingConfig, train
from lhuc_asr.training.optimiser import OptimiserConfig, OptimiserKind, build_optimiser, set_lr
from lhuc_asr.training.precision import Precision
from lhuc_asr.training.processes.shares import ALL, Share
from lhuc_asr.training.schedule.newbob import Measure, NewbobConfig
from lhuc_asr.training.tasks.evaluation import score_frames
from lhuc_asr.training.tasks.frame_task import FrameTask


@pytest.mark.parametrize("kind", list(OptimiserKind))
@pytest.mark.parametrize("precision", list(Precision))
def test_it_learns(tmp_path: Path, kind: OptimiserKind, precision: Precision) -> None:
    lr = 0.3 if kind is OptimiserKind.sgd else 0.02
    config = toy_config(
        optimiser=OptimiserConfig(kind=kind), precision=precision, newbob=NewbobConfig(initial_lr=lr, max_epochs=8)
    )
    network = toy_network(dropout=0.0)
    before = score_frames(network, toy_data().validation)
    report = toy_train(tmp_path, network, config)
    assert report.best.valid_loss < 0.6 * before.loss
    assert report.best.valid_accuracy > 0.6


def test_the_network_ends_with_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    network = toy_network()
    report = toy_train(tmp_path, network, toy_config(newbob=NewbobConfig(initial_lr=2.0, max_epochs=6, min_epochs=6)))
    assert not network.training
    assert report.best.valid_loss == min(epoch.valid_loss for epoch in report.history)
    assert score_frames(network, toy_data().validation).loss == report.best.valid_loss


def test_the_epoch_with_the_fewest_wrong_frames_is_kept_when_those_are_watched(tmp_path: Path) -> None:
    newbob = NewbobConfig(initial_lr=2.0, max_epochs=6, min_epochs=6, measure=Measure.frame_error)
    report = toy_train(tmp_path, toy_network(), toy_config(newbob=newbob))
    assert report.best.valid_accuracy == max(epoch.valid_accuracy for epoch in report.history)


def test_an_epoch_that_did_not_help_is_taken_back(tmp_path: Path) -> None:
    def overshoot(go_back: bool) -> list[float]:
        config = toy_config(go_back=go_back, newbob=NewbobConfig(initial_lr=6.0, max_epochs=8, stop=0.0))
        report = toy_train(tmp_path / str(go_back), toy_network(), config)
        return [epoch.valid_loss for epoch in report.history]

    back, onward = overshoot(True), overshoot(False)
    worse = next(index for index, (one, two) in enumerate(itertools.pairwise(back)) if two > one) + 1
    assert back[: worse + 1] == onward[: worse + 1]
    assert back[worse + 1 :] != onward[worse + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6},
        {"augment": None},
        {"config": toy_config(label_smoothing=0.2)},
        {"config": toy_config(batch_size=31)},
    ],
)
def test_every_choice_matters(tmp_path: Path, change: dict[str, object]) -> None:
    first, second = toy_network(), toy_network()
    toy_train(tmp_path / "first", first)
    toy_train(tmp_path / "second", second, **change)
    assert not torch.equal(first.output.weight, second.output.weight)


class Uneven(FrameTask):
    """Epochs of 3, 4, 5, ... minibatches."""

    def num_batches(self, epoch: int) -> int:
        return 3 + epoch

    def batches(self, epoch: int, *, start: int = 0, share: Share = ALL) -> Iterator[FrameBatch | None]:
        yield from itertools.islice(super().batches(epoch, start=start, share=share), self.num_batches(epoch) - start)


def test_the_warm_up_goes_on_from_epoch_to_epoch_also_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(warmup=10, newbob=NewbobConfig(initial_lr=0.1, min_epochs=4, max_epochs=4))
    rates: list[float] = []

    def learn(*, until: int | None = None) -> None:
        def noted(optimiser: torch.optim.Optimizer, lr: float) -> None:
            if len(rates) == until:
                raise KeyboardInterrupt
            rates.append(lr)
            set_lr(optimiser, lr)

        monkeypatch.setattr("lhuc_asr.training.loop.set_lr", noted)
        train(toy_network(), Uneven(toy_data(), batch_size=32), config, tmp_path)

    with pytest.raises(KeyboardInterrupt):
        learn(until=5)
    learn()
    assert rates == pytest.approx([0.1 * min(1, number / 10) for number in range(1, 3 + 4 + 5 + 6 + 1)])


def test_the_callers_random_stream_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    toy_train(tmp_path, toy_network())
    assert torch.equal(torch.randn(4), expected)


def test_progress_is_logged_and_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lhuc_asr.training"):
        report = toy_train(tmp_path, toy_network())
    assert sum("held-out loss" in message for message in caplog.messages) == len(report.history)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "learning_rate", "loss/training", "loss/held_out", "accuracy/training", "accuracy/held_out",
    }  # fmt: skip
    drawn = [(event.step, event.value) for event in events.Scalars("loss/held_out")]
    assert drawn == [(epoch.epoch, pytest.approx(epoch.valid_loss)) for epoch in report.history]


def test_states_that_the_network_lacks_are_refused(tmp_path: Path) -> None:
    network = Dnn(DnnConfig(num_layers=1, hidden_dim=3, context=1), 5, NUM_STATES - 1)
    with pytest.raises(DataError, match=f"tied state {NUM_STATES - 1} is none of the network's {NUM_STATES - 1}"):
        toy_train(tmp_path, network)


def test_a_diverging_run_says_what_to_change(tmp_path: Path) -> None:
    def poison(windows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return jitter(windows, generator) * float("nan")

    with pytest.raises(DataError, match=r"lower training\.newbob\.initial_lr"):
        toy_train(tmp_path, toy_network(), augment=poison)


def test_weight_decay_spares_biases() -> None:
    network = toy_network()
    optimiser = build_optimiser(network, OptimiserConfig(weight_decay=0.5, momentum=0.0))
    set_lr(optimiser, 0.1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name] * (0.95 if tensor.dim() > 1 else 1.0))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (TrainingConfig, {"batch_size": 0}),
        (TrainingConfig, {"label_smoothing": 1.0}),
        (TrainingConfig, {"checkpoint_minutes": -1.0}),
        (TrainingConfig, {"num_accumulated": 0}),
        (TrainingConfig, {"num_averaged": 0}),
        (OptimiserConfig, {"momentum": 1.0}),
        (OptimiserConfig, {"weight_decay": -1.0}),
        (OptimiserConfig, {"max_gradient_norm": -1.0}),
    ],
)
def test_impossible_settings_are_refused(kind: type, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        kind(**wrong)
