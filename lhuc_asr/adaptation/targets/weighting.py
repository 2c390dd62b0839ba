"""What frames count: by how sure the recogniser is of their states or words, and whether they count at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.adaptation.targets.config import Confidence, Selection, TargetConfig, Weighting
from lhuc_asr.adaptation.targets.supervision import SpeakerTargets
from lhuc_asr.decoding.confidence import Confidences
from lhuc_asr.decoding.words.hypothesis import Hypothesis
from lhuc_asr.errors import SpeakerError

Shares = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FrameConfidences:
    """How sure the recogniser is of each frame of one utterance.

    Attributes:
        frame: (T',) in [0, 1], posteriors of the path's states.
        word: (T',) in [0, 1], confidences of the words that are said; None where nobody asked for them.
    """

    frame: Shares
    word: Shares | None = None

    def of(self, kind: Confidence) -> Shares:
        """One of the two, or the mean of the latter."""
        if kind is Confidence.frame:
            return self.frame
        assert self.word is not None, "confidences of words were asked for"
        return self.word if kind is Confidence.word else np.full_like(self.word, self.word.mean())


def word_confidences_by_frame(hypothesis: Hypothesis, confidences: Confidences) -> Shares:
    """(T',) confidences of words spread over the frames that they last; the others have the mean of all words.

    Utterances without words have the mean posterior of their states everywhere.
    """
    num_frames = len(hypothesis.transition_ids)
    spread = np.full(num_frames, confidences.whole, np.float32)
    for (start, end), confidence in zip(hypothesis.word_frames, confidences.words, strict=True):
        spread[start:end] = confidence
    return spread


@dataclass(frozen=True, eq=False)
class FrameWeighting:
    """Weights of a speaker's frames, as the configuration asks for them.

    Attributes:
        config: what counts.

    Example:
        >>> sure = {"u1": FrameConfidences(np.array([0.9, 0.2], np.float32))}
        >>> config = TargetConfig(confidence=Confidence.frame, min_confidence=0.5)
        >>> FrameWeighting(config).weights(sure)["u1"].tolist()
        [1.0, 0.0]
    """

    config: TargetConfig = field(default_factory=TargetConfig)

    def weights(self, confidences: Mapping[str, FrameConfidences]) -> dict[str, Shares]:
        """Utterance id -> (T',) what each frame counts, at least 0."""
        chosen = self._chosen(confidences)
        return {utterance: self._of_utterance(own) * chosen[utterance] for utterance, own in confidences.items()}

    def _of_utterance(self, own: FrameConfidences) -> Shares:
        config = self.config
        weights = np.ones_like(own.frame)
        if config.weights is not Weighting.none:
            weights = own.of(Confidence[config.weights.name]).astype(np.float32)
        if config.min_confidence > 0:
            weights = np.where(own.of(config.confidence) >= config.min_confidence, weights, np.float32(0))
        return weights

    def _chosen(self, confidences: Mapping[str, FrameConfidences]) -> dict[str, Shares]:
        """Utterance id -> (T',) 1 for frames that belong to the best share, else 0."""
        if self.config.best_share == 1:
            return {utterance: np.ones_like(own.frame) for utterance, own in confidences.items()}
        sure = {utterance: own.of(self.config.confidence) for utterance, own in confidences.items()}
        if self.config.share_of is Selection.frames:
            return self._best_frames(sure)
        best = self._best_utterances({utterance: float(own.mean()) for utterance, own in sure.items()})
        return {utterance: np.full_like(own, utterance in best) for utterance, own in sure.items()}

    def _best_utterances(self, means: Mapping[str, float]) -> set[str]:
        """Those with the highest mean confidence; of equal ones those that come first."""
        return set(sorted(means, key=lambda utterance: -means[utterance])[: self._num_best(len(means))])

    def _best_frames(self, sure: Mapping[str, Shares]) -> dict[str, Shares]:
        """As many of all frames as the share asks for, and those that are as sure as the last of them."""
        everyone = np.sort(np.concatenate([*sure.values(), np.zeros(0, np.float32)]))[::-1]
        least = everyone[self._num_best(len(everyone)) - 1] if len(everyone) else 0
        return {utterance: (own >= least).astype(np.float32) for utterance, own in sure.items()}

    def _num_best(self, count: int) -> int:
        return ceil(self.config.best_share * count - 1e-9)


def weighted(
    targets: SpeakerTargets,
    weights: Mapping[str, Shares],
    num_speech_frames: int,
    *,
    speaker: str,
    config: TargetConfig,
) -> SpeakerTargets:
    """The same targets, counting so much.

    Args:
        targets: of one speaker.
        weights: utterance id -> (T',) what each frame counts.
        num_speech_frames: frames that count and are not silence.
        speaker: who, for messages.
        config: where the weights come from.

    Raises:
        SpeakerError: there are targets, and none of them counts.
    """
    found = replace(targets, weights=dict(weights), num_speech_frames=num_speech_frames)
    if targets.num_frames and not found.num_kept_frames:
        raise SpeakerError(
            f"speaker {speaker!r} has nothing to learn from: of {targets.num_frames} frames in {len(targets.pdfs)} "
            f"utterances none counts with {_at_work(config)}"
        )
    return found


def _at_work(config: TargetConfig) -> str:
    """The settings that make frames count less, and what to give in their place."""
    parts = [
        (config.weights is not Weighting.none, f"weights={config.weights.name}", "adapt.weights=none"),
        (config.min_confidence > 0, f"min_confidence={config.min_confidence:g}", "a lower adapt.min_confidence"),
        (config.best_share < 1, f"best_share={config.best_share:g}", "a higher adapt.best_share"),
        (config.only_agreed, "only_agreed=true", "adapt.only_agreed=false"),
    ]
    given = [(f"adapt.{asked}", remedy) for at_work, asked, remedy in parts if at_work]
    return f"{' and '.join(asked for asked, _ in given)}; possible: {' or '.join(remedy for _, remedy in given)}"
