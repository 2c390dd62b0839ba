"""What networks of fully connected layers promise, of whatever units and with or without filters below them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from helpers.network_promises import (
    DIM,
    assert_can_be_divided_at,
    assert_chunks_equal_the_whole,
    assert_no_frames_give_no_frames,
    assert_padding_does_not_matter,
    assert_seed_decides,
    assert_signals_and_gradients_pass,
    assert_sites_act,
    assert_speakers_learn,
    assert_windows_equal_whole_utterances,
    speech,
)
from lhuc_asr.errors import ConfigError
from lhuc_asr.models.dnn import Activation
from lhuc_asr.models.kinds import NETWORKS, NetworkKind
from lhuc_asr.models.layered import LayeredNetwork

SHAPE = {"num_layers": 2, "hidden_dim": 7, "context": 1}
FILTERS = {"num_filters": 5, "filter_bands": 3, "pool_bands": 2}
FILTERING = [NetworkKind.cnn, NetworkKind.maxout_cnn]
KINDS = [NetworkKind.dnn, NetworkKind.maxout, *FILTERING]
VARIANTS: list[tuple[NetworkKind, dict[str, Any]]] = [
    *((kind, {}) for kind in KINDS),
    *((kind, {"batch_norm": True}) for kind in (NetworkKind.dnn, NetworkKind.cnn)),
    *((kind, {"num_pieces": 3}) for kind in (NetworkKind.maxout, NetworkKind.maxout_cnn)),
    *((kind, {"num_streams": 2}) for kind in FILTERING),
]


def small(kind: NetworkKind, *, seed: int = 3, **settings: Any) -> LayeredNetwork[Any]:
    shape = {**SHAPE, **(FILTERS if kind in FILTERING else {}), **settings}
    network = NETWORKS[kind].network(NETWORKS[kind].config(kind=kind, **shape), DIM, 6, seed=seed)
    assert isinstance(network, LayeredNetwork)
    return network.eval()


def by_hand(network: LayeredNetwork[Any], feats_TF: np.ndarray) -> np.ndarray:
    """Splice, units, softmax in float64; filters are units that look at one place after another."""
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}

    def units(layer: int, x: np.ndarray) -> np.ndarray:
        """The highest of the linear functions of each unit, or the sigmoid of the only one."""
        names = {name.rpartition(".")[0] for name in weights if name.startswith(f"layers.{layer}.")}
        sums = [weights[f"{name}.weight"].reshape(-1, x.size) @ x + weights[f"{name}.bias"] for name in names]
        return np.max(sums, axis=0) if "maxout" in network.config.kind.name else 1 / (1 + np.exp(-sums[0]))

    def pooled(x: np.ndarray) -> np.ndarray:
        """The best of two neighbouring places of every filter; windows and streams are the filters' channels."""
        bands = x.reshape(3 * network.config.num_streams, -1)
        maps = np.stack([units(0, bands[:, place : place + 3].ravel()) for place in range(bands.shape[1] - 2)], axis=1)
        return np.concatenate([[max(row[2 * s : 2 * s + 2]) for s in range(len(row) // 2)] for row in maps])

    outputs = []
    for t in range(len(feats_TF)):
        rows = [min(max(s, 0), len(feats_TF) - 1) for s in (t - 1, t, t + 1)]
        h = feats_TF[rows].astype(np.float64).ravel()
        for layer in range(len(network.layers)):
            h = pooled(h) if layer == 0 and network.config.kind in FILTERING else units(layer, h)
        z = weights["output.weight"] @ h + weights["output.bias"]
        outputs.append(z - np.log(np.exp(z).sum()))
    return np.array(outputs)


@pytest.mark.parametrize("num_frames", [1, 6])
@pytest.mark.parametrize(("kind", "settings"), [variant for variant in VARIANTS if "batch_norm" not in variant[1]])
def test_forward_equals_plain_numpy(kind: NetworkKind, settings: dict[str, Any], num_frames: int) -> None:
    network = small(kind, **settings)
    (feats,) = speech(num_frames)
    np.testing.assert_allclose(network(feats[None])[0].detach(), by_hand(network, feats.numpy()), atol=1e-5)


@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_padding_and_windows(kind: NetworkKind, settings: dict[str, Any]) -> None:
    network = small(kind, **settings)
    assert_padding_does_not_matter(network, [9, 4, 1])
    assert_windows_equal_whole_utterances(network, [9, 4, 1])
    assert_no_frames_give_no_frames(network)


@pytest.mark.parametrize("chunks", [[1], [4, 0, 9], [1, 1, 1, 1, 1], [20, 3]])
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_equal_the_whole(kind: NetworkKind, chunks: list[int]) -> None:
    assert_chunks_equal_the_whole(small(kind), chunks)


@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_units_are_sites(kind: NetworkKind, settings: dict[str, Any]) -> None:
    network = small(kind, dropout=0.2, **settings)
    units = [5, 7, 7] if kind in FILTERING else [7, 7]
    assert network.adaptation_sites == tuple(f"layers.{index}.activation" for index in range(len(units)))
    assert_sites_act(network, units)


@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_it_can_be_divided_above_every_layer(kind: NetworkKind, settings: dict[str, Any]) -> None:
    network = small(kind, dropout=0.2, **settings)
    assert_can_be_divided_at(network, network.adaptation_sites)
    lowest = network.output_of("layers.0.activation", torch.zeros(4, 3, DIM))
    assert lowest.shape[:2] == (4, 5 if kind in FILTERING else 7)
    assert lowest.dim() == (3 if kind in FILTERING else 2), "filters have a feature map each"
    assert (network.plain_layers_above("layers.0.activation") is not None) is (kind is NetworkKind.dnn)


@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_speakers_learn_from_windows(kind: NetworkKind, settings: dict[str, Any]) -> None:
    assert_speakers_learn(small(kind, **settings))


@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_seed_decides(kind: NetworkKind, settings: dict[str, Any]) -> None:
    assert_seed_decides(lambda seed: small(kind, seed=seed, **settings))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *((kind, {"activation": own}) for kind in (NetworkKind.dnn, NetworkKind.cnn) for own in Activation),
        *((kind, {"num_pieces": own}) for kind in (NetworkKind.maxout, NetworkKind.maxout_cnn) for own in (2, 3, 4)),
    ],
)
def test_signals_and_gradients_pass(kind: NetworkKind, settings: dict[str, Any]) -> None:
    filters = {"num_filters": 64} if kind in FILTERING else {}
    network = small(kind, num_layers=6 - len(filters), hidden_dim=64, **filters, **settings)
    weights = [name for name, tensor in network.named_parameters() if tensor.dim() > 1 and "output" not in name]
    assert len(weights) == 6 * settings.get("num_pieces", 1)
    assert_signals_and_gradients_pass(network, weights)


@pytest.mark.parametrize(
    "wrong", [{"num_layers": 0}, {"hidden_dim": 0}, {"context": -1}, {"dropout": 1.0}, {"dropout": -0.1}]
)
@pytest.mark.parametrize("kind", KINDS)
def test_impossible_shapes_are_refused(kind: NetworkKind, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"model.{next(iter(wrong))}"):
        small(kind, **wrong)


@pytest.mark.parametrize("kind", [NetworkKind.maxout, NetworkKind.maxout_cnn])
def test_one_piece_has_no_highest(kind: NetworkKind) -> None:
    with pytest.raises(ConfigError, match=r"model\.num_pieces must be at least 2, got 1"):
        small(kind, num_pieces=1)


@pytest.mark.parametrize("wrong", [{"num_filters": 0}, {"filter_bands": 0}, {"pool_bands": 0}, {"num_streams": 0}])
@pytest.mark.parametrize("kind", FILTERING)
def test_impossible_filters_are_refused(kind: NetworkKind, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"model.{next(iter(wrong))}"):
        small(kind, **wrong)


@pytest.mark.parametrize("wrong", [{"num_streams": 3}, {"filter_bands": 9}, {"pool_bands": 7}])
@pytest.mark.parametrize("kind", FILTERING)
def test_features_that_do_not_fit_filters_are_refused(kind: NetworkKind, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"model\.(num_streams|filter_bands)"):
        small(kind, **wrong)


@pytest.mark.parametrize(
    ("kind", "filters", "above"),
    [(NetworkKind.cnn, "conv", "linear"), (NetworkKind.maxout_cnn, "piece1", "piece0")],
)
def test_without_settings_filters_are_those_of_the_paper(kind: NetworkKind, filters: str, above: str) -> None:
    network = NETWORKS[kind].network(NETWORKS[kind].config(kind=kind, hidden_dim=16), 40, 6)
    assert len(network.adaptation_sites) == 1 + 6
    assert network.get_parameter(f"layers.0.{filters}.weight").shape == (300, 11, 9)
    assert network.get_parameter(f"layers.1.{above}.weight").shape == (16, 300 * 10)
