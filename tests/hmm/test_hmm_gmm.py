from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from helpers.mixtures import by_scipy, random_gmm
from lhuc_asr.errors import ModelError
from lhuc_asr.hmm.mixtures.estimation import GmmStatistics, split, update
from lhuc_asr.hmm.mixtures.gmm import Gmm, single_gaussians


def test_log_likelihoods_equal_scipy() -> None:
    generator = np.random.default_rng(1)
    gmm, feats = random_gmm(generator, [1, 3, 2], 5), generator.normal(size=(7, 5)).astype(np.float32)
    expected = np.stack([by_scipy(gmm, feats, pdf) for pdf in range(3)], axis=1)
    np.testing.assert_allclose(gmm.log_likes(feats), expected, atol=1e-4)
    some = np.array([2, 0], np.int32)
    np.testing.assert_allclose(gmm.log_likes(feats, some), expected[:, some], atol=1e-4)


def test_statistics_equal_numpy() -> None:
    generator = np.random.default_rng(2)
    gmm, feats = random_gmm(generator, [2, 3], 4), generator.normal(size=(9, 4)).astype(np.float32)
    pdfs = generator.integers(0, 2, 9).astype(np.int32)
    statistics = GmmStatistics.empty(gmm)
    statistics.accumulate(gmm, feats, pdfs)
    posteriors = np.zeros((9, 5))
    for frame, pdf in enumerate(pdfs):
        for g in range(gmm.offsets[pdf], gmm.offsets[pdf + 1]):
            one = multivariate_normal.logpdf(feats[frame], gmm.means[g], np.diag(gmm.variances[g]))
            posteriors[frame, g] = gmm.weights[g] * np.exp(one)
    log_like = np.log(posteriors.sum(axis=1)).sum()
    posteriors /= posteriors.sum(axis=1, keepdims=True)
    assert statistics.log_like == pytest.approx(log_like, abs=1e-3) and statistics.num_frames == 9
    np.testing.assert_allclose(statistics.occupancy, posteriors.sum(axis=0), atol=1e-4)
    np.testing.assert_allclose(statistics.sums, posteriors.T @ feats, atol=1e-3)
    np.testing.assert_allclose(statistics.squares, posteriors.T @ feats**2, atol=1e-3)


def test_em_never_lowers_the_likelihood_and_growing_raises_it() -> None:
    generator = np.random.default_rng(3)
    feats = np.concatenate([generator.normal(mean, 0.5, (400, 3)) for mean in (-2, 0, 3)]).astype(np.float32)
    pdfs = np.repeat(np.array([0, 1, 1], np.int32), 400)
    gmm = single_gaussians(np.zeros((2, 3)), np.ones((2, 3)))
    likes = []
    for step in range(12):
        statistics = GmmStatistics.empty(gmm)
        statistics.accumulate(gmm, feats, pdfs)
        likes.append(statistics.log_like_per_frame)
        gmm = update(gmm, statistics)
        if step == 2:
            gmm = split(gmm, np.array([400.0, 800.0]), 3, generator, power=1.0)
    assert np.diff(likes).min() > -1e-3
    assert likes[-1] > likes[2] + 0.1
    assert np.diff(gmm.offsets).tolist() == [1, 2]
    np.testing.assert_allclose(sorted(gmm.means[1:, 0]), [0, 3], atol=0.15)


def test_a_split_keeps_the_weights_and_stops_where_frames_lack() -> None:
    generator = np.random.default_rng(4)
    gmm = random_gmm(generator, [1, 2], 3)
    grown = split(gmm, np.array([1000.0, 30.0]), 20, generator, power=0.25)
    assert grown.num_gaussians == 20 and np.diff(grown.offsets).tolist() == [18, 2]
    np.testing.assert_allclose(np.add.reduceat(grown.weights, grown.offsets[:-1]), 1.0)
    poor = split(gmm, np.array([30.0, 30.0]), 20, generator, power=0.25)
    assert poor.num_gaussians == 3


def test_gaussians_without_frames_go_but_the_last_one_stays() -> None:
    generator = np.random.default_rng(5)
    gmm = random_gmm(generator, [2, 2], 3)
    statistics = GmmStatistics.empty(gmm)
    frames = np.tile(gmm.means[:1], (50, 1)).astype(np.float32) + generator.normal(0, 0.1, (50, 3)).astype(np.float32)
    far = Gmm(gmm.offsets, gmm.weights, gmm.means + np.array([[0.0], [50.0], [0.0], [0.0]]), gmm.variances)
    statistics.accumulate(far, frames, np.zeros(50, np.int32))
    fitted = update(far, statistics)
    assert np.diff(fitted.offsets).tolist() == [1, 1]
    np.testing.assert_allclose(fitted.weights, 1.0)
    np.testing.assert_allclose(fitted.means[0], frames.mean(axis=0), atol=1e-4)
    assert (fitted.variances > 0).all()


def test_save_load_round_trip(tmp_path: Path) -> None:
    gmm = random_gmm(np.random.default_rng(6), [1, 2], 3)
    gmm.save(tmp_path / "gmm.safetensors")
    again = Gmm.load(tmp_path / "gmm.safetensors")
    np.testing.assert_array_equal(again.means, gmm.means)
    np.testing.assert_array_equal(again.offsets, gmm.offsets)
    with pytest.raises(ModelError, match="absent"):
        Gmm.load(tmp_path / "absent")
