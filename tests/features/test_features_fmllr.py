"""Transforms of speakers: applied, stored under any name, and refused where they are missing or damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.errors import DataError
from lhuc_asr.features.cmvn import CmvnMode, NormalisedFeatures
from lhuc_asr.features.fmllr import SpeakerTransform, SpeakerTransforms
from lhuc_asr.files import read_json, write_json


def transform(seed: int, dim: int = 3) -> SpeakerTransform:
    return SpeakerTransform(np.random.default_rng(seed).normal(size=(dim, dim + 1)))


def test_the_identity_changes_nothing() -> None:
    feats = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    identity = SpeakerTransform.identity(3)
    np.testing.assert_array_equal(identity.apply(feats), feats)
    assert identity.log_determinant == 0.0


def test_frames_are_transformed_one_by_one_as_the_formula_says() -> None:
    feats, w = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32), transform(2)
    expected = [w.matrix @ np.append(frame, 1.0) for frame in feats]
    np.testing.assert_allclose(w.apply(feats), expected, rtol=1e-5, atol=1e-6)
    assert w.log_determinant == pytest.approx(np.log(abs(np.linalg.det(w.matrix[:, :3]))))


@settings(max_examples=25, deadline=None)
@given(speakers=st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True))
def test_any_speaker_survives_the_round_trip(speakers: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("transforms")
    made = SpeakerTransforms({name: transform(number) for number, name in enumerate(speakers)}, model="m")
    made.save(folder)
    again = SpeakerTransforms.load(folder)
    assert list(again) == speakers and again.sha256 == made.sha256 and again.model == "m"
    assert {path.name for path in folder.iterdir()} == {"transforms.json", "transforms.safetensors"}
    for name in speakers:
        np.testing.assert_array_equal(again[name].matrix, made[name].matrix)


def test_damaged_transforms_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no transforms in '{tmp_path}'"):
        SpeakerTransforms.load(tmp_path)
    SpeakerTransforms({"a": transform(0)}).save(tmp_path)
    page = read_json(tmp_path / "transforms.json")
    write_json(tmp_path / "transforms.json", {**page, "speakers": ["b"]})
    with pytest.raises(DataError, match="altered"):
        SpeakerTransforms.load(tmp_path)
    write_json(tmp_path / "transforms.json", {**page, "version": 99})
    with pytest.raises(DataError, match="format version 99"):
        SpeakerTransforms.load(tmp_path)


def test_every_speaker_has_his_own_transform_and_needs_one() -> None:
    feats = {name: np.ones((2, 3), np.float32) for name in ("a-1", "b-1")}
    speaker_of = {"a-1": "a", "b-1": "b"}
    transforms = {"a": transform(0), "b": transform(1)}
    normalised = NormalisedFeatures(feats, speaker_of, CmvnMode.none)
    seen = normalised.seen_through(transforms)
    for name, speaker in speaker_of.items():
        np.testing.assert_array_equal(seen[name], transforms[speaker].apply(feats[name]))
    with pytest.raises(DataError, match="1 speakers have no transform, such as 'b'"):
        normalised.seen_through({"a": transforms["a"]})
    np.testing.assert_array_equal(normalised["a-1"], feats["a-1"])
