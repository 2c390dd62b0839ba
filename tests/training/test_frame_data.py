"""Frames and states stay together, and what does not fit is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lhuc_asr.errors import DataError
from lhuc_asr.training.examples.frame_data import FrameData


def numbered(lengths: dict[str, int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Features whose every value says which frame it is, and states that say the same."""
    feats, targets, begin = {}, {}, 0
    for name, length in lengths.items():
        targets[name] = np.arange(begin, begin + length, dtype=np.int32)
        feats[name] = np.repeat(targets[name][:, None], 3, axis=1).astype(np.float32)
        begin += length
    return feats, targets


def test_middle_frames_belong_to_their_states() -> None:
    data = FrameData.gather(*numbered({"a": 4, "b": 1, "c": 7}), ["c", "a", "b"], context=2)
    windows, states, _ = data.batch(torch.randperm(len(data)))
    assert windows.shape == (12, 5, 3)
    assert torch.equal(windows[:, 2, 0].long(), states)


def test_in_order_gives_every_frame_once() -> None:
    data = FrameData.gather(*numbered({"a": 4, "b": 3}), ["a", "b"], context=1)
    assert torch.cat([states for _, states, _ in data.in_order(3)]).tolist() == list(range(7))


def test_what_does_not_fit_is_named() -> None:
    feats, targets = numbered({"a": 4, "b": 3})
    with pytest.raises(DataError, match="'c' has no features"):
        FrameData.gather(feats, targets, ["a", "c"], context=1)
    with pytest.raises(DataError, match="'b' has no aligned states"):
        FrameData.gather(feats, {"a": targets["a"]}, ["a", "b"], context=1)
    with pytest.raises(DataError, match="'b' has 3 frames of features but 2 aligned states"):
        FrameData.gather(feats, {**targets, "b": targets["b"][:2]}, ["a", "b"], context=1)
    with pytest.raises(DataError, match="no utterances"):
        FrameData.gather(feats, targets, [], context=1)
