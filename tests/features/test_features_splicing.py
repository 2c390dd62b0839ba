"""Context windows: those cut from the joined frames equal those of each utterance alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.features.splicing import SplicedFrames, splice


def made_up(lengths: list[int], dim: int = 3) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal((length, dim)).astype(np.float32) for length in lengths]


def test_edges_are_repeated() -> None:
    feats = np.array([[1.0, -1.0], [2.0, -2.0]], dtype=np.float32)
    assert splice(feats, 2, 0).tolist() == [[1, -1, 1, -1, 1, -1], [1, -1, 1, -1, 2, -2]]
    assert splice(feats, 0, 1).tolist() == [[1, -1, 2, -2], [2, -2, 2, -2]]


def test_no_context_is_the_identity() -> None:
    (feats,) = made_up([5])
    np.testing.assert_array_equal(splice(feats, 0, 0), feats)
    assert splice(np.zeros((0, 3), dtype=np.float32), 2, 2).shape == (0, 15)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6), context=st.integers(0, 6), seed=st.integers(0, 99))
def test_windows_equal_the_spliced_utterances(lengths: list[int], context: int, seed: int) -> None:
    utterances = made_up(lengths)
    frames = SplicedFrames(utterances, context)
    wanted = np.concatenate([splice(feats, context, context) for feats in utterances])
    order = torch.randperm(frames.num_frames, generator=torch.Generator().manual_seed(seed))
    windows = frames.windows(order)
    assert windows.shape == (sum(lengths), 2 * context + 1, 3) and windows.dtype == torch.float32
    np.testing.assert_array_equal(windows.flatten(1).numpy(), wanted[order.numpy()])
    assert frames.offsets.tolist() == np.cumsum([0, *lengths]).tolist()


def test_frames_of_one_utterance_are_addressed_by_its_place() -> None:
    utterances = made_up([4, 1, 6])
    frames = SplicedFrames(iter(utterances), 2)
    for index, feats in enumerate(utterances):
        centre = frames.windows(frames.of_utterance(index))[:, 2]
        np.testing.assert_array_equal(centre.numpy(), feats)


def test_windows_are_copies() -> None:
    frames = SplicedFrames(made_up([4]), 1)
    first = frames.windows(torch.tensor([0, 1]))
    first.zero_()
    assert frames.windows(torch.tensor([0, 1])).abs().sum() > 0


def test_an_utterance_without_frames_keeps_its_place() -> None:
    frames = SplicedFrames([*made_up([4]), np.zeros((0, 3), dtype=np.float32), *made_up([2])], 1)
    assert frames.offsets.tolist() == [0, 4, 4, 6]
    assert len(frames.of_utterance(1)) == 0


def test_nothing_to_splice_is_refused() -> None:
    with pytest.raises(DataError, match="no frames"):
        SplicedFrames([], 5)
    with pytest.raises(DataError, match="differ in dimension: 2, 3"):
        SplicedFrames([*made_up([4]), *made_up([4], dim=2)], 1)
