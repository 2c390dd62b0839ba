"""Settings out of range are refused by name, with what was found and what is possible."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.errors import ConfigError
from lhuc_asr.ranges import require_at_least, require_finite, require_positive, require_share, require_share_below_one


@given(value=st.floats(), least=st.integers(-5, 5))
def test_what_is_in_range_passes_and_nothing_else(value: float, least: int) -> None:
    config = SimpleNamespace(fine=1e9 if least > 0 else 0.5, asked=value)
    for passes, require in (
        (value >= least, lambda: require_at_least(least, config, "group", "fine", "asked")),
        (value > 0, lambda: require_positive(config, "group", "fine", "asked")),
    ):
        if passes:
            require()
        else:
            with pytest.raises(ConfigError, match=r"^group\.asked must be .*, got "):
                require()


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_shares_are_below_one(value: float) -> None:
    require_share_below_one(SimpleNamespace(low=0.0, high=0.99), "group", "low", "high")
    with pytest.raises(ConfigError, match=rf"^group\.high must lie in \[0, 1\), got {value}$"):
        require_share_below_one(SimpleNamespace(low=0.0, high=value), "group", "low", "high")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_shares_may_be_all(value: float) -> None:
    require_share(SimpleNamespace(none=0.0, all=1.0), "group", "none", "all")
    with pytest.raises(ConfigError, match=rf"^group\.all must lie in \[0, 1\], got {value}$"):
        require_share(SimpleNamespace(none=0.0, all=value), "group", "none", "all")


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_what_has_no_end_is_refused(value: float) -> None:
    require_finite(SimpleNamespace(low=-1e300, high=1e300), "group", "low", "high")
    with pytest.raises(ConfigError, match=rf"^group\.high must be finite, got {value}$"):
        require_finite(SimpleNamespace(low=0.0, high=value), "group", "low", "high")


def test_what_is_possible_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^model\.dim must be at least 2, got 1$"):
        require_at_least(2, SimpleNamespace(dim=1), "model", "dim")
    with pytest.raises(ConfigError, match=r"^model\.dim must be 0 or more, got -1$"):
        require_at_least(0, SimpleNamespace(dim=-1), "model", "dim")
