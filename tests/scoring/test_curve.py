"""Error rates of many models against the number in their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from lhuc_asr.errors import DataError
from lhuc_asr.scoring.curve import Curve, curve_of, draw_curve
from lhuc_asr.scoring.wer import Score, score


def scored(*words: str) -> Score:
    """Four words of one speaker, those that are given right."""
    said = {"a-1": "ONE TWO THREE FOUR"}
    return score(said, {"a-1": " ".join(words)}, {"a-1": "a"})


def test_points_are_joined_by_name_in_the_order_of_their_numbers() -> None:
    right, half = scored("ONE", "TWO", "THREE", "FOUR"), scored("ONE", "TWO")
    curve = curve_of({"SI": half, "SI mode@0.5": right, "SI mode@0.1": half, "a@b@2": right})
    assert curve == Curve({"SI mode": {0.1: 50.0, 0.5: 0.0}, "a@b": {2.0: 0.0}}, {"SI": 50.0})
    assert list(curve.lines["SI mode"]) == [0.1, 0.5]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("SI", "sat@0.1"), "two systems NAME@NUMBER of one NAME at least, got SI, sat@0.1"),
        (("sat@much", "sat@0.1"), "system 'sat@much': what follows '@' should be a number"),
    ],
)
def test_what_is_no_curve_is_told(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        curve_of(dict.fromkeys(names, scored("ONE")))


def test_it_is_drawn(tmp_path: Path) -> None:
    curve = curve_of({"SI": scored("ONE"), "sat@0.1": scored("ONE", "TWO"), "sat@0.5": scored("ONE")})
    draw_curve(tmp_path / "curve.png", curve, "gamma")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
