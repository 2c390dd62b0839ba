"""The Conformer against torchaudio's and plain numpy, and what it promises."""

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
from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.models.conformer import Conformer, sinusoids
from lhuc_asr.models.conformer_config import ConformerConfig, Positions
from lhuc_asr.models.conformer_layers import ConformerLayer

SHAPE = {"num_layers": 2, "stream_dim": 6, "hidden_dim": 7, "num_heads": 2, "kernel_size": 5, "num_channels": 3}


def small(seed: int = 3, **settings: object) -> Conformer:
    config = ConformerConfig(**{**SHAPE, "dropout": 0.0, **settings})  # type: ignore[arg-type]
    return Conformer(config, feat_dim=DIM, num_outputs=6, seed=seed).eval()


NAMES = {
    "feed_forward{0}.norm": "ffn{0}.sequential.0",
    "feed_forward{0}.linear": "ffn{0}.sequential.1",
    "feed_forward{0}.back": "ffn{0}.sequential.4",
    "attention.norm": "self_attn_layer_norm",
    "attention.query_key_value": "self_attn.in_proj_",
    "attention.back": "self_attn.out_proj",
    "convolution.norm": "conv_module.layer_norm",
    "convolution.gate": "conv_module.sequential.0",
    "convolution.conv": "conv_module.sequential.2",
    "convolution.frame_norm": "conv_module.sequential.3",
    "convolution.back": "conv_module.sequential.5",
    "norm": "final_layer_norm",
}
"""Part of our layer -> the same part of torchaudio's."""


def theirs(layer: ConformerLayer) -> torch.nn.Module:
    """torchaudio's layer with our weights."""
    names = {ours.format(i): other.format(i) for ours, other in NAMES.items() for i in (1, 2)}
    other = import_torchaudio("models.conformer").ConformerLayer(6, 7, 2, 5).eval()
    expected, weights = other.state_dict(), {}
    for name, tensor in layer.state_dict().items():
        part, _, last = name.rpartition(".")
        full = names[part] + last if names[part].endswith("_") else f"{names[part]}.{last}"
        weights[full] = tensor.reshape(expected[full].shape)
    other.load_state_dict(weights)
    return other


