"""Targets of a speaker's frames: what the first pass believed, or, for research, what the references say."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.adaptation.passes import SpeakerPass
from lhuc_asr.adaptation.protocol import SpeakerPlan
from lhuc_asr.errors import SpeakerError
from lhuc_asr.hmm.alignment import AlignConfig, ForcedAligner
from lhuc_asr.hmm.model import HmmModel
from lhuc_asr.parallel import one_thread
from lhuc_asr.progress import track
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
    """

    pdfs: Mapping[str, NDArray[np.int32]]
    num_frames: int
    num_speech_frames: int
    failed: Mapping[str, str] = field(default_factory=dict)


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
        num_speech_frames=sum(int((hmm.phones_of(path) != _SILENCE).sum()) for path in paths.values()),
        failed=failed,
    )


def one_best(utterances: Sequence[str], first_pass: SpeakerPass, hmm: HmmModel) -> SpeakerTargets:
    """The first pass's best state path, silence included, as it is: no realignment and no selection.

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section V, and the authors' adaptation script.
    """
    paths = {utterance: found.transition_ids for utterance, found in first_pass.of(utterances).items()}
    return targets_of_paths(paths, _of(utterances, first_pass.failed), hmm)


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
    aligner = ForcedAligner(system.hmm, system.lexicon, AlignConfig(acoustic_scale=system.decoding.acoustic_scale))

    def log_likes(utterance: str) -> tuple[str, NDArray[np.float32]]:
        with one_thread(when=num_jobs > 1):
            return utterance, system.log_likes(feats[utterance])

    aligned = aligner.align_all(
        map(log_likes, track(utterances, "aligning references")), transcripts, num_jobs=num_jobs
    )
    for utterance, reason in aligned.failed.items():
        logger.warning("utterance %r has no reference alignment and is left out: %s", utterance, reason)
    for plan in plans:
        paths = {u: aligned.alignments[u] for u in plan.adaptation if u in aligned.alignments}
        yield plan.speaker, targets_of_paths(paths, _of(plan.adaptation, aligned.failed), system.hmm)


def _of(utterances: Sequence[str], failed: Mapping[str, str]) -> dict[str, str]:
    return {utterance: failed[utterance] for utterance in utterances if utterance in failed}
