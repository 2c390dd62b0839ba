"""Deltas, and mean and variance normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.features.cmvn import CmvnMode, CmvnStats, NormalisedFeatures
from lhuc_asr.features.deltas import add_deltas

SPEAKER_OF = {"a-1": "a", "a-2": "a", "b-1": "b"}


def made_up(num_frames: int, dim: int = 3, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(5.0, 3.0, (num_frames, dim)).astype(np.float32)


def corpus() -> dict[str, NDArray[np.float32]]:
    return {"a-1": made_up(20, seed=1), "a-2": made_up(7, seed=2) + 100, "b-1": made_up(30, seed=3)}


def test_first_delta_by_hand() -> None:
    feats = np.array([[0.0], [0.0], [10.0], [0.0], [0.0]], dtype=np.float32)
    assert add_deltas(feats, order=1)[:, 1].tolist() == pytest.approx([2.0, 1.0, 0.0, -1.0, -2.0])


def test_second_delta_repeats_the_edge_of_the_features_not_of_the_deltas() -> None:
    """Kaldi's filter of order two is nine frames wide: (4 4 1 -4 -10 -4 1 4 4) / 100."""
    impulse = np.zeros((9, 1), dtype=np.float32)
    impulse[4] = 100.0
    assert add_deltas(impulse)[:, 2] == pytest.approx([4, 4, 1, -4, -10, -4, 1, 4, 4])
    edge = np.zeros((9, 1), dtype=np.float32)
    edge[0] = 100.0
    assert add_deltas(edge)[0, 2] == pytest.approx(-10 - 4 + 1 + 4 + 4)


def test_inside_deltas_equal_those_of_torchaudio() -> None:
    feats = made_up(50)
    first = torchaudio.functional.compute_deltas(torch.from_numpy(feats.T)).numpy().T
    second = torchaudio.functional.compute_deltas(torch.from_numpy(first.T.copy())).numpy().T
    ours = add_deltas(feats)
    np.testing.assert_allclose(ours[:, 3:6], first, atol=1e-4)
    np.testing.assert_allclose(ours[4:-4, 6:], second[4:-4], atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(num_frames=st.integers(1, 12), order=st.integers(0, 3), window=st.integers(1, 3))
def test_constant_features_have_no_deltas(num_frames: int, order: int, window: int) -> None:
    feats = np.full((num_frames, 2), 7.0, dtype=np.float32)
    extended = add_deltas(feats, order=order, window=window)
    assert extended.shape == (num_frames, 2 * (order + 1))
    np.testing.assert_array_equal(extended[:, :2], feats)
    np.testing.assert_allclose(extended[:, 2:], 0.0, atol=1e-5)


def test_impossible_deltas_are_refused() -> None:
    with pytest.raises(ConfigError, match="window >= 1"):
        add_deltas(made_up(5), window=0)


def test_each_speaker_has_mean_zero_and_variance_one() -> None:
    normalised = NormalisedFeatures(corpus(), SPEAKER_OF)
    assert list(normalised) == list(SPEAKER_OF) and len(normalised) == 3 and "a-1" in normalised
    for speaker in ("a", "b"):
        frames = np.concatenate([normalised[utterance] for utterance in SPEAKER_OF if SPEAKER_OF[utterance] == speaker])
        assert frames.dtype == np.float32
        np.testing.assert_allclose(frames.mean(axis=0), 0.0, atol=1e-4)
        np.testing.assert_allclose(frames.std(axis=0), 1.0, atol=1e-4)


def test_each_utterance_has_mean_zero_and_variance_one() -> None:
    normalised = NormalisedFeatures(corpus(), SPEAKER_OF, CmvnMode.utterance)
    for feats in normalised.values():
        np.testing.assert_allclose(feats.mean(axis=0), 0.0, atol=1e-4)
        np.testing.assert_allclose(feats.std(axis=0), 1.0, atol=1e-3)


def test_no_normalisation_changes_nothing() -> None:
    feats = corpus()
    normalised = NormalisedFeatures(feats, SPEAKER_OF, CmvnMode.none)
    np.testing.assert_array_equal(normalised["a-2"], feats["a-2"])


def test_a_speaker_can_be_normalised_from_chosen_utterances() -> None:
    feats = corpus()
    normalised = NormalisedFeatures(feats, SPEAKER_OF, estimate_on={"a-1", "b-1"})
    np.testing.assert_allclose(normalised["a-2"], CmvnStats.of([feats["a-1"]]).apply(feats["a-2"]))


def test_other_speakers_do_not_matter() -> None:
    alone = NormalisedFeatures(corpus(), {"a-1": "a", "a-2": "a"})
    np.testing.assert_array_equal(alone["a-1"], NormalisedFeatures(corpus(), SPEAKER_OF)["a-1"])
    assert "b-1" not in alone


def test_statistics_are_taken_once() -> None:
    class Counting(dict[str, NDArray[np.float32]]):
        reads = 0

        def __getitem__(self, key: str) -> NDArray[np.float32]:
            self.reads += 1
            return super().__getitem__(key)

    feats = Counting(corpus())
    normalised = NormalisedFeatures(feats, SPEAKER_OF)
    for _ in range(3):
        assert len(normalised["a-1"]) == 20
    assert feats.reads == 2 + 3


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5), offset=st.floats(-1e4, 1e4))
def test_streamed_statistics_equal_those_of_all_frames(lengths: list[int], offset: float) -> None:
    if not sum(lengths):
        lengths.append(1)
    parts = [made_up(length, seed=index) + np.float32(offset) for index, length in enumerate(lengths)]
    stats, whole = CmvnStats.of(parts), np.concatenate(parts).astype(np.float64)
    assert stats.num_frames == len(whole)
    np.testing.assert_allclose(stats.mean, whole.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(stats.deviation, np.maximum(whole.std(axis=0), 1e-4), rtol=1e-5)


def test_constant_speech_becomes_zero_not_infinite() -> None:
    feats = {"a-1": np.full((10, 3), -15.942385, dtype=np.float32)}
    normalised = NormalisedFeatures(feats, {"a-1": "a"})["a-1"]
    np.testing.assert_allclose(normalised, 0.0, atol=0.1)


def test_missing_features_and_speakers_without_frames_are_named() -> None:
    with pytest.raises(DataError, match="no features for 1 of 4 utterances, such as 'c-1'"):
        NormalisedFeatures(corpus(), {**SPEAKER_OF, "c-1": "c"})
    with pytest.raises(DataError, match="speaker 'b' has no utterances"):
        NormalisedFeatures(corpus(), SPEAKER_OF, estimate_on=["a-1"])["b-1"]
    with pytest.raises(DataError, match="no frames"):
        CmvnStats.of([])