def test_layers_equal_torchaudios() -> None:
    network = small()
    with torch.no_grad():
        network.train()(torch.stack(speech(9, 9)))  # statistics that are not those of the beginning
    for layer in network.eval().layers:
        for parameter in layer.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        x = torch.randn(2, 9, 6)
        expected = theirs(layer)(x.transpose(0, 1), None).transpose(0, 1)
        torch.testing.assert_close(layer(x, None), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("subsampling", [1, 2, 3, 4])
def test_the_front_end_equals_loops(subsampling: int) -> None:
    network = small(subsampling=subsampling)
    weights = {name: tensor.double().numpy() for name, tensor in network.front_end.state_dict().items()}
    (feats,) = speech(7)
    x = feats.double().numpy()[None]
    for layer, stride in enumerate({1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2)}[subsampling]):
        x = np.pad(x, [(0, 0), (1, 1), (1, 1)])
        filters, bias = weights[f"convs.{layer}.weight"], weights[f"convs.{layer}.bias"]
        places = [range(0, x.shape[1] - 2, stride), range(0, x.shape[2] - 2, 2)]
        x = np.array(
            [
                [[max(0.0, (kernel * x[:, t : t + 3, f : f + 3]).sum() + b) for f in places[1]] for t in places[0]]
                for kernel, b in zip(filters, bias, strict=True)
            ]
        )
    expected = np.stack([x[:, t].reshape(-1) for t in range(x.shape[1])]) @ weights["linear.weight"].T
    given, lens = network.front_end(feats[None], torch.tensor([7]))
    assert lens.tolist() == [given.shape[1]] == [-(-7 // subsampling)]
    np.testing.assert_allclose(given[0].detach(), expected + weights["linear.bias"], atol=1e-5)


def test_positions_are_waves() -> None:
    waves = sinusoids(torch.zeros(1, 50, 6)).numpy()
    rates = 10000.0 ** -(np.arange(3) / 3)
    angles = np.arange(50)[:, None] * rates
    np.testing.assert_allclose(waves, np.concatenate([np.sin(angles), np.cos(angles)], axis=1), atol=1e-5)
    assert sinusoids(torch.zeros(1, 4, 5)).shape == (4, 5)


@pytest.mark.parametrize("positions", Positions)
def test_only_positions_tell_order_where_nothing_else_does(positions: Positions) -> None:
    """Filters of one frame, and speech that stands still but for one frame: does it matter where that one is?"""
    network = small(kernel_size=1, positions=positions)
    still = torch.ones(1, 30, DIM)
    early, late = still.clone(), still.clone()
    early[:, 10], late[:, 20] = 2.0, 2.0
    same = torch.allclose(network(early)[:, 0], network(late)[:, 0], atol=1e-6)
    assert same is (positions is Positions.none)


@pytest.mark.parametrize("subsampling", [1, 2, 3, 4])
@pytest.mark.parametrize("positions", Positions)
def test_padding_does_not_matter(subsampling: int, positions: Positions) -> None:
    network = small(subsampling=subsampling, positions=positions)
    assert_padding_does_not_matter(network, [4, 9, 1, 13])
    assert_padding_does_not_matter_in_training(network)
    assert_no_frames_give_no_frames(network)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    subsampling=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_padding_does_not_matter_for_any_lengths(lengths: list[int], subsampling: int) -> None:
    assert_padding_does_not_matter(small(subsampling=subsampling), lengths)


def test_a_batch_may_hold_an_utterance_without_frames() -> None:
    network, feats = small(), torch.stack(speech(5, 5))
    log_probs = network(feats, torch.tensor([0, 5]))
    assert torch.isfinite(log_probs).all()
    torch.testing.assert_close(log_probs[1], network(feats[1:])[0])


def test_every_output_sees_all_frames() -> None:
    feats = speech(60)[0].requires_grad_()
    small()(feats[None])[0, 0, 0].backward()
    assert feats.grad is not None and (feats.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("subsampling", [1, 3])
def test_units_are_sites(subsampling: int) -> None:
    network = small(subsampling=subsampling, dropout=0.2)
    parts = ("feed_forward1", "feed_forward2")
    assert network.adaptation_sites == tuple(f"layers.{i}.{part}.activation" for i in (0, 1) for part in parts)
    assert_sites_act(network, [7, 7, 7, 7])


def test_seed_decides() -> None:
    assert_seed_decides(small)


def test_signals_and_gradients_pass() -> None:
    network = small(num_layers=4, stream_dim=16, hidden_dim=32)
    weights = [f"layers.{layer}.feed_forward1.linear.weight" for layer in range(4)]
    assert_signals_and_gradients_pass(network, weights)


def test_it_learns() -> None:
    shape = {"stream_dim": 32, "hidden_dim": 64, "num_channels": 8}
    network = small(**shape).train()
    feats = torch.stack(speech(*[30] * 6, seed=4))
    targets = (feats @ torch.randn(DIM, 6, generator=torch.Generator().manual_seed(1))).argmax(dim=-1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(network(feats).transpose(1, 2), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], losses


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"num_layers": 0}, "model.num_layers"),
        ({"hidden_dim": 0}, "model.hidden_dim"),
        ({"stream_dim": 0}, "model.stream_dim"),
        ({"num_heads": 0}, "model.num_heads"),
        ({"num_heads": 5}, "model.stream_dim=144 cannot be divided among model.num_heads=5"),
        ({"kernel_size": 4}, "model.kernel_size must be odd"),
        ({"num_channels": 0}, "model.num_channels"),
        ({"subsampling": 5}, r"model.subsampling must be one of \[1, 2, 3, 4\], got 5"),
        ({"subsampling": 0}, "model.subsampling"),
        ({"dropout": 1.0}, "model.dropout"),
    ],
)
def test_impossible_shapes_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ConformerConfig(**wrong)  # type: ignore[arg-type]


CHUNKS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 0)


@settings(max_examples=40)
@given(CHUNKS, st.sampled_from([1, 2, 3, 4]), st.integers(1, 4), st.integers(0, 2), st.sampled_from(Positions))
def test_chunks_equal_the_whole(
    chunks: list[int], subsampling: int, chunk_size: int, num_left: int, positions: Positions
) -> None:
    network = small(subsampling=subsampling, chunk_size=chunk_size, num_left_chunks=num_left, positions=positions)
    with torch.no_grad():
        assert_chunks_equal_the_whole(network, chunks)


def test_nothing_is_seen_of_what_comes_after_the_chunk() -> None:
    network = small(chunk_size=3, num_left_chunks=1)
    feats = torch.stack(speech(12, seed=5)).requires_grad_()
    for output in range(12):
        (gradient,) = torch.autograd.grad(network(feats)[0, output].square().sum(), feats)
        seen = gradient[0].abs().sum(dim=1).nonzero().flatten()
        assert seen.max() < 3 * (output // 3 + 1)


def test_padding_does_not_matter_to_networks_with_chunks() -> None:
    network = small(chunk_size=2, num_left_chunks=1, subsampling=2)
    assert_padding_does_not_matter(network, [4, 9, 1, 13])
    assert_padding_does_not_matter_in_training(network)


def test_streams_that_cannot_be_are_refused() -> None:
    with pytest.raises(ModelError, match="sees whole utterances cannot follow a stream: train it with chunk_size"):
        small().stream()
    with pytest.raises(ModelError, match=r"evaluation mode"):
        small(chunk_size=2).train().stream()
    stream = small(chunk_size=2).stream()
    with pytest.raises(ModelError, match="no frame has come"):
        stream.finish()
    stream.accept(torch.zeros(1, 3, DIM))
    assert stream.finish().shape == (1, 1, 6)
    with pytest.raises(ModelError, match="is finished"):
        stream.accept(torch.zeros(1, 3, DIM))
    for wrong in ({"chunk_size": -1}, {"num_left_chunks": -1}):
        with pytest.raises(ConfigError, match="must be 0 or more, got -1"):
            small(**wrong)
