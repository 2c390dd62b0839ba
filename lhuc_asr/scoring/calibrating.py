"""Fitting calibrated confidences to development speech, and what they are worth on speakers they were not fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.calibration import Calibration, fit_calibration
from lhuc_asr.decoding.words.hypothesis import Hypothesis
from lhuc_asr.errors import DataError
from lhuc_asr.scoring.confidence import ConfidenceScore, correct_words


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """A calibration, and what it does.

    Attributes:
        calibration: fitted on all speakers, for use on other speech.
        before: what the word posteriors are worth as they are, a little less than certain where they are certain.
        after: what calibrated ones are worth, each speaker's from the other half of the speakers; None where there is
            only one speaker.
        hypotheses: utterance id -> the hypothesis with the confidences of ``after``, or as it was.
    """

    calibration: Calibration
    before: ConfidenceScore
    after: ConfidenceScore | None
    hypotheses: Mapping[str, Hypothesis]

    def __str__(self) -> str:
        after = "not known, for there are words of one speaker only" if self.after is None else str(self.after)
        fitted = f"{self.calibration.slope:.3f} * log odds {self.calibration.offset:+.3f}"
        return (
            f"word posteriors   {self.before}\n"
            f"calibrated        {after}; each half of the speakers by the other half\n"
            f"calibration       {fitted}, by all speakers"
        )


def calibrate(
    hypotheses: Mapping[str, Hypothesis], references: Mapping[str, str], speaker_of: Mapping[str, str]
) -> CalibrationReport:
    """Fit the map from word posteriors to chances of being right.

    Args:
        hypotheses: utterance id -> words with posteriors as confidences, not calibrated, of development speech.
        references: utterance id -> words that were said.
        speaker_of: utterance id -> speaker.

    Raises:
        DataError: nothing was recognised, or a word has no confidence.
    """
    judged = {name: found for name, found in sorted(hypotheses.items()) if name in references and found.words}
    confidences, correct, speakers = _words(judged, references, speaker_of)
    fair = _cross_fitted(confidences, correct, speakers)
    return CalibrationReport(
        calibration=fit_calibration(confidences.tolist(), correct.tolist()),
        before=ConfidenceScore.of(Calibration()(confidences).tolist(), correct.tolist()),
        after=None if fair is None else ConfidenceScore.of(fair.tolist(), correct.tolist()),
        hypotheses=dict(hypotheses) if fair is None else {**hypotheses, **_with(judged, fair)},
    )


def _words(
    judged: Mapping[str, Hypothesis], references: Mapping[str, str], speaker_of: Mapping[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.str_]]:
    """(N,) posteriors, outcomes and speakers of all recognised words."""
    confidences: list[float] = []
    correct: list[bool] = []
    speakers: list[str] = []
    for utterance, hypothesis in judged.items():
        if hypothesis.confidences is None:
            raise DataError(f"the words of utterance {utterance!r} have no confidences, so nothing can be calibrated")
        confidences += hypothesis.confidences
        correct += correct_words(references[utterance].split(), hypothesis.text.split())
        speakers += [speaker_of[utterance]] * len(hypothesis.words)
    if not confidences:
        raise DataError("no word was recognised in any transcribed utterance, so nothing can be calibrated")
    return np.array(confidences), np.array(correct), np.array(speakers)


def _cross_fitted(
    confidences: NDArray[np.float64], correct: NDArray[np.bool_], speakers: NDArray[np.str_]
) -> NDArray[np.float64] | None:
    """(N,) confidences of every second speaker from the others, and the other way round."""
    _, number = np.unique(speakers, return_inverse=True)
    if number.max() == 0:
        return None
    fair = np.empty_like(confidences)
    for half in (number % 2 == 0, number % 2 == 1):
        fair[half] = fit_calibration(confidences[~half].tolist(), correct[~half].tolist())(confidences[half])
    return fair


def _with(judged: Mapping[str, Hypothesis], confidences: NDArray[np.float64]) -> dict[str, Hypothesis]:
    ends = np.cumsum([len(hypothesis.words) for hypothesis in judged.values()])[:-1]
    parts = np.split(confidences, ends)
    return {
        name: found.with_confidences(part.tolist()) for (name, found), part in zip(judged.items(), parts, strict=True)
    }
