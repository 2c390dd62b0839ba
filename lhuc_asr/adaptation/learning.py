"""From first passes to what may be used: targets, updates in as many rounds as are asked for, and the guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lhuc_asr.adaptation.criterion import AdaptCriterion
from lhuc_asr.adaptation.guarding import Guard
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.parameter_sets import ParameterSet
from lhuc_asr.adaptation.passes import Decoder, SpeakerPass
from lhuc_asr.adaptation.priors import Expectation
from lhuc_asr.adaptation.rounds import Rounds
from lhuc_asr.adaptation.speaker_store import SpeakerStore, SpeakerWork
from lhuc_asr.adaptation.supervision import SpeakerTargets, require_speech
from lhuc_asr.adaptation.target_source import TargetSource
from lhuc_asr.adaptation.updating import Updated, update_speakers
from lhuc_asr.decoding.speed import SpeedMeter
from lhuc_asr.errors import SpeakerError
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.system.model_directory import AcousticSystem

Outcomes = Iterator[tuple[str, Updated | str]]
"""Speakers, and what was learnt or why nothing was."""


@dataclass(frozen=True, eq=False)
class LearntSpeaker:
    """What was learnt about one speaker, and the targets that it was learnt from."""

    updated: Updated
    targets: SpeakerTargets


@dataclass(frozen=True, eq=False)
class Learning:
    """Learns about many speakers side by side.

    Attributes:
        system: the model.
        sites: what is scaled.
        settings: of the adaptation.
        source: makes targets.
        search: recognises again, for rounds and for the guard.
        store: where the passes of rounds lie.
        meter: gives what collects the time of a stage.
        num_jobs: processes.
        expected: of the speakers, before anything is learnt.
        criterion: what judges the outputs.
        own: what is learnt in place of scales.
    """

    system: AcousticSystem
    sites: Sequence[Site]
    settings: AdaptationSettings
    source: TargetSource
    search: Decoder
    store: SpeakerStore
    meter: Callable[[str], SpeedMeter]
    num_jobs: int
    expected: Expectation = field(default_factory=Expectation)
    criterion: AdaptCriterion = field(default_factory=AdaptCriterion)
    own: ParameterSet | None = None

    def __call__(
        self, speakers: Mapping[str, SpeakerWork], first: Mapping[str, SpeakerPass]
    ) -> Iterator[tuple[str, LearntSpeaker | str]]:
        """Every speaker with what was learnt, as soon as that is known; or with the reason why nothing was.

        Args:
            speakers: name -> whose work it is.
            first: name -> first pass.
        """
        plans = [speaker.plan for speaker in speakers.values()]
        least, shift = self.settings.adapt.min_seconds, self.system.output_shift_ms
        targets: dict[str, SpeakerTargets] = {}
        for name, found in self.source.of_speakers(plans, first, self.store.first_passes):
            try:
                if isinstance(found, SpeakerError):
                    raise found
                require_speech(found, name, at_least=least, frame_shift_ms=shift)
                targets[name] = found
            except SpeakerError as error:
                yield name, str(error)
        for name, outcome in self._guarded(self._in_rounds(speakers, targets, first), first):
            yield name, outcome if isinstance(outcome, str) else LearntSpeaker(outcome, targets[name])

    def _learn(self, targets: Mapping[str, SpeakerTargets]) -> Outcomes:
        if not targets:
            return
        meter = self.meter("update")
        updates = update_speakers(
            self.system.network,
            self.sites,
            targets,
            self.source.feats,
            settings=self.settings,
            num_jobs=self.num_jobs,
            expected=self.expected,
            criterion=self.criterion,
        )
        for name, outcome in updates:
            if isinstance(outcome, Updated):
                num_frames, shift = targets[name].num_frames, self.system.output_shift_ms
                meter.add(num_frames=num_frames, cpu=outcome.cpu, frame_shift_ms=shift)
            yield name, outcome

    def _in_rounds(
        self,
        speakers: Mapping[str, SpeakerWork],
        targets: dict[str, SpeakerTargets],
        first: Mapping[str, SpeakerPass],
    ) -> Outcomes:
        """What is learnt, in as many rounds as the settings ask for; ``targets`` become those of the last good one."""
        if self.settings.protocol.num_rounds == 1:
            yield from self._learn(targets)
            return
        learnt: dict[str, Updated] = {}
        yield from _set_aside(self._learn(targets), learnt)
        if not learnt:
            return
        rounds = Rounds(
            self.source,
            self.search,
            self._learn,
            self.store.round_passes,
            {name: speaker.keys.update for name, speaker in speakers.items()},
            self.settings.protocol.num_rounds,
            self.meter("rounds"),
            self.own,
        )
        yield from rounds(learnt, first, {name: speaker.plan for name, speaker in speakers.items()}, targets)

    def _guarded(self, outcomes: Outcomes, first: Mapping[str, SpeakerPass]) -> Outcomes:
        """What was learnt, as far as the guard lets it pass; where there is no guard, as it is."""
        if not self.settings.guard.enabled:
            yield from outcomes
            return
        learnt: dict[str, Updated] = {}
        yield from _set_aside(outcomes, learnt)
        if not learnt:
            return
        guard = Guard(
            self.system,
            self.search,
            self.settings.guard,
            self.source.feats,
            self.num_jobs,
            self.meter("guard"),
            self.expected,
            self.own,
        )
        yield from guard(learnt, first)


def _set_aside(outcomes: Outcomes, learnt: dict[str, Updated]) -> Iterator[tuple[str, str]]:
    """Give on the failures; what was learnt waits for everybody."""
    for name, outcome in outcomes:
        if isinstance(outcome, str):
            yield name, outcome
        else:
            learnt[name] = outcome
