"""Targets of a speaker's frames: what the first pass believed, or, for research, what the references say."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.adaptation.passes.protocol import SpeakerPlan
from lhuc_asr.adaptation.targets.doubt import Doubt
from lhuc_asr.adaptation.targets.frame_targets import EntropyTargets, SoftTargets, Targets
from lhuc_asr.adaptation.targets.other_words import align_words
from lhuc_asr.adaptation.targets.posteriors import as_targets
from lhuc_asr.adaptation.targets.sequence_criteria import Goal
from lhuc_asr.decoding.lattices.posteriors import FramePosteriors
from lhuc_asr.errors import SpeakerError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.units import Milliseconds, Seconds, frames_to_seconds

logger = logging.getLogger(__name__)

_SILENCE = 1


@dataclass(frozen=True, eq=False)
class SpeakerTargets:
    """What one speaker's frames shall be taken for.

    Attributes:
        pdfs: utterance id -> (T',) tied state of each output frame; utterances without a path are absent.
        num_frames: output frames of all utterances.
        num_speech_frames: those whose phone is not silence.
        failed: utterance id -> why it is absent.
        posteriors: utterance id -> what several states share frames of, in place of ``pdfs``.
        weights: utterance id -> (T',) what each frame counts, at least 0; utterances that are absent count fully.
        entropy: share of the adapted network's own doubt in the objective, 0 to 1; the rest is ``posteriors``.
        doubt: how that is measured.
        paths: utterance id -> (T',) transition ids of what is believed.
        goals: utterance id -> what a criterion of whole utterances learns from; absent ones are not learnt from.
    """

    pdfs: Mapping[str, NDArray[np.int32]]
    num_frames: int
    num_speech_frames: int
    failed: Mapping[str, str] = field(default_factory=dict)
    posteriors: Mapping[str, FramePosteriors] = field(default_factory=dict)
    weights: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    entropy: float = 0.0
    doubt: Doubt = field(default_factory=Doubt)
    paths: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    goals: Mapping[str, Goal] = field(default_factory=dict)

    @property
    def num_kept_frames(self) -> int:
        """Output frames that count."""
        left_out = sum(int((weights <= 0).sum()) for weights in self.weights.values())
        return self.num_frames - left_out

    def kept(self) -> dict[str, float]:
        """How much of the speech counts, for people and programs."""
        weights = self.weights.values()
        lost = sum(float((1 - own).sum()) for own in weights)
        return {
            "num_frames": self.num_frames,
            "num_kept_frames": self.num_kept_frames,
            "mean_weight": (self.num_frames - lost) / self.num_frames if self.num_frames else 0.0,
            "num_utterances": len(self.pdfs),
            "num_kept_utterances": len(self.pdfs) - sum(not own.any() for own in weights),
        }

    def tensors(self, *, whole: bool) -> dict[str, Targets]:
        """Utterance id -> targets of its frames; utterances that do not count at all are absent.

        Weights are scaled, so that their mean over all rows is 1: the mean over rows is then the mean by weights, and
        that over a minibatch the same without bias.

        Args:
            whole: give a row to all T' frames of an utterance, and not only to those that count.
        """
        numbers = {name: self.counting(name) for name in self.pdfs}
        names = [name for name in self.pdfs if len(numbers[name])]
        num_rows = sum(len(self.pdfs[name] if whole else numbers[name]) for name in names)
        total = sum(float(self._weights_of(name).sum(dtype=np.float64)) for name in names)
        return {name: self._tensors_of(name, num_rows / total, None if whole else numbers[name]) for name in names}

    def counting(self, name: str) -> NDArray[np.int64]:
        """Numbers of an utterance's frames that count, ascending."""
        return np.flatnonzero(self._weights_of(name) > 0)

    def _weights_of(self, name: str) -> NDArray[np.float32]:
        return self.weights.get(name, np.ones(len(self.pdfs[name]), np.float32))

    def _tensors_of(self, name: str, scale: float, rows: NDArray[np.int64] | None) -> Targets:
        pdfs = torch.from_numpy(self.pdfs[name].astype(np.int64))
        soft = as_targets(self.posteriors[name]) if name in self.posteriors else SoftTargets.of(pdfs, 1)
        weights = torch.from_numpy(self._weights_of(name) * np.float32(scale))
        chosen = torch.arange(len(pdfs)) if rows is None else torch.from_numpy(rows)
        if self.entropy:
            anchor = SoftTargets(soft.states, soft.shares * (weights * (1 - self.entropy))[:, None])
            return EntropyTargets(weights * self.entropy, anchor, self.doubt)[chosen]
        return SoftTargets(soft.states, soft.shares * weights[:, None])[chosen].simplified()


def targets_of_paths(
    paths: Mapping[str, NDArray[np.int32]], failed: Mapping[str, str], hmm: HmmModel
) -> SpeakerTargets:
    """Tied states of transition-id paths, of the first pass or of an alignment.

    Args:
        paths: utterance id -> (T',) transition ids, one for each output frame.
        failed: utterance id -> why it has no path.
        hmm: whose transition ids they are.
    """
    return SpeakerTargets(
        pdfs={utterance: hmm.pdfs(path) for utterance, path in paths.items()},
        num_frames=sum(len(path) for path in paths.values()),
        num_speech_frames=sum(int(is_speech(path, hmm).sum()) for path in paths.values()),
        failed=failed,
        paths=paths,
    )


def is_speech(path: NDArray[np.int32], hmm: HmmModel) -> NDArray[np.bool_]:
    """(T',) False where a path of transition ids is in silence."""
    return np.asarray(hmm.phones_of(path) != _SILENCE, np.bool_)


def silence_share(paths: Iterable[NDArray[np.int32]], hmm: HmmModel) -> float:
    """Share of the outputs that paths of transition ids take for silence, 0 to 1; 0 where there are none.

    Where it grows from the first pass to the second, scales have learnt to hear silence: words get lost. First passes
    take for silence what they do not understand, and criteria of frames believe that.
    """
    speech = [is_speech(path, hmm) for path in paths]
    num_outputs = sum(map(len, speech))
    return 1 - sum(int(own.sum()) for own in speech) / num_outputs if num_outputs else 0.0


def require_speech(targets: SpeakerTargets, speaker: str, *, at_least: Seconds, frame_shift_ms: Milliseconds) -> None:
    """Refuse a speaker who said next to nothing.

    Args:
        targets: of the speaker.
        speaker: who.
        at_least: that much speech is needed, silence not counted.
        frame_shift_ms: from one output frame to the next.

    Raises:
        SpeakerError: no frame has a target, or the frames that are not silence last less than ``at_least``.
    """
    if not targets.num_frames:
        example = next((f", such as {utterance!r}: {reason}" for utterance, reason in targets.failed.items()), "")
        raise SpeakerError(
            f"speaker {speaker!r} has nothing to learn from: none of {len(targets.failed)} utterances got a state path"
            + example
        )
    seconds = frames_to_seconds(targets.num_frames, frame_shift_ms)
    speech = frames_to_seconds(targets.num_speech_frames, frame_shift_ms)
    if targets.weights and speech < max(at_least, 1e-9):
        raise SpeakerError(
            f"speaker {speaker!r} has {speech:.1f} s of speech that counts in {seconds:.1f} s of audio; at least "
            f"{at_least:g} s are needed (adapt.min_seconds), or settings by which more counts (adapt.weights, "
            "adapt.min_confidence, adapt.best_share, adapt.only_agreed)"
        )
    if not speech:
        raise SpeakerError(f"speaker {speaker!r} said nothing: {seconds:.1f} s of audio were taken for silence")
    if speech < at_least:
        raise SpeakerError(
            f"speaker {speaker!r} has {speech:.1f} s of speech in {seconds:.1f} s of audio; "
            f"at least {at_least:g} s are needed (adapt.min_seconds)"
        )


def align_references(
    system: AcousticSystem,
    plans: Sequence[SpeakerPlan],
    transcripts: Mapping[str, str],
    feats: Mapping[str, NDArray[np.float32]],
    *,
    num_jobs: int,
) -> Iterator[tuple[str, SpeakerTargets]]:
    """Oracle targets: the references, aligned with the speaker-independent model. For research: it is not adaptation.

    Args:
        system: the model.
        plans: speakers and the utterances that they are learnt from.
        transcripts: utterance id -> words; utterances without words are left out and reported.
        feats: utterance id -> (T, F) normalised.
        num_jobs: processes.

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section V-E, the oracle arm.
    """
    utterances = [utterance for plan in plans for utterance in plan.adaptation]
    aligned = align_words(system, transcripts, utterances, feats, num_jobs=num_jobs, description="aligning references")
    for utterance, reason in aligned.failed.items():
        logger.warning("utterance %r has no reference alignment and is left out: %s", utterance, reason)
    for plan in plans:
        paths = {u: aligned.alignments[u] for u in plan.adaptation if u in aligned.alignments}
        yield plan.speaker, targets_of_paths(paths, failed_of(plan.adaptation, aligned.failed), system.hmm)


def failed_of(utterances: Sequence[str], failed: Mapping[str, str]) -> dict[str, str]:
    """Utterance id -> why it has no path, of these utterances."""
    return {utterance: failed[utterance] for utterance in utterances if utterance in failed}
