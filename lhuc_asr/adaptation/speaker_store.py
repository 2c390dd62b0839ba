"""Finished work of speakers on disk: passes, what was learnt, and what came out; known by the keys of what made them.

DIRECTORY/first_pass/<speaker>/     speaker-independent words, state paths and, where targets or confidences are read
                                    off them, lattices (may lie elsewhere and be shared)
DIRECTORY/profiles/<speaker>.json   the profile, with its tensors beside it; ``parameters`` for other numbers
DIRECTORY/second_pass/<speaker>/    adapted words and state paths
DIRECTORY/rounds/<n>/<speaker>/     where there are several rounds, what the round before recognised
DIRECTORY/status/<speaker>.json     what became of the speaker
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lhuc_asr.adaptation.keys import SpeakerKeys
from lhuc_asr.adaptation.outcome import Updated, report_of
from lhuc_asr.adaptation.parameters.stored import Stored, StoredParameters, load_parameters, save_parameters
from lhuc_asr.adaptation.passes.pass_store import PassStore
from lhuc_asr.adaptation.passes.protocol import SpeakerPlan
from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult, write_status
from lhuc_asr.errors import ProfileError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.profiles.folder_store import FolderBackend
from lhuc_asr.profiles.format import encode, load_profile, profile_path
from lhuc_asr.units import Milliseconds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeakerWork:
    """One speaker's work.

    Attributes:
        plan: what it is about.
        keys: by which finished parts are known.
        start: scales that are known before anything is recognised.
    """

    plan: SpeakerPlan
    keys: SpeakerKeys
    start: LhucAdapter | None = None

    @property
    def name(self) -> str:
        """Who."""
        return self.plan.speaker

    def failure(self, reason: str, first: SpeakerPass) -> SpeakerFailure:
        """The speaker could be recognised, but not adapted to."""
        words = first.of(self.plan.evaluation)
        return SpeakerFailure(speaker=self.name, reason=reason, plan=self.plan, first_pass=words)


@dataclass(frozen=True)
class SpeakerStore:
    """What lies in the directory of an adaptation.

    Attributes:
        directory: of the adaptation.
        first_pass_directory: where first passes are kept, if not in ``directory``.
        fingerprint: of the model.
        output_shift_ms: from one output of the network to the next, in which paths count.
        are_scales: what is learnt is kept as profiles.
    """

    directory: Path
    first_pass_directory: Path | None
    fingerprint: str
    output_shift_ms: Milliseconds
    are_scales: bool = True

    @property
    def first_passes(self) -> PassStore:
        """Speaker-independent words."""
        return PassStore(self.first_pass_directory or self.directory / "first_pass")

    @property
    def second_passes(self) -> PassStore:
        """Adapted words."""
        return PassStore(self.directory / "second_pass")

    def round_passes(self, number: int) -> PassStore:
        """What is recognised at the beginning of a round of self-training."""
        return PassStore(self.directory / "rounds" / str(number))

    def load(self, speaker: str) -> Stored:
        """What was learnt about a speaker.

        Raises:
            ProfileError: there is nothing, or it is damaged or of another model.
        """
        path = profile_path(self._learnt, speaker)
        return (load_profile if self.are_scales else load_parameters)(path, fingerprint=self.fingerprint)

    def holds(self, speaker: str) -> bool:
        """Whether something was learnt about a speaker, under whatever settings."""
        return profile_path(self._learnt, speaker).exists()

    def learnt(self, work: SpeakerWork) -> Stored | None:
        """What was learnt from the same things, or None when there is none or, as `finished` tells, it is damaged."""
        try:
            return self._learnt_by(work)
        except ProfileError:
            return None

    def _learnt_by(self, work: SpeakerWork) -> Stored | None:
        if not profile_path(self._learnt, work.name).exists():
            return None
        found = self.load(work.name)
        return found if found.settings.get("key") == work.keys.update else None

    def finished(self, work: SpeakerWork, *, second_pass: bool) -> SpeakerResult | None:
        """The result of an earlier run, where nothing is left to do."""
        try:
            learnt = self._learnt_by(work)
        except ProfileError as error:
            logger.warning("%s; it is learnt again", error)
            return None
        if learnt is None:
            return None
        first = self.first_passes.get(work.name, work.keys.first_pass)
        second = self.second_passes.get(work.name, work.keys.second_pass) if second_pass else None
        if first is None or (second_pass and second is None):
            return None
        return self.result(work, learnt, first, second, resumed=True)

    def keep(
        self, work: SpeakerWork, updated: Updated, kept: Mapping[str, float], settings: Mapping[str, Any]
    ) -> Stored:
        """Write what was learnt.

        Args:
            work: whose it is.
            updated: the numbers.
            kept: how much of the speech counted.
            settings: of the adaptation, and what else shall be told.
        """
        stored = replace(updated, num_frames=int(kept["num_kept_frames"])).stored(
            work.name,
            base_fingerprint=self.fingerprint,
            settings={
                **settings,
                "key": work.keys.update,
                "utterances": list(work.plan.adaptation),
                "kept": dict(kept),
            },
            frame_shift_ms=self.output_shift_ms,
        )
        if isinstance(stored, StoredParameters):
            save_parameters(stored, self._learnt)
        else:
            FolderBackend(self._learnt).take(stored.speaker, encode(stored))
        return stored

    def result(
        self,
        work: SpeakerWork,
        learnt: Stored,
        first: SpeakerPass,
        second: SpeakerPass | None,
        *,
        resumed: bool = False,
    ) -> SpeakerResult:
        """What comes out of it, with the words that are scored."""
        return SpeakerResult(
            speaker=work.name,
            plan=work.plan,
            seconds=learnt.seconds,
            update=report_of(learnt),
            kept=learnt.settings.get("kept", {}),
            profile=profile_path(self._learnt, work.name),
            first_pass=first.of(work.plan.evaluation),
            second_pass=None if second is None else second.of(work.plan.evaluation),
            failed={**first.failed, **(second.failed if second else {})},
            resumed=resumed,
        )

    def close(self, outcome: SpeakerResult | SpeakerFailure) -> None:
        """Write what became of a speaker; what an earlier run learnt of one who failed stays, and says how."""
        write_status(self.directory / "status", outcome)

    @property
    def _learnt(self) -> Path:
        return self.directory / ("profiles" if self.are_scales else "parameters")
