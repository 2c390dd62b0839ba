"""Linear discriminant analysis against scikit-learn's, and what its projection promises."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lhuc_asr.errors import ConfigError
from lhuc_asr.hmm.mixtures.lda import LdaConfig, LdaStatistics, deviations

NUM_CLASSES, WINDOW = 5, 6


def classes_apart(seed: int, num_frames: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Windows around a place of each class, with the same covariance, and the class of each; class 4 is seldom."""
    generator = np.random.default_rng(seed)
    classes = generator.choice(NUM_CLASSES, num_frames, p=[0.3, 0.3, 0.2, 0.15, 0.05]).astype(np.int32)
    places, mixing = generator.normal(0, 2, (NUM_CLASSES, WINDOW)), generator.normal(size=(WINDOW, WINDOW))
    noise = generator.normal(size=(num_frames, WINDOW)) @ mixing.T
    return (3.0 + places[classes] + noise).astype(np.float32), classes


def statistics_of(windows: np.ndarray, classes: np.ndarray, num_classes: int = NUM_CLASSES) -> LdaStatistics:
    statistics = LdaStatistics.empty(num_classes, windows.shape[1])
    statistics.accumulate(windows, classes)
    return statistics


def test_directions_are_those_of_scikit_learn() -> None:
    windows, classes = classes_apart(0)
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(windows, classes)
    rows = statistics_of(windows, classes).projection(NUM_CLASSES - 1, context=1).matrix[:, :-1]
    for own, other in zip(rows, theirs.scalings_.T, strict=False):
        cosine = own @ other / np.linalg.norm(own) / np.linalg.norm(other)
        assert abs(cosine) == pytest.approx(1.0, abs=1e-6)


def test_what_is_projected_has_mean_0_and_variance_1_and_no_correlation_within_classes() -> None:
    windows, classes = classes_apart(1)
    found = statistics_of(windows, classes).projection(NUM_CLASSES - 1, context=0)
    projected = found.apply(windows).astype(np.float64)
    np.testing.assert_allclose(projected.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(projected.var(axis=0), 1.0, rtol=1e-4)
    within = sum(np.cov(projected[classes == c].T, bias=True) * (classes == c).mean() for c in range(NUM_CLASSES))
    np.testing.assert_allclose(within - np.diag(np.diag(within)), 0.0, atol=1e-4)
    between = 1.0 - np.diag(within)
    assert (np.diff(between) < 1e-6).all(), "the best direction comes first"


def test_classes_that_never_occur_change_nothing() -> None:
    windows, classes = classes_apart(2)
    few, many = (statistics_of(windows, classes, number).projection(2, 1) for number in (NUM_CLASSES, NUM_CLASSES + 4))
    np.testing.assert_allclose(few.matrix, many.matrix)


def test_statistics_of_parts_add_up() -> None:
    windows, classes = classes_apart(3)
    whole, part = statistics_of(windows, classes), statistics_of(windows[:100], classes[:100])
    part.add(statistics_of(windows[100:], classes[100:]))
    np.testing.assert_allclose(part.projection(3, 1).matrix, whole.projection(3, 1).matrix, rtol=1e-8)
    np.testing.assert_allclose(whole.covariance, np.cov(windows.T.astype(np.float64), bias=True), rtol=1e-6)


def test_deviations_are_those_of_what_is_projected() -> None:
    windows, classes = classes_apart(4)
    rows = np.random.default_rng(5).normal(size=(3, WINDOW))
    np.testing.assert_allclose(
        deviations(statistics_of(windows, classes).covariance, rows), (windows @ rows.T).std(axis=0), rtol=1e-4
    )


@pytest.mark.parametrize("num_frames", [2, WINDOW])
def test_too_few_windows_determine_nothing(num_frames: int) -> None:
    windows, classes = classes_apart(6, num_frames)
    with pytest.raises(np.linalg.LinAlgError):
        statistics_of(windows, classes).projection(2, context=1)


def test_values_that_are_sums_of_others_are_refused() -> None:
    windows, classes = classes_apart(7)
    windows[:, -1] = windows[:, 0] - windows[:, 1]
    with pytest.raises(np.linalg.LinAlgError, match="too few or too much alike"):
        statistics_of(windows, classes).projection(2, context=1)


def test_no_more_directions_than_classes_differ_along() -> None:
    windows, classes = classes_apart(8)
    with pytest.raises(np.linalg.LinAlgError, match="5 classes differ along no more than 4 directions"):
        statistics_of(windows, classes, NUM_CLASSES + 4).projection(NUM_CLASSES, context=1)


def test_settings_out_of_range_are_refused() -> None:
    for name in ("dim", "context"):
        with pytest.raises(ConfigError, match=rf"lda\.{name} must be 0 or more, got -1"):
            LdaConfig(**{name: -1})
    with pytest.raises(ConfigError, match=r"lda\.mllt_passes must be 0 or more, got \[-1, 2\]"):
        LdaConfig(mllt_passes=[-1, 2])
    assert not LdaConfig().is_used and LdaConfig(dim=40).is_used
