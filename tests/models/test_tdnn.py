"""The time-delay network against plain numpy, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.network_promises import (
    DIM,
    assert_can_be_divided_at,
    assert_chunks_equal_the_whole,
    assert_no_frames_give_no_frames,
    assert_padding_does_not_matter,
    assert_padding_does_not_matter_in_training,
    assert_seed_decides,
    assert_signals_and_gradients_pass,
    assert_sites_act,
    assert_speakers_learn,
    assert_windows_equal_whole_utterances,
    speech,
)
from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.lhuc.probe import prove_sites_act
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig

SHAPES = [([1, 0, 2], 1), ([1, 3, 0, 3], 3), ([3, 3], 3), ([1, 2], 3), ([2], 2), ([0], 1)]
"""Dilations and sub-sampling: with frames left out at the bottom, in the middle and below the output."""


def small(seed: int = 3, **settings: object) -> Tdnn:
    config = TdnnConfig(**{"hidden_dim": 7, "dilations": [1, 0, 2], **settings})  # type: ignore[arg-type]
    network = Tdnn(config, feat_dim=DIM, num_outputs=6, seed=seed)
    shake_statistics(network, seed)
    return network.eval()


def shake_statistics(network: torch.nn.Module, seed: int) -> None:
    """Give normalisations something to do."""
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))


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
    network = small(dilations=dilations, subsampling=subsampling)
    for num_frames in (1, 8):
        (feats,) = speech(num_frames)
        expected = [by_hand(network, feats.numpy(), t) for t in range(0, num_frames, subsampling)]
        np.testing.assert_allclose(network(feats[None])[0].detach(), np.array(expected), atol=1e-5)


@pytest.mark.parametrize(("dilations", "subsampling"), SHAPES)
def test_padding_and_windows(dilations: list[int], subsampling: int) -> None:
    network = small(dilations=dilations, subsampling=subsampling)
    assert network.context == sum(dilations)
    assert_padding_does_not_matter(network, [11, 4, 1])
    assert_windows_equal_whole_utterances(network, [11, 4, 1])
    assert_no_frames_give_no_frames(network)


@pytest.mark.parametrize(("dilations", "subsampling"), SHAPES)
def test_padding_does_not_matter_in_training(dilations: list[int], subsampling: int) -> None:
    assert_padding_does_not_matter_in_training(small(dilations=dilations, subsampling=subsampling))


def test_an_utterance_without_frames_leaves_training_as_it_is() -> None:
    first, second = small().train(), small().train()
    feats = torch.stack(speech(6, 6))
    log_probs = first(feats, torch.tensor([6, 0]))
    torch.testing.assert_close(log_probs[0], second(feats[:1], torch.tensor([6]))[0])


def test_upper_layers_work_at_a_third_of_the_rate() -> None:
    network = small(dilations=[1, 1, 3, 3], subsampling=3)
    seen = []
    for name in network.adaptation_sites:
        network.get_submodule(name).register_forward_hook(lambda *arguments: seen.append(arguments[2].shape[2]))
    network(torch.zeros(1, 30, DIM))
    assert seen == [30 + 2 * 7, 30 + 2 * 6, 12, 10]


@given(
    shape=st.sampled_from(SHAPES),
    chunks=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 0),
)
@settings(max_examples=40, deadline=None)
def test_chunks_equal_the_whole(shape: tuple[list[int], int], chunks: list[int]) -> None:
    assert_chunks_equal_the_whole(small(dilations=shape[0], subsampling=shape[1]), chunks)


def test_an_output_comes_as_soon_as_its_context_is_known() -> None:
    stream = small().stream()
    assert [stream.accept(torch.zeros(1, 1, DIM)).shape[1] for _ in range(6)] == [0, 0, 0, 1, 1, 1]
    assert stream.finish().shape[1] == 3


def test_misused_streams_are_refused() -> None:
    network = small()
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
    network = small(dilations=[1, 3, 3], subsampling=subsampling, dropout=0.2)
    assert network.adaptation_sites == tuple(f"layers.{index}.activation" for index in range(3))
    assert_sites_act(network, [7, 7, 7])
    sites = choose_sites(network, network.adaptation_sites, [])
    streaming = Example((torch.randn(1, 30, DIM),), call=lambda net, chunk: net.stream().accept(chunk))
    prove_sites_act(network, sites, torch.randn(2, 9, DIM), also={"streaming": streaming}, modes=["evaluation"])


@pytest.mark.parametrize(("dilations", "subsampling"), SHAPES)
def test_it_can_be_divided_above_every_layer(dilations: list[int], subsampling: int) -> None:
    network = small(dilations=dilations, subsampling=subsampling, dropout=0.2)
    assert_can_be_divided_at(network, network.adaptation_sites)


def test_speakers_learn_from_windows() -> None:
    assert_speakers_learn(small(dilations=[1, 3, 3], subsampling=3))
    assert_speakers_learn(small())


def test_seed_decides() -> None:
    assert_seed_decides(lambda seed: Tdnn(TdnnConfig(hidden_dim=7, dilations=[1, 2]), DIM, 6, seed=seed))


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
