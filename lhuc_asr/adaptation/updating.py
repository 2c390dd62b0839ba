"""The updates of many speakers on all cores: each in a process with one thread, as if it were alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.adaptation.keys import AdaptationSettings, Feats
from lhuc_asr.adaptation.supervision import SpeakerTargets
from lhuc_asr.adaptation.update import UpdateReport, adapt
from lhuc_asr.decoding.speed import cpu_seconds
from lhuc_asr.errors import LhucError, SpeakerError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.parallel import map_in_processes, one_thread
from lhuc_asr.profiles.format import Profile
from lhuc_asr.progress import track
from lhuc_asr.units import Milliseconds, Seconds, frames_to_seconds

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Updated:
    """One speaker's parameters, as they travel between processes.

    Attributes:
        r: site name -> (H,) parameters.
        amplitude: how they become factors.
        report: what the update did.
        num_frames: frames that were learnt from.
        cpu: seconds of one core that it took.
    """

    r: Mapping[str, NDArray[np.float32]]
    amplitude: Amplitude
    report: UpdateReport
    num_frames: int
    cpu: Seconds

    def profile(
        self, speaker: str, *, base_fingerprint: str, settings: Mapping[str, Any], frame_shift_ms: Milliseconds
    ) -> Profile:
        """The profile of these parameters; `report_of` gets the report out of it again."""
        return Profile(
            speaker=speaker,
            base_fingerprint=base_fingerprint,
            amplitude=self.amplitude,
            r={name: torch.from_numpy(values) for name, values in self.r.items()},
            seconds=frames_to_seconds(self.num_frames, frame_shift_ms),
            objective_before=self.report.objective_before,
            objective_after=self.report.objective_after,
            settings={
                **settings,
                "objective_per_epoch": list(self.report.per_epoch),
                "update_seconds": self.report.seconds,
            },
        )


def report_of(profile: Profile) -> UpdateReport:
    """What the update that made a profile did."""
    assert profile.objective_before is not None and profile.objective_after is not None
    return UpdateReport(
        objective_before=profile.objective_before,
        objective_after=profile.objective_after,
        per_epoch=tuple(profile.settings["objective_per_epoch"]),
        seconds=profile.settings["update_seconds"],
    )


def update_speakers(
    network: AcousticNetwork,
    sites: Sequence[Site],
    targets: Mapping[str, SpeakerTargets],
    feats: Feats,
    *,
    settings: AdaptationSettings,
    num_jobs: int,
) -> Iterator[tuple[str, Updated | str]]:
    """Learn the scales of many speakers; a speaker who fails gives the reason, and the others go on.

    Args:
        network: frozen, in evaluation mode.
        sites: what is scaled.
        targets: speaker -> targets of the speaker's frames.
        feats: utterance id -> (T, F) normalised.
        settings: of the adaptation.
        num_jobs: processes.

    Raises:
        OSError: features cannot be read.
        WorkerError: a worker process died.
    """

    def update(speaker: str) -> tuple[str, Updated | str]:
        try:
            adapter = LhucAdapter.identity(network, sites, settings.lhuc.amplitude)
            with one_thread():
                return speaker, _update(network, adapter, targets[speaker], feats, settings)
        except LhucError as error:
            return speaker, f"speaker {speaker!r}: {error}"
        except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
            logger.debug("speaker %r", speaker, exc_info=True)
            return speaker, f"speaker {speaker!r}: {type(error).__name__}: {error}"

    outcomes = map_in_processes(update, targets, num_jobs=min(num_jobs, len(targets)))
    yield from track(outcomes, "adaptation", total=len(targets), unit="speaker")


def _update(
    network: AcousticNetwork, adapter: LhucAdapter, targets: SpeakerTargets, feats: Feats, settings: AdaptationSettings
) -> Updated:
    begin = cpu_seconds()
    for utterance, pdfs in targets.pdfs.items():
        if len(feats[utterance]) != len(pdfs):
            raise SpeakerError(f"utterance {utterance!r} has {len(feats[utterance])} frames but {len(pdfs)} targets")
    frames = SplicedFrames((feats[utterance] for utterance in targets.pdfs), network.context)
    joined = torch.from_numpy(np.concatenate(list(targets.pdfs.values())).astype(np.int64))
    report = adapt(network, adapter, frames, joined, settings.adapt)
    r = {name: value.detach().numpy() for name, value in adapter.r.items()}
    return Updated(r, adapter.kind, report, targets.num_frames, cpu_seconds() - begin)
