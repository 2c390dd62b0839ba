"""The recurrent network against plain numpy, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.network_promises import (
    DIM,
    assert_chunks_equal_the_whole,
    assert_no_frames_give_no_frames,
    assert_padding_does_not_matter,
    assert_padding_does_not_matter_in_training,
    assert_seed_decides,
    assert_signals_and_gradients_pass,
    assert_sites_act,
    speech,
)
from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.lhuc.probe import prove_sites_act
from lhuc_asr.models.blstm import Blstm, BlstmConfig

SHAPES = [(True, 0), (True, 3), (False, 0), (False, 3)]
"""Bidirectional or not, projection."""


def small(seed: int = 3, **settings: object) -> Blstm:
    config = BlstmConfig(**{"num_layers": 2, "hidden_dim": 5, **settings})  # type: ignore[arg-type]
    return Blstm(config, feat_dim=DIM, num_outputs=6, seed=seed).eval()


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def one_direction(weights: dict[str, np.ndarray], name: str, suffix: str, x_TD: np.ndarray) -> np.ndarray:
    """Input, forget and output gates and cells, frame after frame, in float64."""
    own = {part: weights.get(f"{name}.{part}{suffix}") for part in ("weight_ih_l0", "weight_hh_l0", "weight_hr_l0")}
    bias = weights[f"{name}.bias_ih_l0{suffix}"] + weights[f"{name}.bias_hh_l0{suffix}"]
    h, c, outputs = np.zeros(own["weight_hh_l0"].shape[1]), np.zeros(len(bias) // 4), []
    for x in x_TD:
        i, f, g, o = np.split(own["weight_ih_l0"] @ x + own["weight_hh_l0"] @ h + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        h = h if own["weight_hr_l0"] is None else own["weight_hr_l0"] @ h
        outputs.append(h)
    return np.array(outputs)


@pytest.mark.parametrize(("bidirectional", "projection_dim"), SHAPES)
@pytest.mark.parametrize("subsampling", [1, 3])
def test_forward_equals_plain_numpy(bidirectional: bool, projection_dim: int, subsampling: int) -> None:
    network = small(bidirectional=bidirectional, projection_dim=projection_dim, subsampling=subsampling)
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    (feats,) = speech(6)
    rows = [[max(0, t - back) for back in reversed(range(subsampling))] for t in range(0, 6, subsampling)]
    h = feats.double().numpy()[rows].reshape(len(rows), -1)
    for name in network.adaptation_sites:
        forward = one_direction(weights, name, "", h)
        backward = [one_direction(weights, name, "_reverse", h[::-1])[::-1]] if bidirectional else []
        h = np.concatenate([forward, *backward], axis=1)
    z = h @ weights["output.weight"].T + weights["output.bias"]
    expected = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(network(feats[None])[0].detach(), expected, atol=1e-5)


@pytest.mark.parametrize(("bidirectional", "projection_dim"), SHAPES)
@pytest.mark.parametrize("subsampling", [1, 2, 3])
def test_padding_does_not_matter(bidirectional: bool, projection_dim: int, subsampling: int) -> None:
    network = small(bidirectional=bidirectional, projection_dim=projection_dim, subsampling=subsampling)
    assert_padding_does_not_matter(network, [4, 9, 1])
    assert_padding_does_not_matter_in_training(network)
    assert_no_frames_give_no_frames(network)


def test_a_batch_may_hold_an_utterance_without_frames() -> None:
    network, feats = small(), torch.stack(speech(5, 5))
    torch.testing.assert_close(network(feats, torch.tensor([0, 5]))[1], network(feats[1:])[0])


def test_windows_are_refused() -> None:
    network = small()
    assert not network.has_windows and network.split_points == ()
    with pytest.raises(ModelError, match="has no windows"):
        network.forward_windows(torch.zeros(2, 3, DIM))
    with pytest.raises(ModelError, match="has no windows"):
        _ = network.context


@given(
    projection_dim=st.sampled_from([0, 3]),
    subsampling=st.integers(1, 4),
    chunks=st.lists(st.integers(0, 7), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 0),
)
@settings(max_examples=25, deadline=None)
def test_chunks_equal_the_whole(projection_dim: int, subsampling: int, chunks: list[int]) -> None:
    network = small(bidirectional=False, projection_dim=projection_dim, subsampling=subsampling)
    assert_chunks_equal_the_whole(network, chunks)


def test_streams_that_cannot_be_are_refused() -> None:
    with pytest.raises(ModelError, match="backward"):
        small().stream()
    with pytest.raises(ModelError, match="evaluation mode"):
        small(bidirectional=False).train().stream()


@pytest.mark.parametrize(("bidirectional", "projection_dim"), SHAPES)
def test_units_are_sites(bidirectional: bool, projection_dim: int) -> None:
    network = small(bidirectional=bidirectional, projection_dim=projection_dim, dropout=0.2)
    width = (projection_dim or 5) * (2 if bidirectional else 1)
    assert network.adaptation_sites == ("layers.0", "layers.1")
    assert_sites_act(network, [width, width])


def test_units_are_sites_of_streams() -> None:
    network = small(bidirectional=False).requires_grad_(False)
    streaming = Example((torch.randn(1, 5, DIM),), call=lambda net, chunk: net.stream().accept(chunk))
    sites = choose_sites(network, network.adaptation_sites, [])
    prove_sites_act(network, sites, torch.randn(2, 9, DIM), also={"streaming": streaming}, modes=["evaluation"])


def test_seed_decides() -> None:
    assert_seed_decides(lambda seed: small(seed, projection_dim=3))


def test_forget_gates_begin_open() -> None:
    bias = small().get_parameter("layers.0.bias_ih_l0") + small().get_parameter("layers.0.bias_hh_l0")
    assert bias.tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10


@pytest.mark.parametrize("projection_dim", [0, 16])
def test_signals_and_gradients_pass(projection_dim: int) -> None:
    network = small(num_layers=4, hidden_dim=32, projection_dim=projection_dim)
    assert_signals_and_gradients_pass(network, [f"layers.{layer}.weight_ih_l0" for layer in range(4)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_layers": 0},
        {"hidden_dim": 0},
        {"projection_dim": 320},
        {"projection_dim": -1},
        {"subsampling": 0},
        {"dropout": 1.0},
    ],
)
def test_impossible_shapes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"model.{next(iter(wrong))}"):
        BlstmConfig(**wrong)  # type: ignore[arg-type]
