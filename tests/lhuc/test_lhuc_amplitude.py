"""xi(r): exactly 1 at the start, the paper's values and slopes elsewhere."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.lhuc.amplitude import Amplitude, amplitude, identity_parameters, identity_r, parameters_of


@pytest.mark.parametrize("kind", Amplitude)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_start_is_exactly_one(kind, dtype):
    r = identity_parameters((7,), kind, torch.empty(0, dtype=dtype))
    assert r.dtype is dtype
    assert torch.equal(amplitude(r, kind), torch.ones(7, dtype=dtype))


@pytest.mark.parametrize(
    ("kind", "r", "value"),
    [
        (Amplitude.exp, 1.0, 2.718281828459045),
        (Amplitude.exp, -2.0, 0.1353352832366127),
        (Amplitude.sigmoid2, 1.0, 1.4621171572600098),
        (Amplitude.sigmoid2, -100.0, 0.0),
        (Amplitude.identity, -0.25, -0.25),
        (Amplitude.relu, -0.25, 0.0),
        (Amplitude.relu, 1.5, 1.5),
    ],
)
def test_values(kind, r, value):
    assert amplitude(torch.tensor(r, dtype=torch.float64), kind).item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("kind", "slope"), list(zip(Amplitude, [1.0, 0.5, 1.0, 1.0], strict=True)))
def test_slope_at_the_start_is_the_papers(kind, slope):
    r = torch.tensor(identity_r(kind), requires_grad=True)
    amplitude(r, kind).backward()
    assert r.grad.item() == slope


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_ranges_and_order(a, b):
    low, high = sorted((a, b))
    for kind in Amplitude:
        x, y = (amplitude(torch.tensor(r, dtype=torch.float64), kind).item() for r in (low, high))
        assert x <= y
        assert kind is Amplitude.identity or x >= 0
        assert kind is not Amplitude.sigmoid2 or y <= 2


@pytest.mark.parametrize("kind", Amplitude)
def test_parameters_are_found_again_from_factors(kind):
    factors = torch.tensor([0.01, 0.5, 1.0, 1.7, 1.99])
    torch.testing.assert_close(amplitude(parameters_of(factors, kind), kind), factors)
    assert torch.isfinite(parameters_of(torch.tensor([0.0, 2.0]), kind)).all()
