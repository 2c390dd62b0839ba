"""Comparing, averaging and interpolating profiles."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.stored import profile
from lhuc_asr.errors import ConfigError, ProfileError
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.profiles.combination import Domain, average, interpolate, product
from lhuc_asr.profiles.comparison import compare

numbers = st.lists(st.floats(-2, 2, width=32), min_size=4, max_size=4)
kinds = st.sampled_from(list(Amplitude))


def of(values, kind=Amplitude.exp, **changes):
    return profile(r={"a": torch.tensor(values)}, amplitude=kind, **changes)


def factors(made):
    return made.adapter().scales()["a"].double().numpy()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(numbers, numbers, kinds, st.sampled_from(list(Domain)), st.floats(0, 1))
def test_between_two_profiles(first, second, kind, domain, at):
    a, b = of(first, kind), of(second, kind)
    made = interpolate(a, b, at, speaker="new", domain=domain)
    assert made.speaker == "new" and made.base_fingerprint == a.base_fingerprint and made.layouts == a.layouts
    np.testing.assert_allclose(
        factors(made), factors(interpolate(b, a, 1 - at, speaker="new", domain=domain)), atol=1e-6
    )
    if domain is Domain.r:
        np.testing.assert_allclose(made.r["a"], (1 - at) * np.array(first) + at * np.array(second), atol=1e-6)
    else:
        np.testing.assert_allclose(factors(made), (1 - at) * factors(a) + at * factors(b), atol=1e-5)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(numbers, numbers, kinds)
def test_the_ends_and_equal_profiles_are_exact_in_r(first, second, kind):
    a, b = of(first, kind), of(second, kind)
    assert torch.equal(interpolate(a, b, 0, speaker="x").r["a"], a.r["a"])
    assert torch.equal(interpolate(a, b, 1, speaker="x").r["a"], b.r["a"])
    assert torch.equal(average([a, a, a], [0.1, 0.2, 0.3], speaker="x").r["a"], a.r["a"])


anything = st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(anything, kinds, st.sampled_from(list(Domain)))
@example([40.0, -40.0, 800.0, -800.0], Amplitude.sigmoid2, Domain.factors)
@example([90.0, -90.0, 800.0, -800.0], Amplitude.exp, Domain.factors)
def test_the_average_of_equal_profiles_is_what_they_are_however_far_they_went(values, kind, domain):
    a = of(values, kind)
    made = average([a, a, a], [0.1, 0.2, 0.3], speaker="x", domain=domain).r["a"]
    expected = a.r["a"].relu() if (kind, domain) == (Amplitude.relu, Domain.factors) else a.r["a"]
    torch.testing.assert_close(made, expected, rtol=1e-6, atol=1e-7)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(anything, anything, kinds, st.sampled_from(list(Domain)), st.floats(0, 1))
def test_averages_of_finite_profiles_are_finite(first, second, kind, domain, at):
    made = interpolate(of(first, kind), of(second, kind), at, speaker="x", domain=domain).r["a"]
    assert torch.isfinite(made).all()


def test_the_average_in_r_is_the_geometric_mean_of_exp_and_in_factors_the_arithmetic_one():
    profiles = [of([math.log(factor)] * 2) for factor in (0.5, 2.0, 8.0)]
    assert factors(average(profiles, speaker="x")) == pytest.approx(2.0)
    assert factors(average(profiles, speaker="x", domain=Domain.factors)) == pytest.approx(3.5)
    assert factors(average(profiles, [3, 1, 0], speaker="x")) == pytest.approx(2**-0.5)


def test_an_average_says_what_it_is_made_of():
    a, b, c = (of([value] * 2, seconds=10.0, guard={"keep": True}, speaker=str(value)) for value in (0.0, 1.0, 2.0))
    made = average([a, b, c], [1, 3, 0], speaker="mean")
    assert made.seconds == 20 and made.guard is None and made.objective_after is None
    assert made.settings["domain"] == "r"
    assert [source["share"] for source in made.settings["average_of"]] == [0.25, 0.75, 0]
    assert [source["sha256"] for source in made.settings["average_of"]] == [a.sha256, b.sha256, c.sha256]


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda a: average([], speaker="x"), ProfileError, "nothing to average"),
        (lambda a: average([a, a], [1], speaker="x"), ConfigError, "2 profiles need 2 weights, got 1"),
        (lambda a: average([a, a], [0, 0], speaker="x"), ConfigError, "weights must be 0 or more"),
        (lambda a: average([a, a], [2, -1], speaker="x"), ConfigError, "weights must be 0 or more"),
        (lambda a: average([a, a], [1, math.nan], speaker="x"), ConfigError, "weights must be 0 or more"),
        (lambda a: interpolate(a, a, 1.5, speaker="x"), ConfigError, "from 0 to 1, got 1.5"),
        (lambda a: average([a, replace(a, base_fingerprint="0" * 64)], speaker="x"), ProfileError, "for 000000000000"),
        (
            lambda a: average([a, replace(a, amplitude=Amplitude.relu)], speaker="x"),
            ProfileError,
            "different amplitudes",
        ),
        (lambda a: average([a, of([1.0] * 3)], speaker="x"), ProfileError, "different units: a 2 [*]H, and a 3 [*]H"),
        (lambda a: compare(a, replace(a, layouts={"a": "BTH"})), ProfileError, "different units"),
    ],
)
def test_what_cannot_be_combined_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call(of([0.5, 0.25]))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(numbers, numbers, kinds, kinds)
def test_comparison_against_numpy(first, second, kind, other_kind):
    a, b = of(first, kind), of(second, other_kind)
    found = compare(a, b)["a"]
    functions = {
        Amplitude.exp: np.exp,
        Amplitude.sigmoid2: lambda r: 2 / (1 + np.exp(-r)),
        Amplitude.identity: lambda r: r,
        Amplitude.relu: lambda r: np.maximum(r, 0),
    }
    before, after = functions[kind](np.array(first)), functions[other_kind](np.array(second))
    change = np.abs(after - before)
    assert found.num_units == 4
    assert (found.mean_change, found.max_change) == pytest.approx((change.mean(), change.max()), abs=1e-9)
    assert found.share_moved == pytest.approx(
        (change > 0.01).mean(), abs=0.26 if np.any(np.abs(change - 0.01) < 1e-6) else 0
    )
    if found.correlation is None:
        assert min(np.ptp(before), np.ptp(after)) < 1e-9
    elif min(np.ptp(before), np.ptp(after)) > 1e-3:
        assert found.correlation == pytest.approx(np.corrcoef(before, after)[0, 1], abs=1e-6)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(numbers, numbers, st.sampled_from([kind for kind in Amplitude if kind is not Amplitude.sigmoid2]))
def test_a_product_multiplies_factors(first, second, kind):
    a, b = of(first, kind), of(second, kind)
    made = product(a, b, speaker="both")
    assert made.speaker == "both" and made.seconds == a.seconds + b.seconds
    np.testing.assert_allclose(factors(made), factors(a) * factors(b), rtol=1e-4, atol=1e-6)


def test_a_product_says_what_it_is_made_of_and_takes_over_nobody_s_past():
    past = {"supervision": "oracle", "objective_before": 2.0, "objective_after": 1.0, "guard": {"keep": True}}
    a, b = (of([0.1], created="2020-01-01T00:00:00+00:00", dtype="float16", **past) for _ in range(2))
    made = product(a, b, speaker="both")
    assert (made.supervision, made.objective_before, made.objective_after, made.guard) == (None, None, None, None)
    assert made.created > a.created and made.dtype == "float16" and made.layouts == a.layouts
    assert made.settings == {"product_of": [{"speaker": own.speaker, "sha256": own.sha256} for own in (a, b)]}


def test_products_that_cannot_be_are_refused():
    a = of([0.0] * 4, Amplitude.sigmoid2)
    with pytest.raises(ProfileError, match="sigmoid2"):
        product(a, a, speaker="both")
    with pytest.raises(ProfileError):
        product(of([0.0]), of([0.0], base_fingerprint="0" * 64), speaker="both")
