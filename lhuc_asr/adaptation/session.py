"""The whole adaptation of many speakers: first pass, supervision, update, profile, second pass; resumable.

`lhuc_asr.adaptation.speaker_store` tells what lies where.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lhuc_asr.adaptation.groundwork import Groundwork
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.live_speech import adapt_to_live_speech
from lhuc_asr.adaptation.parameters.stored import Stored
from lhuc_asr.adaptation.passes.recognition import Recognition
from lhuc_asr.adaptation.passes.speaker_passes import Decoder, Feats
from lhuc_asr.adaptation.planning import StartOf, plan_speakers
from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
from lhuc_asr.adaptation.run import AdaptationRun
from lhuc_asr.adaptation.speaker_store import SpeakerStore, SpeakerWork
from lhuc_asr.adaptation.whole_speech import adapt_to_whole_speech
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.decoding.speed import DecodingSpeed, SpeedMeter
from lhuc_asr.errors import SpeakerError
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.recognise import decoder_of


@dataclass
class AdaptationSession:
    """Adapts one model to many speakers.

    Attributes:
        system: the model; nothing of it changes.
        settings: of the adaptation.
        directory: where profiles, words and statuses go; what lies there from the same work is not done again.
        first_pass_directory: where first passes are kept, if not in ``directory``.
        num_jobs: processes.
        decoder: another search than the model's own.
        start_of: a speaker's plan -> scales that are known before anything is recognised. First passes are made with
            them, learning begins with them, and a prior draws back to them.

    Example:
        >>> session = AdaptationSession(system, settings, Path("exp/lhuc"), num_jobs=2)  # doctest: +SKIP
        >>> for outcome in session.run(manifest, feats):  # doctest: +SKIP
        ...     print(outcome.speaker)
    """

    system: AcousticSystem
    settings: AdaptationSettings
    directory: Path
    first_pass_directory: Path | None = None
    num_jobs: int = 1
    decoder: Decoder | None = None
    start_of: StartOf | None = None
    _meters: dict[str, SpeedMeter] = field(default_factory=dict, init=False)

    def run(
        self, manifest: Manifest, feats: Feats, *, second_pass: bool = True
    ) -> Iterator[SpeakerResult | SpeakerFailure]:
        """Adapt to every speaker of the manifest and yield each one as soon as it is finished.

        Speakers whose work lies finished in the directory come first, then those who cannot be adapted to, then the
        others. Every outcome is on disk before it is yielded.

        Args:
            manifest: speakers and utterances; transcripts are read only for ``adapt.supervision=oracle``.
            feats: utterance id -> (T, F), normalised as the model wants them.
            second_pass: recognise the evaluation utterances again with the profile.

        Raises:
            SpeakerError: the manifest is empty.
            SiteError: a layer that was asked for does not exist or does not act.
            ModelError: the model was not trained by the criterion that is asked for.
            ProfileError: a prior that was asked for cannot be read, or is of another model or of other layers.
            DataError: another system's words cannot be read, or are of other utterances.
            WorkerError: a worker process died; run again to go on.
        """
        for outcome in self._outcomes(manifest, feats, second_pass=second_pass):
            self.store.close(outcome)
            yield outcome

    @property
    def speed(self) -> dict[str, DecodingSpeed]:
        """Time of ``first_pass``, ``update`` (the last round's), ``rounds``, ``guard`` and ``second_pass``, if done."""
        return {stage: meter.speed for stage, meter in self._meters.items()}

    @cached_property
    def ground(self) -> Groundwork:
        """What all speakers share: sites, criterion, prior and the like."""
        return Groundwork(self.system, self.settings)

    @cached_property
    def store(self) -> SpeakerStore:
        """Where finished work lies."""
        are_scales, shift = self.ground.own is None, self.system.output_shift_ms
        return SpeakerStore(self.directory, self.first_pass_directory, self.system.fingerprint, shift, are_scales)

    def load(self, speaker: str) -> Stored:
        """What was learnt about a speaker.

        Raises:
            ProfileError: there is nothing, or it is damaged or of another model.
        """
        return self.store.load(speaker)

    def _outcomes(
        self, manifest: Manifest, feats: Feats, *, second_pass: bool
    ) -> Iterator[SpeakerResult | SpeakerFailure]:
        if not len(manifest):
            raise SpeakerError("there is nobody to adapt to: the data has no utterances")
        self.ground.report()
        planned = list(plan_speakers(self.ground, manifest, feats, self.start_of))
        todo: list[SpeakerWork] = []
        for speaker in planned:
            if isinstance(speaker, SpeakerFailure):
                continue
            finished = self.store.finished(speaker, second_pass=second_pass)
            if finished is None:
                todo.append(speaker)
            else:
                yield finished
        yield from (speaker for speaker in planned if isinstance(speaker, SpeakerFailure))
        if todo:
            yield from self._adapt(todo, manifest, feats, second_pass=second_pass)

    def _adapt(
        self, todo: list[SpeakerWork], manifest: Manifest, feats: Feats, *, second_pass: bool
    ) -> Iterator[SpeakerResult | SpeakerFailure]:
        recognition = Recognition(self.system, feats, self._search, self.num_jobs)
        run = AdaptationRun(
            self.ground, self.store, recognition, manifest.transcripts, todo, self._meter, second_pass=second_pass
        )
        return adapt_to_live_speech(run) if run.is_online else adapt_to_whole_speech(run)

    def _meter(self, stage: str) -> SpeedMeter:
        self._meters[stage] = SpeedMeter()
        return self._meters[stage]

    @cached_property
    def _search(self) -> Decoder:
        return self.decoder or decoder_of(self.system)
