"""What time-delay networks promise, factored or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.network_promises import (
    assert_chunks_equal_the_whole,
    assert_no_frames_give_no_frames,
    assert_padding_does_not_matter,
    assert_padding_does_not_matter_in_training,
    assert_seed_decides,
    assert_speakers_learn,
    assert_windows_equal_whole_utterances,
)
from helpers.time_delay_networks import SHAPES, small_tdnn, small_tdnnf
from lhuc_asr.models.time_delay import TimeDelayNetwork

Small = Callable[..., TimeDelayNetwork[Any]]

both = pytest.mark.parametrize("small", [small_tdnn, small_tdnnf])
all_shapes = pytest.mark.parametrize(("dilations", "subsampling"), SHAPES)


@both
@all_shapes
def test_padding_and_windows(small: Small, dilations: list[int], subsampling: int) -> None:
    network = small(dilations=dilations, subsampling=subsampling)
    assert network.context == sum(dilations)
    assert_padding_does_not_matter(network, [11, 4, 1])
    assert_windows_equal_whole_utterances(network, [11, 4, 1])
    assert_no_frames_give_no_frames(network)


@both
@all_shapes
def test_padding_does_not_matter_in_training(small: Small, dilations: list[int], subsampling: int) -> None:
    assert_padding_does_not_matter_in_training(small(dilations=dilations, subsampling=subsampling))


@both
@given(
    shape=st.sampled_from(SHAPES),
    chunks=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 0),
)
@settings(max_examples=40, deadline=None)
def test_chunks_equal_the_whole(small: Small, shape: tuple[list[int], int], chunks: list[int]) -> None:
    assert_chunks_equal_the_whole(small(dilations=shape[0], subsampling=shape[1]), chunks)


@both
def test_speakers_learn_from_windows(small: Small) -> None:
    assert_speakers_learn(small(dilations=[1, 3, 3], subsampling=3))
    assert_speakers_learn(small())


@both
def test_seed_decides(small: Small) -> None:
    assert_seed_decides(lambda seed: small(seed, dilations=[1, 2]))
