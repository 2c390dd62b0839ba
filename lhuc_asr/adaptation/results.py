"""What comes out of an adaptation, speaker by speaker, and the page on disk that other programs can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lhuc_asr.adaptation.passes.protocol import SpeakerPlan
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.decoding.words.hypothesis import Hypothesis
from lhuc_asr.files import write_json
from lhuc_asr.profiles.format import profile_stem
from lhuc_asr.units import Seconds


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeakerResult:
    """One speaker, adapted.

    Attributes:
        speaker: who.
        plan: the utterances that were learnt from, and those that are scored.
        seconds: audio that was learnt from, pauses included.
        update: what the update did.
        profile: where the profile lies.
        first_pass: speaker-independent hypotheses of ``plan.evaluation``.
        second_pass: adapted hypotheses of the same utterances; None when no second pass was asked for.
        failed: utterance id -> why a pass found no path; such an utterance counts as recognised without words.
        resumed: everything was there already from an earlier run.
        kept: how much of the speech counted, as `lhuc_asr.adaptation.targets.supervision.SpeakerTargets.kept` tells it.
    """

    speaker: str
    plan: SpeakerPlan
    seconds: Seconds
    update: UpdateReport
    profile: Path
    first_pass: Mapping[str, Hypothesis]
    second_pass: Mapping[str, Hypothesis] | None
    failed: Mapping[str, str] = field(default_factory=dict)
    resumed: bool = False
    kept: Mapping[str, float] = field(default_factory=dict)

    @property
    def share_kept(self) -> float:
        """Share of the output frames that counted, 0 to 1."""
        return self.kept["num_kept_frames"] / self.kept["num_frames"] if self.kept else 1.0

    @property
    def real_time_factor(self) -> float:
        """Seconds that the update took per second of audio; below 1 is faster than speech."""
        return self.update.seconds / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """The speaker's status."""
        return {
            "speaker": self.speaker,
            "state": "adapted" if self.second_pass is None else "done",
            "seconds": self.seconds,
            "objective_before": self.update.objective_before,
            "objective_after": self.update.objective_after,
            "objective_per_epoch": list(self.update.per_epoch),
            "held_out": self.update.held_out.plain() if self.update.held_out else None,
            "guard": self.update.guard.plain() if self.update.guard else None,
            "rounds": [asdict(own) for own in self.update.rounds],
            "update_seconds": self.update.seconds,
            "real_time_factor": self.real_time_factor,
            "kept": dict(self.kept),
            "num_adaptation_utterances": len(self.plan.adaptation),
            "num_evaluation_utterances": len(self.plan.evaluation),
            "failed_utterances": dict(self.failed),
            "profile": self.profile.name,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeakerFailure:
    """One speaker who could not be adapted to; the others go on.

    Attributes:
        speaker: who.
        reason: one line.
        plan: the speaker's utterances, where it came so far.
        first_pass: speaker-independent hypotheses of ``plan.evaluation``, where it came so far.
    """

    speaker: str
    reason: str
    plan: SpeakerPlan | None = None
    first_pass: Mapping[str, Hypothesis] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The speaker's status."""
        return {"speaker": self.speaker, "state": "failed", "reason": self.reason}


def write_status(directory: Path, outcome: SpeakerResult | SpeakerFailure) -> None:
    """Write what became of a speaker, for programs that collect: ``<escaped id>.json``."""
    write_json(directory / f"{profile_stem(outcome.speaker)}.json", outcome.as_json())
