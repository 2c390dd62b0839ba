"""Calibration on development speech, and its worth on speakers that it was not fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from lhuc_asr.decoding.calibration import fit_calibration
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word
from lhuc_asr.errors import DataError
from lhuc_asr.scoring.calibrating import calibrate
from lhuc_asr.scoring.confidence import ConfidenceScore, score_confidences

RANDOM = np.random.default_rng(0)


def corpus(num_speakers: int, *, num_words: int = 40):
    """Words whose posteriors have the fourth power of the odds with which they are right."""
    references, hypotheses, speaker_of = {}, {}, {}
    for number in range(num_speakers):
        name = f"s{number}-u"
        chances = RANDOM.uniform(0.05, 0.95, num_words)
        right = RANDOM.uniform(size=num_words) < chances
        odds = chances / (1 - chances)
        posteriors = odds**4 / (1 + odds**4)
        said = [f"W{index}" if ok else f"NOT{index}" for index, ok in enumerate(right)]
        words = tuple(Word(f"W{index}", index, 1.0, value) for index, value in enumerate(posteriors.tolist()))
        references[name], speaker_of[name] = " ".join(said), f"s{number}"
        hypotheses[name] = Hypothesis(name, words, np.ones(4, np.int32), 0.0, 0.0)
    return hypotheses, references, speaker_of


def test_calibrated_confidences_say_more_and_nobody_is_judged_by_his_own():
    hypotheses, references, speaker_of = corpus(6)
    report = calibrate(hypotheses, references, speaker_of)
    assert report.before.normalised_cross_entropy < 0.1 < report.after.normalised_cross_entropy
    assert report.calibration.slope == pytest.approx(0.25, abs=0.08)
    assert report.calibration.num_words == report.after.num_words == 240
    assert report.after.num_correct == report.before.num_correct
    others = [f"s{number}-u" for number in (1, 3, 5)]
    outcomes = [word in references[name].split() for name in others for word in hypotheses[name].text.split()]
    theirs = fit_calibration([value for name in others for value in hypotheses[name].confidences], outcomes)
    for name in ("s0-u", "s2-u", "s4-u"):
        np.testing.assert_allclose(report.hypotheses[name].confidences, theirs(hypotheses[name].confidences))
    words = {name: found.words for name, found in report.hypotheses.items()}
    assert score_confidences(references, words) == report.after
    assert str(report).startswith("word posteriors   normalised cross-entropy ")


def test_one_speaker_is_no_proof():
    hypotheses, references, speaker_of = corpus(1)
    report = calibrate(hypotheses, references, speaker_of)
    assert report.after is None and report.hypotheses == hypotheses
    assert "words of one speaker only" in str(report)


def test_empty_hypotheses_and_untranscribed_ones_do_not_count():
    hypotheses, references, speaker_of = corpus(2)
    empty = Hypothesis("s0-v", (), np.ones(4, np.int32), 0.0, 0.0)
    unknown = Hypothesis("s0-x", (Word("X", 0.0, 1.0),), np.ones(4, np.int32), 0.0, 0.0)
    more = {**hypotheses, "s0-v": empty, "s0-x": unknown}
    report = calibrate(more, {**references, "s0-v": "WAS SAID"}, {**speaker_of, "s0-v": "s0", "s0-x": "s0"})
    assert report.calibration == calibrate(hypotheses, references, speaker_of).calibration
    assert report.hypotheses["s0-x"] is unknown
    with pytest.raises(DataError, match="no word was recognised"):
        calibrate({"s0-v": empty}, {"s0-v": "WAS SAID"}, {"s0-v": "s0"})
    with pytest.raises(DataError, match="'s0-x' have no confidences"):
        calibrate({"s0-x": unknown}, {"s0-x": "X"}, {"s0-x": "s0"})


def test_words_without_confidences_are_counted_apart():
    words = [Word("A", 0.0, 1.0, 0.9), Word("X", 0.0, 1.0), Word("C", 0.0, 1.0, 0.2)]
    found = score_confidences({"u": "A B D", "not recognised": "A"}, {"u": words, "not said": words})
    assert found == ConfidenceScore.of([0.9, 0.2], [True, False], num_without=1)
    assert "1 words without" in str(found)
    assert score_confidences({"u": "A"}, {"u": [Word("A", 0.0, 1.0)]}) is None
