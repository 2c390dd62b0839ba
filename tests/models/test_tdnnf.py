"""The factored time-delay network against plain numpy, its constraint, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.network_promises import (
    DIM,
    assert_signals_and_gradients_pass,
    assert_sites_act,
    speech,
)
from helpers.time_delay_networks import SHAPES, small_tdnnf
from lhuc_asr.errors import ConfigError
from lhuc_asr.models.tdnnf import SemiOrthogonal, SharedDropout, TdnnF, TdnnFConfig


def by_hand(network: TdnnF, feats_TF: np.ndarray, t: int) -> np.ndarray:
    """Output for frame t, recursively from frame to frame at the full rate, in float64."""
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}

    def seen(name: str, frames: list[int], below: object) -> np.ndarray:
        kernel = weights[f"{name}.weight"]
        assert kernel.shape[2] == len(frames)
        total = sum(kernel[:, :, place] @ below(frame) for place, frame in enumerate(frames))  # type: ignore[operator]
        return total + weights.get(f"{name}.bias", 0)

    def units(layer: int, s: int) -> np.ndarray:
        if layer < 0:
            return feats_TF[min(max(s, 0), len(feats_TF) - 1)].astype(np.float64)
        d, name = network.config.dilations[layer], f"layers.{layer}"

        def below(frame: int) -> np.ndarray:
            return units(layer - 1, frame)

        def bottleneck(frame: int) -> np.ndarray:
            return seen(f"{name}.factor", [frame - d, frame] if d else [frame], below)

        if layer == 0:
            z = seen(f"{name}.conv", [s - d, s, s + d] if d else [s], below)
        else:
            z = seen(f"{name}.affine", [s, s + d] if d else [s], bottleneck)
        mean, var = weights[f"{name}.norm.running_mean"], weights[f"{name}.norm.running_var"]
        h = (np.maximum(z, 0) - mean) / np.sqrt(var + 1e-5)
        return h if layer == 0 else h + network.config.bypass_scale * below(s)

    top = weights["output.0.weight"][:, :, 0] @ units(len(network.layers) - 1, t)
    z = weights["output.1.weight"][:, :, 0] @ top + weights["output.1.bias"]
    return z - np.log(np.exp(z).sum())


@pytest.mark.parametrize(("dilations", "subsampling"), SHAPES)
def test_forward_equals_plain_numpy(dilations: list[int], subsampling: int) -> None:
    network = small_tdnnf(dilations=dilations, subsampling=subsampling)
    for num_frames in (1, 5):
        (feats,) = speech(num_frames)
        expected = [by_hand(network, feats.numpy(), t) for t in range(0, num_frames, subsampling)]
        np.testing.assert_allclose(network(feats[None])[0].detach(), np.array(expected), atol=1e-5)


@pytest.mark.parametrize("bypass_scale", [0.0, 0.66])
def test_units_are_sites(bypass_scale: float) -> None:
    network = small_tdnnf(dilations=[1, 3, 3], subsampling=3, shared_dropout=0.1, bypass_scale=bypass_scale)
    assert network.adaptation_sites == tuple(f"layers.{index}.activation" for index in range(3))
    assert network.split_points == (), "the bypass needs more than the units"
    assert_sites_act(network, [7, 7, 7])


def test_a_step_is_that_of_the_paper() -> None:
    """M <- M - 1 / (2 alpha^2) (P - alpha^2 I) M with alpha^2 = tr(P P^T) / tr(P), eqs. 1 to 5."""
    factor = SemiOrthogonal(5, 3, dilation=2)
    factor.draw(torch.Generator().manual_seed(0))
    factor.weight.data.mul_(1.7).add_(0.01 * torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(1)))
    before = factor.weight.detach().flatten(1).double().numpy()
    product = before @ before.T
    alpha_square = np.trace(product @ product.T) / np.trace(product)
    expected = before - (product - alpha_square * np.eye(3)) @ before / (2 * alpha_square)
    factor.constrain()
    np.testing.assert_allclose(factor.weight.detach().flatten(1), expected, atol=1e-6)


@pytest.mark.parametrize(("longest", "share"), [(1.2, 1.0), (1.4, 0.5), (2.0, 0.25)])
def test_steps_far_from_the_aim_are_shorter(longest: float, share: float) -> None:
    """Rows with squared lengths 1, 1 and this: tr(P P^T) tr(I) / tr(P)^2 is 1.008, 1.028 and 1.125."""
    factor = SemiOrthogonal(5, 3)
    factor.draw(torch.Generator().manual_seed(0))
    factor.weight.data[2].mul_(longest**0.5)
    before = factor.matrix.clone()
    factor.constrain()
    alpha_square = (2 + longest**2) / (2 + longest)
    steps = -share * 0.5 * (torch.tensor([1.0, 1.0, longest]) / alpha_square - 1)
    torch.testing.assert_close(factor.matrix, before * (1 + steps)[:, None])


@given(
    num_inputs=st.integers(1, 12),
    num_outputs=st.integers(1, 12),
    size=st.floats(0.01, 100),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_steps_lead_to_a_semi_orthogonal_factor(num_inputs: int, num_outputs: int, size: float, seed: int) -> None:
    factor = SemiOrthogonal(num_inputs, num_outputs, dilation=1)
    generator = torch.Generator().manual_seed(seed)
    factor.draw(generator)
    noise = torch.randn(factor.weight.shape, generator=generator) * factor.matrix.shape[1] ** -0.5
    factor.weight.data.add_(0.3 * noise).mul_(size)
    for _ in range(100):
        factor.constrain()
    product = factor.matrix @ factor.matrix.t()
    alpha_square = product.diagonal().mean()
    torch.testing.assert_close(product / alpha_square, torch.eye(len(product)), rtol=0, atol=1e-3)


def test_a_semi_orthogonal_factor_stays_and_zeros_are_left() -> None:
    factor = SemiOrthogonal(5, 3)
    factor.draw(torch.Generator().manual_seed(0))
    before = factor.weight.detach().clone()
    factor.constrain()
    torch.testing.assert_close(factor.weight.detach(), before)
    factor.weight.data.zero_()
    factor.constrain()
    assert not factor.weight.detach().any()


def test_constraining_moves_all_factors_and_nothing_else() -> None:
    network = small_tdnnf()
    factors = list(network.factors())
    assert len(factors) == 3, "two layers and the output"
    for factor in factors:
        factor.weight.data.add_(0.1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.constrain()
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"layers.1.factor.weight", "layers.2.factor.weight", "output.0.weight"}


def test_dropout_is_shared_by_the_frames_of_an_utterance() -> None:
    dropout, ones = SharedDropout(0.2), torch.ones(50, 40, 3)
    factors = dropout(ones)
    torch.testing.assert_close(factors, factors[:, :, :1].expand_as(factors))
    assert 0.6 <= factors.min() < 0.62 and 1.38 < factors.max() <= 1.4
    assert abs(float(factors.mean()) - 1) < 0.02
    assert torch.equal(dropout.eval()(ones), ones)


def test_signals_and_gradients_pass() -> None:
    network = TdnnF(TdnnFConfig(hidden_dim=64, bottleneck_dim=16), DIM, 20)
    names = ["layers.0.conv.weight", *(f"layers.{layer}.factor.weight" for layer in range(1, 7))]
    assert_signals_and_gradients_pass(network, names)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_dim": 0},
        {"bottleneck_dim": 0},
        {"dilations": []},
        {"subsampling": 0},
        {"bypass_scale": 1.1},
        {"shared_dropout": 0.6},
    ],
)
def test_impossible_shapes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"model.{next(iter(wrong))}"):
        TdnnFConfig(**wrong)  # type: ignore[arg-type]
