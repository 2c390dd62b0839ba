"""MLLT against brute force: scipy's own maximiser of the same objective, and likelihoods by definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from helpers.mixtures import by_scipy, drawn_from, random_gmm
from lhuc_asr.hmm.mixtures.gmm import Gmm
from lhuc_asr.hmm.mixtures.mllt import MlltStatistics, estimate, turned

DIM = 3


def mixed(seed: int, sizes: list[int], num_frames: int) -> tuple[Gmm, np.ndarray, np.ndarray, np.ndarray]:
    """Frames of mixtures with diagonal covariances, mixed among each other; their mixtures and the mixing matrix.

    The mixtures that are returned have the means of the mixed frames, and variances that know nothing of it.
    """
    generator = np.random.default_rng(seed)
    gmm = random_gmm(generator, sizes, DIM)
    feats, pdfs = drawn_from(gmm, generator, num_frames)
    mixing = np.eye(DIM) + generator.uniform(-0.6, 0.6, (DIM, DIM))
    known = Gmm(gmm.offsets, gmm.weights, gmm.means @ mixing.T, gmm.variances)
    return known, (feats @ mixing.T).astype(np.float32), pdfs, mixing


def statistics_of(gmm: Gmm, feats: np.ndarray, pdfs: np.ndarray) -> MlltStatistics:
    statistics = MlltStatistics.empty(DIM)
    statistics.accumulate(gmm, feats, pdfs)
    return statistics


def log_likelihood(gmm: Gmm, feats: np.ndarray, pdfs: np.ndarray, turn: np.ndarray) -> float:
    """Of the frames as they are, by the mixtures of turned frames."""
    after = turned(gmm, turn, np.ones(DIM))
    likes = sum(by_scipy(after, feats[pdfs == pdf] @ turn.T, pdf).sum() for pdf in np.unique(pdfs))
    return float(likes + len(feats) * np.linalg.slogdet(turn)[1])


def test_row_updates_reach_what_brute_force_reaches() -> None:
    statistics = statistics_of(*mixed(0, [2, 3], 400)[:3])

    def loss(flat: np.ndarray) -> float:
        return -statistics.objective.value(flat.reshape(DIM, DIM)) / statistics.num_frames

    brute = minimize(loss, np.eye(DIM).ravel(), method="BFGS", options={"gtol": 1e-7})
    found = estimate(statistics)
    assert loss(found.ravel()) == pytest.approx(brute.fun, abs=1e-6)
    np.testing.assert_allclose(found, brute.x.reshape(DIM, DIM), atol=5e-3)


def test_the_objective_is_the_log_likelihood_at_fixed_gaussians() -> None:
    gmm, feats, pdfs, mixing = mixed(1, [1, 1, 1], 60)  # with one Gaussian a mixture there is nothing to share out
    statistics, identity = statistics_of(gmm, feats, pdfs), np.eye(DIM)
    for turn in (mixing, np.linalg.inv(mixing)):
        expected = log_likelihood(gmm, feats, pdfs, turn) - log_likelihood(gmm, feats, pdfs, identity)
        found = statistics.objective.value(turn) - statistics.objective.value(identity)
        assert found == pytest.approx(expected, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_no_sweep_lowers_the_objective(seed: int) -> None:
    statistics = statistics_of(*mixed(seed, [2, 1], 80)[:3])
    values = [statistics.objective.value(estimate(statistics, num_sweeps=number)) for number in (1, 2, 3, 4)]
    assert values[0] >= statistics.objective.value(np.eye(DIM))
    assert np.diff(values).min() > -1e-9 * abs(values[0])


def test_what_was_mixed_is_separated() -> None:
    gmm, feats, pdfs, mixing = mixed(2, [1, 1, 1, 1], 8000)
    together = estimate(statistics_of(gmm, feats, pdfs)) @ mixing
    strength = np.abs(together)
    largest = strength.max(axis=1)
    others = np.sort(strength, axis=1)[:, -2]
    assert {*strength.argmax(axis=1)} == {*range(DIM)}, "each row finds a source of its own"
    assert (others < 0.1 * largest).all()


def test_turned_mixtures_give_turned_frames_the_same_likelihood() -> None:
    gmm, feats, pdfs, _ = mixed(3, [2, 2], 50)
    scales = np.array([0.5, 2.0, 3.0])
    diagonal = np.diag(scales)  # a turn that diagonal covariances can follow exactly
    after = turned(gmm, np.eye(DIM), scales)
    for pdf in np.unique(pdfs):
        before = by_scipy(gmm, feats[pdfs == pdf], pdf)
        np.testing.assert_allclose(
            by_scipy(after, feats[pdfs == pdf] @ diagonal, pdf) + np.log(scales).sum(), before, rtol=1e-6
        )


def test_statistics_of_parts_add_up() -> None:
    gmm, feats, pdfs, _ = mixed(4, [2, 1], 90)
    whole, part = statistics_of(gmm, feats, pdfs), statistics_of(gmm, feats[:30], pdfs[:30])
    part.add(statistics_of(gmm, feats[30:], pdfs[30:]))
    assert part.num_frames == whole.num_frames == 90
    np.testing.assert_allclose(part.g, whole.g)


@pytest.mark.parametrize("num_frames", [0, 1, DIM - 1])
def test_too_few_frames_determine_nothing(num_frames: int) -> None:
    gmm, feats, _, _ = mixed(5, [1], max(num_frames, 1))
    statistics = statistics_of(gmm, feats[:num_frames], np.zeros(num_frames, np.int32))
    with pytest.raises(np.linalg.LinAlgError):
        estimate(statistics)
