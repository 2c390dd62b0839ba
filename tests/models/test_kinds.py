"""What holds for every kind of network, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.network_promises import (
    DIM,
    assert_no_frames_give_no_frames,
    assert_padding_does_not_matter,
    assert_padding_does_not_matter_in_training,
    speech,
)
from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.models.kinds import NETWORKS, NetworkKind, build_network
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.streaming import log_probs_of
from lhuc_asr.models.weights import load_weights
from lhuc_asr.tensors import load_tensors, save_tensors

SMALL: dict[NetworkKind, dict[str, Any]] = {
    NetworkKind.dnn: {"num_layers": 2, "hidden_dim": 7, "context": 2},
    NetworkKind.cnn: {"num_layers": 1, "hidden_dim": 7, "num_filters": 5, "filter_bands": 3, "pool_bands": 2},
    NetworkKind.maxout: {"num_layers": 2, "hidden_dim": 7, "context": 2},
    NetworkKind.maxout_cnn: {"num_layers": 1, "hidden_dim": 7, "num_filters": 5, "filter_bands": 3, "pool_bands": 2},
    NetworkKind.tdnn: {"hidden_dim": 7, "dilations": [1, 3, 3], "subsampling": 3},
    NetworkKind.tdnnf: {"hidden_dim": 7, "bottleneck_dim": 3, "dilations": [1, 0, 3], "subsampling": 3},
    NetworkKind.blstm: {"num_layers": 2, "hidden_dim": 5, "subsampling": 2},
    NetworkKind.conformer: {
        "num_layers": 2,
        "stream_dim": 6,
        "hidden_dim": 7,
        "num_heads": 2,
        "kernel_size": 3,
        "num_channels": 3,
        "subsampling": 3,
        "dropout": 0.0,
    },
}


def small(kind: NetworkKind, *, seed: int = 3, **settings: Any) -> AcousticNetwork:
    config = NETWORKS[kind].config(kind=kind, **{**SMALL[kind], **settings})
    return build_network(config, DIM, 6, seed=seed).eval()


@pytest.mark.parametrize("kind", NetworkKind)
def test_a_network_says_what_it_is(kind: NetworkKind) -> None:
    network = small(kind)
    assert type(network) is NETWORKS[kind].network
    assert type(network.config) is NETWORKS[kind].config and network.config.kind is kind
    assert (network.feat_dim, network.num_outputs) == (DIM, 6)
    assert network.subsampling == SMALL[kind].get("subsampling", 1)
    if network.has_windows:
        assert network.forward_windows(torch.zeros(4, 2 * network.context + 1, DIM)).shape == (4, 6)
    else:
        with pytest.raises(ModelError, match="has no windows"):
            _ = network.context


@pytest.mark.parametrize("kind", NetworkKind)
def test_without_settings_there_is_a_network_too(kind: NetworkKind) -> None:
    assert NETWORKS[kind].config(kind=kind).kind is kind


@pytest.mark.parametrize("kind", NetworkKind)
@pytest.mark.parametrize("other", NetworkKind)
def test_settings_of_one_kind_are_not_those_of_another(kind: NetworkKind, other: NetworkKind) -> None:
    if other is kind:
        return
    with pytest.raises(ConfigError, match=f"settings of a network of kind {kind.name}, not {other.name}"):
        NETWORKS[kind].config(kind=other)


@pytest.mark.parametrize("kind", NetworkKind)
def test_padding_does_not_matter(kind: NetworkKind) -> None:
    assert_padding_does_not_matter(small(kind), [4, 9, 1, 6])
    assert_padding_does_not_matter_in_training(small(kind))
    assert_no_frames_give_no_frames(small(kind))


@pytest.mark.parametrize("kind", NetworkKind)
def test_lengths_are_needed_for_padding_only(kind: NetworkKind) -> None:
    network, feats = small(kind), torch.stack(speech(10, 10))
    lens = torch.tensor([10, 10])
    torch.testing.assert_close(network(feats), network(feats, lens))
    assert network(feats).shape[1] == int(network.output_lens(lens)[0]) == -(-10 // network.subsampling)


@pytest.mark.parametrize("kind", NetworkKind)
def test_a_checkpoint_round_trip_changes_nothing(kind: NetworkKind, tmp_path: Path) -> None:
    network, other, feats = small(kind), small(kind, seed=8), torch.stack(speech(10, 10))
    network.train()(feats)  # statistics of a normalisation change, where there are any
    assert not torch.equal(network.eval()(feats), other(feats))
    save_tensors(network.state_dict(), tmp_path / "network.safetensors")
    load_weights(other, load_tensors(tmp_path / "network.safetensors"), source="network.safetensors")
    assert torch.equal(network(feats), other(feats))


STREAMS: dict[NetworkKind, dict[str, Any]] = {
    NetworkKind.blstm: {"bidirectional": False},
    NetworkKind.conformer: {"chunk_size": 2, "num_left_chunks": 1},
}
"""What these kinds need, to follow speech as it comes."""


@pytest.mark.parametrize("num_frames", [5, 40, 41])
@pytest.mark.parametrize("kind", NetworkKind)
def test_long_speech_in_parts_gives_what_it_gives_at_once(kind: NetworkKind, num_frames: int) -> None:
    network = small(kind, **STREAMS.get(kind, {})).requires_grad_(False)
    (feats,) = speech(num_frames, seed=4)
    seen = widest_inputs(network)
    whole = network(feats[None])
    most, seen[:] = max(seen), []
    parts = log_probs_of(network, feats[None], longest=7)
    assert num_frames <= 7 or max(seen) < most, "no more is computed at once than a part needs"
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    sites = choose_sites(network, network.adaptation_sites, [])
    generator = torch.Generator().manual_seed(1)
    scales = {site.name: torch.randn(site.units, generator=generator) for site in sites}
    with LhucAdapter(scales, layouts={site.name: site.layout for site in sites}).attached(network):
        adapted = network(feats[None])
        torch.testing.assert_close(log_probs_of(network, feats[None], longest=7), adapted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(adapted, whole, atol=1e-3)


def widest_inputs(network: AcousticNetwork) -> list[int]:
    """Numbers in the input of each linear layer, convolution or LSTM, as they are computed."""
    seen: list[int] = []
    for module in network.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv1d | torch.nn.LSTM):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(size_of(inputs[0])))
    return seen


def size_of(value: Any) -> int:
    """Of a tensor, or of a packed sequence."""
    return int((value if isinstance(value, torch.Tensor) else value.data).numel())


@pytest.mark.parametrize("kind", NetworkKind)
def test_streams_begin_with_a_frame_and_end_once(kind: NetworkKind) -> None:
    network = small(kind, **STREAMS.get(kind, {}))
    (feats,) = speech(3, seed=4)
    with pytest.raises(ModelError, match="evaluation mode"):
        network.train().stream()
    stream = network.eval().stream()
    assert stream.accept(feats[None, :0]).shape == (1, 0, network.num_outputs)
    with pytest.raises(ModelError, match="no frame has come"):
        stream.finish()
    stream.accept(feats[None])
    stream.finish()
    with pytest.raises(ModelError, match="is finished already"):
        stream.finish()
    with pytest.raises(ModelError, match="begin another one"):
        stream.accept(feats[None])


@pytest.mark.parametrize("kind", STREAMS)
def test_speech_is_seen_at_once_where_that_matters(kind: NetworkKind) -> None:
    network = small(kind)
    assert not network.can_stream
    with pytest.raises(ModelError, match="stream"):
        network.stream()
    (feats,) = speech(40, seed=4)
    assert torch.equal(log_probs_of(network, feats[None], longest=7), network(feats[None]))
