"""Confidences of real searches, and their calibration."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from lhuc_asr.decoding.calibration import Calibration, fit_calibration
from lhuc_asr.decoding.confidence import ConfidenceConfig, ConfidenceEstimator, word_ids
from lhuc_asr.decoding.words.hypothesis import Word
from lhuc_asr.errors import ConfigError, DataError, DecodingError


def recognised(toy, decoder, path, *, contrast, noise, seed=0):
    log_likes = toy.log_likes_of(path, contrast=contrast, noise=noise, seed=seed)
    return decoder.lattice("u1", log_likes), decoder.decode("u1", log_likes)


def test_a_clear_utterance_is_certain(toy, decoder, path):
    found = ConfidenceEstimator(toy.HMM, toy.LEXICON)(*recognised(toy, decoder, path, contrast=50.0, noise=0.0))
    assert found.words == pytest.approx((1.0, 1.0, 1.0), abs=1e-3)
    np.testing.assert_allclose(found.frames, 1.0, atol=1e-3)
    assert found.whole == pytest.approx(1.0, abs=1e-3)
    assert found.num_expected_errors == pytest.approx(0.0, abs=1e-3)


def test_noise_and_flatter_scales_make_less_sure(toy, decoder, path):
    lattice, hypothesis = recognised(toy, decoder, path, contrast=8.0, noise=4.0)
    sure = ConfidenceEstimator(toy.HMM, toy.LEXICON)(lattice, hypothesis)
    flat = ConfidenceConfig(acoustic_scale=0.03, graph_scale=0.3)
    unsure = ConfidenceEstimator(toy.HMM, toy.LEXICON, flat)(lattice, hypothesis)
    assert len(sure.words) == len(hypothesis.words)
    assert len(sure.frames) == len(hypothesis.transition_ids)
    assert unsure.whole < sure.whole < 1.0
    assert unsure.num_expected_errors > sure.num_expected_errors
    assert ((sure.frames >= 0) & (sure.frames <= 1)).all()


def test_calibration_changes_the_words_only(toy, decoder, path):
    lattice, hypothesis = recognised(toy, decoder, path, contrast=8.0, noise=4.0)
    plain = ConfidenceEstimator(toy.HMM, toy.LEXICON)(lattice, hypothesis)
    calibration = Calibration(slope=0.5, offset=-1.0)
    changed = ConfidenceEstimator(toy.HMM, toy.LEXICON, calibration=calibration)(lattice, hypothesis)
    np.testing.assert_allclose(changed.words, calibration(plain.words))
    np.testing.assert_array_equal(changed.frames, plain.frames)


def test_what_does_not_belong_together_is_refused(toy, decoder, path):
    lattice, hypothesis = recognised(toy, decoder, path, contrast=50.0, noise=0.0)
    estimator = ConfidenceEstimator(toy.HMM, toy.LEXICON)
    with pytest.raises(DecodingError, match="'u1' and a hypothesis of 'u2'"):
        estimator(lattice, dataclasses.replace(hypothesis, utterance="u2"))
    with pytest.raises(DecodingError, match="'ZZ' is not a word"):
        word_ids(dataclasses.replace(hypothesis, words=(Word("ZZ", 0.0, 0.1),)), toy.LEXICON)
    with pytest.raises(ConfigError, match="graph_scale"):
        ConfidenceConfig(graph_scale=-1.0)


def test_calibration_finds_what_another_optimiser_finds():
    random = np.random.default_rng(0)
    posteriors = random.uniform(0.02, 0.98, 400)
    odds = np.log(posteriors / (1 - posteriors))
    correct = random.random(400) < 1 / (1 + np.exp(-(0.4 * odds - 0.7)))

    def loss(weights):
        logit = weights[0] * odds + weights[1]
        return np.logaddexp(0, logit).sum() - logit[correct].sum()

    expected = minimize(loss, [1.0, 0.0]).x
    found = fit_calibration(posteriors, correct)
    assert (found.slope, found.offset) == pytest.approx(tuple(expected), abs=2e-3)
    assert found.num_words == 400
    assert found(posteriors).mean() == pytest.approx(correct.mean(), abs=1e-3)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_calibration_never_turns_the_order_round(words):
    posteriors, correct = zip(*words, strict=True)
    found = fit_calibration(posteriors, correct)
    assert found.slope >= 0
    values = found(np.sort(np.array(posteriors)))
    assert (np.diff(values) >= -1e-12).all()
    assert ((values > 0) & (values < 1)).all()


def test_misleading_posteriors_become_the_share_of_right_words():
    found = fit_calibration([0.9, 0.9, 0.1, 0.1], [False, False, True, True])
    assert found.slope == 0.0
    assert found([0.1, 0.9]) == pytest.approx([0.5, 0.5])


def test_calibration_on_disk(tmp_path):
    found = fit_calibration([0.9, 0.8, 0.1, 0.6], [True, False, False, True])
    found.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == found
    (tmp_path / "calibration.json").write_text('{"format_version": 2}')
    with pytest.raises(DataError, match="format 2"):
        Calibration.load(tmp_path / "calibration.json")
    with pytest.raises(DataError, match="no calibration"):
        Calibration.load(tmp_path / "absent.json")


def test_calibration_refuses_what_is_no_posterior():
    with pytest.raises(DataError, match="needs words"):
        fit_calibration([], [])
    with pytest.raises(DataError, match="between 0 and 1"):
        fit_calibration([1.2], [True])
