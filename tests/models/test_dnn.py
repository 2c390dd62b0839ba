"""Of the DNN, beyond what all networks of layers promise (test_layered.py): any context, and its plain layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.errors import ModelError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.models.dnn import Activation, Dnn, DnnConfig


def small(**settings: object) -> Dnn:
    config = DnnConfig(**{"num_layers": 3, "hidden_dim": 7, "context": 2, **settings})  # type: ignore[arg-type]
    return Dnn(config, feat_dim=4, num_outputs=5, seed=3).eval()


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), context=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_whole_utterances_equal_windows(lengths: list[int], context: int) -> None:
    network = small(context=context)
    rng = np.random.default_rng(1)
    utterances = [rng.normal(size=(length, 4)).astype(np.float32) for length in lengths]
    frames = SplicedFrames(utterances, context)
    windows = network.forward_windows(frames.windows(torch.arange(frames.num_frames)))
    whole = torch.cat([network(torch.from_numpy(feats)[None])[0] for feats in utterances])
    torch.testing.assert_close(windows, whole)


@given(chunks=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), context=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_chunks_equal_the_whole(chunks: list[int], context: int) -> None:
    network = small(context=context)
    feats = torch.randn(2, sum(chunks), 4, generator=torch.Generator().manual_seed(0))
    stream = network.stream()
    parts = [stream.accept(chunk) for chunk in feats.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat([*parts, stream.finish()], dim=1), network(feats), rtol=1e-4, atol=1e-5)


def test_an_output_comes_as_soon_as_its_context_is_known() -> None:
    stream = small(context=2).stream()
    assert [stream.accept(torch.zeros(1, 1, 4)).shape[1] for _ in range(5)] == [0, 0, 1, 1, 1]
    assert stream.finish().shape[1] == 2


def trained(**settings: object) -> Dnn:
    """A network whose normalisations have seen something."""
    network = small(**settings)
    network.train()(2 * torch.randn(1, 50, 4) + 1)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", list(Activation))
def test_it_can_be_divided_above_every_layer(activation: Activation, batch_norm: bool) -> None:
    network, windows = trained(activation=activation, batch_norm=batch_norm, dropout=0.5), torch.randn(20, 5, 4)
    assert network.split_points == network.adaptation_sites
    for name in network.split_points:
        again = network.log_probs_from(name, network.output_of(name, windows))
        torch.testing.assert_close(again, network.forward_windows(windows))
    for call in (network.output_of, network.log_probs_from):
        with pytest.raises(ModelError, match=r"cannot be divided at 'output'; possible: layers\.0\.activation, "):
            call("output", windows)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", list(Activation))
def test_plain_layers_do_what_the_network_does(activation: Activation, batch_norm: bool) -> None:
    network, windows = trained(activation=activation, batch_norm=batch_norm, dropout=0.5), torch.randn(20, 5, 4)
    for index, name in enumerate(network.adaptation_sites):
        layers = network.plain_layers_above(name)
        assert layers is not None
        assert [layer.module for layer in layers] == [*network.adaptation_sites[index + 1 :], "output"]
        h = network.output_of(name, windows)
        for layer in layers:
            h = h @ layer.weight.t() + layer.bias
            h = h if layer.activation is None else layer.activation()(h)
        torch.testing.assert_close(torch.log_softmax(h, dim=-1), network.forward_windows(windows))


def test_layers_are_plain_only_where_nobody_has_touched_them() -> None:
    network = trained(dropout=0.5)
    assert network.plain_layers_above("layers.1.activation") is not None
    assert network.train().plain_layers_above("layers.1.activation") is None
    network.eval()
    hook = network.get_submodule("layers.2.linear").register_forward_hook(lambda *_: None)
    assert network.plain_layers_above("layers.1.activation") is None
    hook.remove()
    network.layers[2] = torch.nn.Sequential(torch.nn.Linear(7, 7))
    assert network.plain_layers_above("layers.1.activation") is None
    assert network.split_points == ("layers.0.activation", "layers.1.activation")
    windows = torch.randn(3, 5, 4)
    divided = network.log_probs_from("layers.1.activation", network.output_of("layers.1.activation", windows))
    torch.testing.assert_close(divided, network.forward_windows(windows))
