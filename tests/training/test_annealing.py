"""Dropout falls as the schedule says, is as it was afterwards, and a run is resumed within it to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helpers.interruption import Interrupted, Interruption, jitter, same_bits
from helpers.toy_speech import toy_config, toy_network, toy_train
from lhuc_asr.errors import ConfigError
from lhuc_asr.files import read_json
from lhuc_asr.models.kinds import NETWORKS, NetworkKind, build_network
from lhuc_asr.models.tdnnf import SharedDropout
from lhuc_asr.training.loop import TrainingConfig
from lhuc_asr.training.schedule.annealing import DropoutAnnealing
from lhuc_asr.training.schedule.newbob import NewbobConfig

EPOCHS = NewbobConfig(initial_lr=0.3, max_epochs=6, min_epochs=6)


def rates(network: nn.Module) -> list[float]:
    return [module.p for module in network.modules() if isinstance(module, nn.Dropout)]


def train_noting_rates(directory: Path, **settings: Any) -> tuple[nn.Module, list[float]]:
    """The trained network, and the rate of its layers in every minibatch that they were run on in training."""
    network, noted = toy_network(dropout=0.4), list[list[float]]()

    def note(module: nn.Module, *_: Any) -> None:
        if module.training:
            noted.append(rates(network))

    with_hook = network.layers[0].register_forward_pre_hook(note)
    toy_train(directory, network, toy_config(newbob=EPOCHS, **settings))
    with_hook.remove()
    assert all(one == other for one, other in noted)
    return network, [one for one, _ in noted]


def test_the_rate_falls_evenly_from_epoch_to_epoch_and_stays_at_0(tmp_path: Path) -> None:
    network, noted = train_noting_rates(tmp_path, annealed_epochs=4)
    assert noted == pytest.approx([rate for rate in (0.4, 0.3, 0.2, 0.1, 0.0, 0.0) for _ in range(8)])
    assert rates(network) == [0.4, 0.4], "the network is what it was built as"


def test_without_the_setting_nothing_falls(tmp_path: Path) -> None:
    _, noted = train_noting_rates(tmp_path)
    assert set(noted) == {0.4}
    settings = read_json(tmp_path / "checkpoint.json")["settings"]["training"]
    assert "annealed_epochs" not in settings, "runs that began before there was the setting go on"
    assert "annealed_epochs" not in TrainingConfig().relevant(), "and what they gave is not trained again"
    assert TrainingConfig(annealed_epochs=4).relevant()["annealed_epochs"] == 4


@pytest.mark.parametrize("stops", [(1,), (8,), (20, 3), (35,)])
def test_a_run_is_resumed_with_the_same_bits(tmp_path: Path, stops: tuple[int, ...]) -> None:
    config = toy_config(newbob=EPOCHS, annealed_epochs=4)
    whole, constant, resumed = (toy_network(dropout=0.4) for _ in range(3))
    toy_train(tmp_path / "whole", whole, config)
    toy_train(tmp_path / "constant", constant, toy_config(newbob=EPOCHS))
    assert not same_bits(whole, constant)
    for at in stops:
        broken = toy_network(dropout=0.4)
        with pytest.raises(Interruption):
            toy_train(tmp_path / "pieces", broken, config, augment=Interrupted(at))
        assert rates(broken) == [0.4, 0.4]
    toy_train(tmp_path / "pieces", resumed, config, augment=jitter)
    assert same_bits(whole, resumed)


def test_gone_at_once_it_is_as_if_it_had_never_been_after_the_first_epoch(tmp_path: Path) -> None:
    network = toy_network(dropout=0.4).train()
    x = torch.randn(5, 15)
    with DropoutAnnealing(network, num_epochs=1).in_epoch(1):
        torch.testing.assert_close(network.layers[0](x), network.eval().layers[0](x))


@pytest.mark.parametrize("kind", NetworkKind)
def test_every_kind_of_network_can_anneal_its_dropout(kind: NetworkKind) -> None:
    name = "shared_dropout" if kind is NetworkKind.tdnnf else "dropout"
    network = build_network(NETWORKS[kind].config(kind=kind, **{name: 0.2}), feat_dim=40, num_outputs=3)
    shared = [module for module in network.modules() if isinstance(module, SharedDropout)]
    with DropoutAnnealing(network, num_epochs=4).in_epoch(3):
        found = {*rates(network), *(module.alpha for module in shared)} - {0.0}
    assert found and all(rate == pytest.approx(0.05) for rate in found)


def test_without_dropout_there_is_nothing_to_anneal(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.annealed_epochs=3 .* the network has none .* set model\.dropout"):
        toy_train(tmp_path, toy_network(dropout=0.0), toy_config(annealed_epochs=3))
    with pytest.raises(ConfigError, match=r"training\.annealed_epochs must be 0 or more, got -1"):
        TrainingConfig(annealed_epochs=-1)
