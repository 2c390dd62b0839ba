"""What the update of one speaker gave: parameters as they travel between processes, and as they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.adaptation.parameters.own import Beginning, OwnParameters
from lhuc_asr.adaptation.parameters.sets import ParameterSet
from lhuc_asr.adaptation.parameters.stored import Stored, StoredParameters
from lhuc_asr.adaptation.update.guard import GuardReport
from lhuc_asr.adaptation.update.held_out import HeldOutReport
from lhuc_asr.adaptation.update.report import Round, UpdateReport
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.profiles.format import Profile
from lhuc_asr.units import Milliseconds, Seconds, frames_to_seconds


@dataclass(frozen=True, eq=False)
class Updated:
    """One speaker's parameters, as they travel between processes.

    Attributes:
        r: site name -> (H,) parameters, or name -> numbers of another kind.
        amplitude: how they become factors; None where they are not scales.
        layouts: site name -> where its units lie.
        report: what the update did.
        num_frames: output frames that were learnt from.
        cpu: seconds of one core that it took.
        prior: SHA-256 of the prior that it began with; None where there was none.
    """

    r: Mapping[str, NDArray[np.float32]]
    amplitude: Amplitude | None
    layouts: Mapping[str, str]
    report: UpdateReport
    num_frames: int
    cpu: Seconds
    prior: str | None = None

    def guarded(self, report: GuardReport) -> Updated:
        """The same, with the guard's verdict."""
        return replace(self, report=replace(self.report, guard=report))

    def adapter(self, own: ParameterSet | None = None) -> Beginning:
        """The parameters, ready to be attached to the model; ``own`` says where they act if they are not scales."""
        r = {name: torch.from_numpy(values) for name, values in self.r.items()}
        if self.amplitude is None:
            assert own is not None
            return OwnParameters(own, r)
        return LhucAdapter(r, self.amplitude, {name: Layout(letters) for name, letters in self.layouts.items()})

    def stored(
        self, speaker: str, *, base_fingerprint: str, settings: Mapping[str, Any], frame_shift_ms: Milliseconds
    ) -> Stored:
        """What is kept of these parameters, a profile if they are scales; `report_of` gets the report out of it again.

        Args:
            speaker: whose they are.
            base_fingerprint: of the model.
            settings: of the adaptation.
            frame_shift_ms: from one output frame to the next.
        """
        r = {name: torch.from_numpy(values) for name, values in self.r.items()}
        facts: dict[str, Any] = {
            "supervision": settings["adapt"]["supervision"],
            "seconds": frames_to_seconds(self.num_frames, frame_shift_ms),
            "objective_before": self.report.objective_before,
            "objective_after": self.report.objective_after,
            "guard": _plain_verdict(self.report),
            "settings": {
                **settings,
                "objective_per_epoch": list(self.report.per_epoch),
                "update_seconds": self.report.seconds,
                **({"prior": self.prior} if self.prior else {}),
                **({"rounds": [asdict(own) for own in self.report.rounds]} if self.report.rounds else {}),
                **({"coefficients": list(self.report.coefficients)} if self.report.coefficients else {}),
            },
        }
        if self.amplitude is None:
            kind = settings["adapt"]["parameters"]
            return StoredParameters(speaker, base_fingerprint, kind, r, **facts)
        return Profile(
            speaker=speaker,
            base_fingerprint=base_fingerprint,
            amplitude=self.amplitude,
            r=r,
            layouts=self.layouts,
            **facts,
        )


def report_of(profile: Stored) -> UpdateReport:
    """What the update that made a profile, or other numbers, did."""
    assert profile.objective_before is not None and profile.objective_after is not None
    guard = GuardReport.from_plain(profile.guard)
    return UpdateReport(
        objective_before=profile.objective_before,
        objective_after=profile.objective_after,
        per_epoch=tuple(profile.settings["objective_per_epoch"]),
        seconds=profile.settings["update_seconds"],
        held_out=HeldOutReport.from_plain(profile.guard if guard is None else (profile.guard or {}).get("held_out")),
        coefficients=tuple(profile.settings.get("coefficients", ())),
        guard=guard,
        rounds=tuple(Round(**own) for own in profile.settings.get("rounds", ())),
    )


def _plain_verdict(report: UpdateReport) -> dict[str, Any] | None:
    """Of the guard, and in it that of held-out speech; or of the latter alone."""
    held_out = report.held_out.plain() if report.held_out else None
    return held_out if report.guard is None else {**report.guard.plain(), "held_out": held_out}
