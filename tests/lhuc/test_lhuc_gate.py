"""Promises of the gate: the identity at the start, scales in (0, gamma), and a gradient that stops where it is told."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.errors import ConfigError, GateError
from lhuc_asr.lhuc.gate import Gate, GateConfig
from lhuc_asr.lhuc.sites import Site

UNITS = {"layers.0": 5, "layers.1": (3, 2)}


def stirred(gate):
    """A gate as after some training."""
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.add_(torch.randn_like(parameter))
    return gate


@pytest.mark.parametrize("shared_trunk", [False, True])
@pytest.mark.parametrize("hidden_dims", [[], [4], [4, 3]])
@pytest.mark.parametrize("leading", [(), (6,), (6, 1), (6, 7)])
def test_a_fresh_gate_gives_exactly_1_in_the_shape_of_every_site(shared_trunk, hidden_dims, leading):
    gate = Gate(UNITS, 8, GateConfig(shared_trunk=shared_trunk, hidden_dims=hidden_dims))
    scales = gate(torch.randn(*leading, 8) * 100)
    assert scales["layers.0"].shape == (*leading, 5) and scales["layers.1"].shape == (*leading, 3, 2)
    assert all(bool((scale == 1).all()) for scale in scales.values())


@settings(deadline=None, max_examples=30)
@given(st.floats(1.05, 50))
def test_with_any_gamma_it_begins_at_1_and_stays_between_0_and_gamma(gamma):
    gate = Gate(UNITS, 4, GateConfig(gamma=gamma))
    z = torch.randn(3, 4)
    for scale in gate(z).values():
        torch.testing.assert_close(scale, torch.ones_like(scale), rtol=0, atol=1e-5)
    for scale in stirred(gate)(100 * z).values():
        assert bool((scale >= 0).all()) and bool((scale <= gamma).all())


def test_it_computes_the_published_equations():
    gate = stirred(Gate({"a": 5}, 4, GateConfig(hidden_dims=[3], identity_start=False)))
    z = torch.randn(2, 4)
    below, head = gate.trunks[0][0][0], gate.heads[0]
    hidden = (z @ below.weight.T + below.bias).clamp(min=0)
    expected = 2 / (1 + torch.exp(-(hidden @ head.weight.T + head.bias)))
    torch.testing.assert_close(gate(z)["a"], expected)


def test_without_an_identity_start_it_begins_elsewhere():
    scale = Gate({"a": 50}, 4, GateConfig(identity_start=False))(torch.randn(2, 4))["a"]
    assert not torch.isclose(scale, torch.ones(())).any(dim=0).all()


def test_a_shared_trunk_has_fewer_weights_and_own_heads():
    units = {str(index): 5 for index in range(4)}
    own, shared = Gate(units, 8), Gate(units, 8, GateConfig(shared_trunk=True))
    assert len(own.trunks) == 4 and len(shared.trunks) == 1 and len(shared.heads) == 4


def test_every_parameter_learns_after_the_first_step():
    gate = stirred(Gate(UNITS, 8))
    sum(scale.square().sum() for scale in gate(torch.randn(16, 8)).values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in gate.parameters())


def test_the_gradient_ends_at_stopped_parts_and_the_values_do_not():
    gate = stirred(Gate(UNITS, {"ids": 3, "rest": 2}, stopped=["rest"]))
    ids, rest = torch.randn(4, 3, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    scales = gate({"rest": rest, "ids": ids})
    sum(scale.sum() for scale in scales.values()).backward()
    assert ids.grad.abs().sum() > 0 and rest.grad is None
    other = gate({"ids": ids, "rest": rest + 1})
    assert not torch.equal(other["layers.0"], scales["layers.0"])


def test_one_vector_and_its_named_parts_are_the_same_thing():
    gate = stirred(Gate(UNITS, {"ids": 3, "rest": 2}, stopped=["rest"]))
    z = torch.randn(4, 5, requires_grad=True)
    joined, parts = gate(z), gate({"ids": z[:, :3], "rest": z[:, 3:]})
    assert all(torch.equal(joined[site], parts[site]) for site in UNITS)
    joined["layers.0"].sum().backward()
    assert z.grad[:, :3].abs().sum() > 0 and not z.grad[:, 3:].any()


def test_sites_tell_their_own_sizes():
    gate = Gate.for_sites([Site("a", (5,)), Site("b", (3, 2))], 4)
    assert gate.units == {"a": (5,), "b": (3, 2)}


@pytest.mark.parametrize(
    ("z", "told"),
    [
        (torch.zeros(4, 6), r"vectors of 5 numbers, but got a z of shape \(4, 6\)"),
        (torch.tensor(1.0), r"vectors of 5 numbers"),
        ({"ids": torch.zeros(4, 3)}, r"takes 'ids' \(3\), 'rest' \(2\), but was given 'ids' \(3\)"),
        ({"ids": torch.zeros(4, 2), "rest": torch.zeros(4, 2)}, r"but was given 'ids' \(2\), 'rest' \(2\)"),
    ],
)
def test_a_z_of_another_width_is_told(z, told):
    with pytest.raises(GateError, match=told):
        Gate(UNITS, {"ids": 3, "rest": 2})(z)


def test_a_gate_that_makes_no_sense_is_refused():
    with pytest.raises(GateError, match=r"stopped names 'voice', but z has the parts 'z' \(4\)"):
        Gate(UNITS, 4, stopped=["voice"])
    with pytest.raises(GateError, match="needs a site and a z"):
        Gate({}, 4)
    with pytest.raises(ConfigError, match=r"above 1.*got 1"):
        GateConfig(gamma=1.0)
    with pytest.raises(ConfigError, match=r"at least 1 each, got \[8, 0\]"):
        GateConfig(hidden_dims=[8, 0])


@pytest.mark.parametrize("hidden_dims", [[], [4, 3]])
def test_without_biases_a_z_of_0_gives_the_identity_after_training_too(hidden_dims):
    gate = stirred(Gate(UNITS, 4, GateConfig(hidden_dims=hidden_dims, bias=False)))
    assert all(bool((scale == 1).all()) for scale in gate(torch.zeros(2, 4)).values())
    assert any(bool((scale != 1).any()) for scale in gate(torch.randn(2, 4)).values())
