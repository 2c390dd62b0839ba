"""The time-delay network against plain numpy, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.network_promises import (
    DIM,
    assert_can_be_divided_at,
    assert_signals_and_gradients_pass,
    assert_sites_act,
    speech,
)
from helpers.time_delay_networks import SHAPES, small_tdnn
from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.lhuc.probe import prove_sites_act
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig


def by_hand(network: Tdnn, feats_TF: np.ndarray, t: int) -> np.ndarray:
    """Output for frame t, recursively from frame to frame at the full rate, in float64."""
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}

    def units(layer: int, s: int) -> np.ndarray:
        if layer < 0:
            return feats_TF[min(max(s, 0), len(feats_TF) - 1)].astype(np.float64)
        dilation = network.config.dilations[layer]
        seen = [s - dilation, s, s + dilation] if dilation else [s]
        kernel = weights[f"layers.{layer}.conv.weight"]
        z = weights[f"layers.{layer}.conv.bias"] + sum(
            kernel[:, :, place] @ units(layer - 1, frame) for place, frame in enumerate(seen)
        )
        norm = {name: weights[f"layers.{layer}.norm.{name}"] for name in ("running_mean", "running_var")}
        return (np.maximum(z, 0) - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5)

    z = weights["output.weight"][:, :, 0] @ units(len(network.layers) - 1, t) + weights["output.bias"]
    return z - np.log(np.exp(z).sum())


@pytest.mark.parametrize(("dilations", "subsampling"), SHAPES)
def test_forward_equals_plain_numpy(dilations: list[int], subsampling: int) -> None:
    network = small_tdnn(dilations=dilations, subsampling=subsampling)
    for num_frames in (1, 8):
        (feats,) = speech(num_frames)
        expected = [by_hand(network, feats.numpy(), t) for t in range(0, num_frames, subsampling)]
        np.testing.assert_allclose(network(feats[None])[0].detach(), np.array(expected), atol=1e-5)


def test_an_utterance_without_frames_leaves_training_as_it_is() -> None:
    first, second = small_tdnn().train(), small_tdnn().train()
    feats = torch.stack(speech(6, 6))
    log_probs = first(feats, torch.tensor([6, 0]))
    torch.testing.assert_close(log_probs[0], second(feats[:1], torch.tensor([6]))[0])


def test_upper_layers_work_at_a_third_of_the_rate() -> None:
    network = small_tdnn(dilations=[1, 1, 3, 3], subsampling=3)
    seen = []
    for name in network.adaptation_sites:
        network.get_submodule(name).register_forward_hook(lambda *arguments: seen.append(arguments[2].shape[2]))
    network(torch.zeros(1, 30, DIM))
    assert seen == [30 + 2 * 7, 30 + 2 * 6, 12, 10]


def test_an_output_comes_as_soon_as_its_context_is_known() -> None:
    stream = small_tdnn().stream()
    assert [stream.accept(torch.zeros(1, 1, DIM)).shape[1] for _ in range(6)] == [0, 0, 0, 1, 1, 1]
    assert stream.finish().shape[1] == 3


def test_misused_streams_are_refused() -> None:
    network = small_tdnn()
    with pytest.raises(ModelError, match="no frame has come"):
        network.stream().finish()
    stream = network.stream()
    stream.accept(torch.zeros(1, 3, DIM))
    stream.finish()
    for late in (stream.finish, lambda: stream.accept(torch.zeros(1, 3, DIM))):
        with pytest.raises(ModelError, match="finished"):
            late()
    with pytest.raises(ModelError, match="evaluation mode"):
        network.train().stream()


@pytest.mark.parametrize("subsampling", [1, 3])
def test_units_are_sites(subsampling: int) -> None:
    network = small_tdnn(dilations=[1, 3, 3], subsampling=subsampling, dropout=0.2)
    assert network.adaptation_sites == tuple(f"layers.{index}.activation" for index in range(3))
    assert_sites_act(network, [7, 7, 7])
    sites = choose_sites(network, network.adaptation_sites, [])
    streaming = Example((torch.randn(1, 30, DIM),), call=lambda net, chunk: net.stream().accept(chunk))
    prove_sites_act(network, sites, torch.randn(2, 9, DIM), also={"streaming": streaming}, modes=["evaluation"])


@pytest.mark.parametrize(("dilations", "subsampling"), SHAPES)
def test_it_can_be_divided_above_every_layer(dilations: list[int], subsampling: int) -> None:
    network = small_tdnn(dilations=dilations, subsampling=subsampling, dropout=0.2)
    assert_can_be_divided_at(network, network.adaptation_sites)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_signals_and_gradients_pass(batch_norm: bool) -> None:
    network = Tdnn(TdnnConfig(hidden_dim=64, batch_norm=batch_norm), DIM, 20)
    assert_signals_and_gradients_pass(network, [f"layers.{layer}.conv.weight" for layer in range(6)])


@pytest.mark.parametrize(
    "wrong", [{"hidden_dim": 0}, {"dilations": []}, {"dilations": [-1]}, {"subsampling": 0}, {"dropout": 1.0}]
)
def test_impossible_shapes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"model.{next(iter(wrong))}"):
        TdnnConfig(**wrong)  # type: ignore[arg-type]
