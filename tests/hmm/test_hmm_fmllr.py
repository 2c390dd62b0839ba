"""fMLLR against brute force: scipy's own maximiser of the same objective, and likelihoods by definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from helpers.mixtures import by_scipy, drawn_from, random_gmm
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.fmllr import SpeakerTransform
from lhuc_asr.hmm.mixtures.fmllr import FmllrConfig, FmllrStatistics, estimate, estimate_on_frames
from lhuc_asr.hmm.mixtures.gmm import Gmm

DIM = 3


def as_another_speaker(feats: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, SpeakerTransform]:
    """The frames as a speaker says them whom the returned transform turns back."""
    matrix = np.eye(DIM) + generator.uniform(-0.3, 0.3, (DIM, DIM))
    transform = SpeakerTransform(np.column_stack([matrix, generator.normal(size=DIM)]))
    return ((feats - transform.matrix[:, -1]) @ np.linalg.inv(matrix).T).astype(np.float32), transform


def log_likelihood(gmm: Gmm, feats: np.ndarray, pdfs: np.ndarray, transform: SpeakerTransform) -> float:
    transformed = feats @ transform.matrix[:, :-1].T + transform.matrix[:, -1]
    likes = sum(by_scipy(gmm, transformed[pdfs == pdf], pdf).sum() for pdf in np.unique(pdfs))
    return likes + len(feats) * transform.log_determinant


def test_row_updates_reach_what_brute_force_reaches() -> None:
    generator = np.random.default_rng(0)
    gmm = random_gmm(generator, [2, 3], DIM)
    feats, pdfs = drawn_from(gmm, generator, 300)
    feats, _ = as_another_speaker(feats, generator)
    statistics, identity = FmllrStatistics.empty(DIM), SpeakerTransform.identity(DIM)
    statistics.accumulate(gmm, feats, pdfs, identity)

    def loss(flat: np.ndarray) -> float:
        return -statistics.objective.value(flat.reshape(DIM, DIM + 1)) / len(feats)

    brute = minimize(loss, identity.matrix.ravel(), method="BFGS", options={"gtol": 1e-7})
    found = estimate(statistics, identity, num_sweeps=200)
    assert loss(found.matrix.ravel()) == pytest.approx(brute.fun, abs=1e-6)
    np.testing.assert_allclose(found.matrix, brute.x.reshape(DIM, DIM + 1), atol=2e-3)


def test_the_objective_is_the_log_likelihood_at_fixed_gaussians() -> None:
    generator = np.random.default_rng(1)
    gmm = random_gmm(generator, [1, 1, 1], DIM)  # with one Gaussian a mixture there is nothing to share out
    feats, pdfs = drawn_from(gmm, generator, 40)
    statistics, identity = FmllrStatistics.empty(DIM), SpeakerTransform.identity(DIM)
    statistics.accumulate(gmm, feats, pdfs, identity)
    _, other = as_another_speaker(feats, generator)
    expected = log_likelihood(gmm, feats, pdfs, other) - log_likelihood(gmm, feats, pdfs, identity)
    assert statistics.objective.value(other.matrix) - statistics.objective.value(identity.matrix) == pytest.approx(
        expected, rel=1e-5
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_no_sweep_lowers_the_objective(seed: int) -> None:
    generator = np.random.default_rng(seed)
    gmm = random_gmm(generator, [2, 1], DIM)
    feats, pdfs = generator.normal(0, 2, (60, DIM)).astype(np.float32), generator.integers(0, 2, 60).astype(np.int32)
    _, begin = as_another_speaker(feats, generator)
    statistics = FmllrStatistics.empty(DIM)
    statistics.accumulate(gmm, feats, pdfs, begin)
    values = [statistics.objective.value(begin.matrix)]
    transform = begin
    for _ in range(4):
        transform = estimate(statistics, transform, num_sweeps=1)
        values.append(statistics.objective.value(transform.matrix))
    assert np.diff(values).min() > -1e-9 * abs(values[0])


def test_the_likelihood_rises_and_a_known_speaker_is_turned_back() -> None:
    generator = np.random.default_rng(2)
    gmm = random_gmm(generator, [2, 3, 2, 1], DIM)
    typical, pdfs = drawn_from(gmm, generator, 4000)
    feats, true = as_another_speaker(typical, generator)
    identity = SpeakerTransform.identity(DIM)
    likes = [log_likelihood(gmm, feats, pdfs, identity)]
    transform = identity
    for _ in range(4):
        transform = estimate_on_frames(gmm, feats, pdfs, FmllrConfig(num_iterations=1), transform)
        likes.append(log_likelihood(gmm, feats, pdfs, transform))
    assert np.diff(likes).min() > -1e-3
    assert likes[-1] >= log_likelihood(gmm, feats, pdfs, true)  # the best on these frames, which the truth need not be
    assert np.abs(transform.apply(feats) - typical).mean() < 0.2 * np.abs(feats - typical).mean()


def test_statistics_of_parts_add_up() -> None:
    generator = np.random.default_rng(3)
    gmm = random_gmm(generator, [2, 1], DIM)
    feats, pdfs = drawn_from(gmm, generator, 50)
    whole, parts, identity = FmllrStatistics.empty(DIM), FmllrStatistics.empty(DIM), SpeakerTransform.identity(DIM)
    whole.accumulate(gmm, feats, pdfs, identity)
    parts.accumulate(gmm, feats[:20], pdfs[:20], identity)
    parts.accumulate(gmm, feats[20:], pdfs[20:], identity)
    assert parts.num_frames == whole.num_frames == 50
    np.testing.assert_allclose(parts.k, whole.k)
    np.testing.assert_allclose(parts.g, whole.g)


@pytest.mark.parametrize("num_frames", [0, 1, DIM])
def test_too_few_frames_determine_nothing(num_frames: int) -> None:
    gmm = random_gmm(np.random.default_rng(4), [1], DIM)
    feats = np.random.default_rng(5).normal(size=(num_frames, DIM)).astype(np.float32)
    with pytest.raises(np.linalg.LinAlgError):
        estimate_on_frames(gmm, feats, np.zeros(num_frames, np.int32), FmllrConfig())


@pytest.mark.parametrize("name", ["sat_passes", "num_estimates", "num_iterations", "num_sweeps", "min_frames"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"fmllr\.{name} must be at least 1, got 0"):
        FmllrConfig(**{name: 0})
    with pytest.raises(ConfigError, match=r"fmllr\.sat_rounds must be 0 or more"):
        FmllrConfig(sat_rounds=-1)
