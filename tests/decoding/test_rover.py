"""Words of several systems put together: examples by hand, and what holds for any systems."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.decoding.words.rover import Heard, RoverConfig, rover
from lhuc_asr.errors import ConfigError


def said(text: str, *confidences: float) -> Heard:
    return Heard(tuple(text.split()), confidences or None)


def words(*systems: Heard, **config: float) -> str:
    return " ".join(rover(systems, RoverConfig(**config)).words)


systems = st.lists(st.sampled_from("ABC"), max_size=6).map(lambda found: Heard(tuple(found)))


def test_the_majority_is_followed_and_confidence_decides_between_two() -> None:
    assert words(said("A B C"), said("A X C"), said("A B"), votes=1.0) == "A B C"
    assert words(said("A B", 0.9, 0.3), said("A X", 0.1, 0.6)) == "A X"
    assert words(said("A B", 0.9, 0.6), said("A X", 0.1, 0.3)) == "A B"
    assert words(said("A B", 0.5, 0.5), said("A X", 0.5, 0.5)) == "A B"  # the earlier of equal ones
    found = rover([said("A B", 0.9, 0.3), said("A X", 0.1, 0.6)])
    assert found.confidences == pytest.approx((0.5, 0.6))


def test_words_that_one_system_lacks_stay_if_they_are_surer_than_nothing() -> None:
    one, other = said("A B C", 0.9, 0.6, 0.9), said("A C", 0.9, 0.9)
    assert words(one, other, nothing=0.5) == words(other, one, nothing=0.5) == "A B C"
    assert words(one, other, nothing=0.7) == words(other, one, nothing=0.7) == "A C"
    assert words(said(""), said("A", 0.4)) == "" and words(said(""), said("")) == ""


def test_a_third_system_joins_places_of_the_first_two() -> None:
    assert words(said("A B D"), said("A C D"), said("A C D"), votes=1.0) == "A C D"
    assert words(said("A D"), said("A C D"), said("A C D"), votes=1.0) == "A C D"


@given(systems, st.integers(1, 4))
def test_systems_that_agree_are_followed(one: Heard, count: int) -> None:
    assert rover([one] * count).words == one.words


@given(systems, systems)
def test_every_word_is_of_a_system_and_the_surest_wins(one: Heard, other: Heard) -> None:
    found = rover([one, other])
    assert set(found.words) <= {*one.words, *other.words}
    sure = Heard(one.words, (0.9,) * len(one.words))
    unsure = Heard(other.words, (0.1,) * len(other.words))
    assert rover([sure, unsure], RoverConfig(votes=0.0)).words == one.words
    assert rover([unsure, sure], RoverConfig(votes=0.0)).words == one.words


def test_weights_outside_their_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"rover\.nothing must lie in \[0, 1\], got 2"):
        RoverConfig(nothing=2.0)
