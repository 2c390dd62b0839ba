"""Projections of frames with their neighbours: applied, stored, and put between normalisation and transforms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.errors import ModelError
from lhuc_asr.features.cmvn import CmvnMode, CmvnStats, NormalisedFeatures
from lhuc_asr.features.fmllr import SpeakerTransform
from lhuc_asr.features.projection import FrameProjection
from lhuc_asr.tensors import save_tensors


def projection(seed: int, dim: int = 2, feat_dim: int = 3, context: int = 1) -> FrameProjection:
    matrix = np.random.default_rng(seed).normal(size=(dim, (2 * context + 1) * feat_dim + 1))
    return FrameProjection(matrix, context)


def frames(seed: int, num_frames: int = 5, dim: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_frames, dim)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(num_frames=st.integers(1, 6), context=st.integers(0, 3), seed=st.integers(0, 100))
def test_windows_are_projected_one_by_one_as_the_formula_says(num_frames: int, context: int, seed: int) -> None:
    feats, found = frames(seed, num_frames), projection(seed + 1, context=context)
    expected = []
    for middle in range(num_frames):
        around = (min(max(middle + step, 0), num_frames - 1) for step in range(-context, context + 1))
        window = np.concatenate([*(feats[place] for place in around), [1.0]])
        expected.append(found.matrix @ window)
    np.testing.assert_allclose(found.apply(feats), expected, rtol=1e-4, atol=1e-5)
    assert found.apply(feats).dtype == np.float32
    assert (found.dim, found.feat_dim) == (2, 3)


def test_a_turn_comes_after_the_projection() -> None:
    feats, found, turn = frames(0), projection(1), np.array([[0.0, 2.0], [-1.0, 0.5]])
    np.testing.assert_allclose(found.turned(turn).apply(feats), found.apply(feats) @ turn.T, rtol=1e-4, atol=1e-5)


def test_it_survives_the_round_trip_and_its_hash_tells_others_apart(tmp_path: Path) -> None:
    made = projection(2)
    made.save(tmp_path / "p.safetensors")
    again = FrameProjection.load(tmp_path / "p.safetensors")
    np.testing.assert_array_equal(again.matrix, made.matrix)
    assert again.context == made.context and again.sha256 == made.sha256
    others = [projection(3), FrameProjection(made.matrix, context=4)]
    assert made.sha256 not in {other.sha256 for other in others}


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(ModelError, match=r"p\.safetensors"):
        FrameProjection.load(path)
    save_tensors({"matrix": torch.ones(2, 4)}, path)
    with pytest.raises(ModelError, match="holds no projection of features: it has no 'context'"):
        FrameProjection.load(path)


def test_features_are_normalised_then_projected_then_transformed() -> None:
    feats, found = {"a": frames(4), "b": frames(5)}, projection(6)
    own = SpeakerTransform(np.random.default_rng(7).normal(size=(2, 3)))
    normalised = NormalisedFeatures(feats, {"a": "anna", "b": "anna"}, CmvnMode.speaker)
    plain = CmvnStats.of(feats.values()).apply(feats["a"])
    np.testing.assert_array_equal(normalised.projected(found)["a"], found.apply(plain))
    for seen in (
        normalised.projected(found).seen_through({"anna": own}),
        normalised.seen_through({"anna": own}).projected(found),
    ):
        np.testing.assert_array_equal(seen["a"], own.apply(found.apply(plain)))
    np.testing.assert_array_equal(normalised["a"], plain)
    np.testing.assert_array_equal(normalised.projected(found).projected(None)["a"], plain)
