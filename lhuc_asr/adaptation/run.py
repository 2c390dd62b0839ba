"""One run of an adaptation over some speakers: all that its passes and updates need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lhuc_asr.adaptation.groundwork import Groundwork
from lhuc_asr.adaptation.parameters.priors import Expectation
from lhuc_asr.adaptation.passes.protocol import Protocol
from lhuc_asr.adaptation.passes.recognition import Recognition
from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
from lhuc_asr.adaptation.speaker_store import SpeakerStore, SpeakerWork
from lhuc_asr.adaptation.target_source import TargetSource
from lhuc_asr.decoding.speed import SpeedMeter


@dataclass(frozen=True, eq=False)
class AdaptationRun:
    """What is at hand while speakers are adapted to.

    Attributes:
        ground: model, settings, and what they ask for.
        store: where finished work lies.
        recognition: of speakers.
        transcripts: utterance id -> words; read for oracle targets only.
        speakers: whose work is to be done.
        meter: gives what collects the time of a stage.
        second_pass: recognise the evaluation utterances again with what was learnt.
    """

    ground: Groundwork
    store: SpeakerStore
    recognition: Recognition
    transcripts: Mapping[str, str]
    speakers: Sequence[SpeakerWork]
    meter: Callable[[str], SpeedMeter]
    second_pass: bool = True

    @property
    def is_online(self) -> bool:
        """Speakers are adapted to as they speak."""
        return self.ground.settings.protocol.name is Protocol.online

    @property
    def expected(self) -> Expectation:
        """Of the speakers, before anything is learnt."""
        starts = {speaker.name: speaker.start for speaker in self.speakers if speaker.start is not None}
        return Expectation(self.ground.prior, starts or None)

    @cached_property
    def source(self) -> TargetSource:
        """Where targets come from."""
        ground = self.ground
        return TargetSource(
            ground.system,
            ground.settings.adapt,
            self.recognition.feats,
            self.transcripts,
            self.recognition.num_jobs,
            calibration=ground.calibration,
            others=ground.others,
            criterion=ground.criterion,
        )

    def first_passes(self) -> dict[str, SpeakerPass]:
        """Speaker -> what was recognised before anything was learnt; what is stored is read."""
        return self.recognition.stored(
            self.store.first_passes,
            {speaker.name: speaker.keys.first_pass for speaker in self.speakers},
            {speaker.name: speaker.plan.utterances for speaker in self.speakers},
            {speaker.name: speaker.start for speaker in self.speakers if speaker.start is not None},
            description="first pass",
            meter=lambda: self.meter("first_pass"),
            keep_lattices=self.ground.settings.adapt.keeps_lattices and not self.is_online,
        )
