"""The whole adaptation of many speakers: first pass, supervision, update, profile, second pass; resumable.

`lhuc_asr.adaptation.speaker_store` tells what lies where.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path

from lhuc_asr.adaptation.criterion import AdaptCriterion, criterion_of
from lhuc_asr.adaptation.keys import AdaptationSettings, Feats, search_key, speaker_keys
from lhuc_asr.adaptation.learning import Learning
from lhuc_asr.adaptation.lower_part import device_of
from lhuc_asr.adaptation.online import OnlineAdaptation
from lhuc_asr.adaptation.other_words import OtherWords, words_from
from lhuc_asr.adaptation.own_parameters import Beginning, OwnParameters
from lhuc_asr.adaptation.parameter_sets import ParameterSet, parameter_set, prove_numbers_act
from lhuc_asr.adaptation.passes import Decoder, LogLikes, SpeakerPass, decode_speakers
from lhuc_asr.adaptation.priors import Expectation, prior_of
from lhuc_asr.adaptation.protocol import Protocol, SpeakerPlan, plan_speaker
from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
from lhuc_asr.adaptation.speaker_store import SpeakerStore, SpeakerWork
from lhuc_asr.adaptation.stored_parameters import Stored, StoredParameters
from lhuc_asr.adaptation.target_config import Supervision
from lhuc_asr.adaptation.target_source import TargetSource
from lhuc_asr.data.manifest import Manifest, Utterance
from lhuc_asr.decoding.calibration import Calibration
from lhuc_asr.decoding.speed import DecodingSpeed, SpeedMeter
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.errors import DataError, LhucError, SpeakerError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.profiles.prior import ScalePrior
from lhuc_asr.progress import track
from lhuc_asr.system.calibrated import read_calibration
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.sites import proved_sites

logger = logging.getLogger(__name__)


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
    start_of: Callable[[SpeakerPlan], LhucAdapter] | None = None
    _meters: dict[str, SpeedMeter] = field(default_factory=dict, init=False)
    _starts: dict[str, LhucAdapter] = field(default_factory=dict, init=False)

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
        for outcome in self._run(manifest, feats, second_pass=second_pass):
            self.store.close(outcome)
            yield outcome

    @property
    def speed(self) -> dict[str, DecodingSpeed]:
        """Time of ``first_pass``, ``update`` (the last round's), ``rounds``, ``guard`` and ``second_pass``, if done."""
        return {stage: meter.speed for stage, meter in self._meters.items()}

    @cached_property
    def store(self) -> SpeakerStore:
        """Where finished work lies."""
        are_scales = self.own is None
        shift = self.system.output_shift_ms
        return SpeakerStore(self.directory, self.first_pass_directory, self.system.fingerprint, shift, are_scales)

    @cached_property
    def calibration(self) -> Calibration | None:
        """Of confidences of words, where they are asked for and the model has one."""
        fitted = read_calibration(self.system) if self.settings.adapt.needs_calibration else None
        return None if fitted is None else fitted.calibration

    @cached_property
    def others(self) -> Mapping[str, OtherWords] | None:
        """Another system's words, where the settings ask for them."""
        adapt = self.settings.adapt
        if adapt.supervision is not Supervision.words:
            return None
        return words_from(adapt.words_from, with_confidences=adapt.needs_words)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """The layers that are scaled, each proved to act."""
        whole = True if self.criterion.sequence else None
        return proved_sites(self.system.network, self.settings.lhuc.layers, whole=whole)

    @cached_property
    def criterion(self) -> AdaptCriterion:
        """What judges the outputs while scales are learnt."""
        return criterion_of(self.system, self.settings.adapt, self.settings.adapt)

    @cached_property
    def own(self) -> ParameterSet | None:
        """What is learnt in place of scales, each part proved to act."""
        own = parameter_set(self.settings.adapt, self.system.network, self.sites)
        if own is not None:
            prove_numbers_act(self.system.network, own)
        return own

    @property
    def num_parameters(self) -> int:
        """Numbers of one speaker that are learnt."""
        if self.own is None:
            return sum(site.num_units for site in self.sites)
        return sum(map(prod, self.own.shapes.values()))

    @cached_property
    def prior(self) -> ScalePrior | None:
        """Of the file that the settings name, proved to be of this model and these layers."""
        lhuc = self.settings.lhuc
        return prior_of(self.settings.adapt, self.sites, lhuc.amplitude, fingerprint=self.system.fingerprint)

    @property
    def _expected(self) -> Expectation:
        return Expectation(self.prior, None if self.start_of is None else self._starts)

    def _run(self, manifest: Manifest, feats: Feats, *, second_pass: bool) -> Iterator[SpeakerResult | SpeakerFailure]:
        if not len(manifest):
            raise SpeakerError("there is nobody to adapt to: the data has no utterances")
        logger.info("%d sites proved to act: %s", len(self.sites), ", ".join(site.name for site in self.sites))
        if self.own is not None:
            logger.info("%s: %s", self.settings.adapt.parameters.name, dict(self.own.shapes))
        if self.prior is not None:
            logger.info("prior %s of %d speakers", self.prior.sha256, len(self.prior.sources))
        planned = list(self._plan(manifest, feats))
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
        first = self._recognise(todo, feats)
        if self._is_online:
            yield from self._adapt_online(todo, first, manifest, feats, second_pass=second_pass)
            return
        adapted: dict[str, Stored] = {}
        for speaker, outcome in self._update(todo, first, manifest, feats):
            if isinstance(outcome, str):
                words = first[speaker.name].of(speaker.plan.evaluation)
                yield SpeakerFailure(speaker=speaker.name, reason=outcome, plan=speaker.plan, first_pass=words)
            elif second_pass:
                adapted[speaker.name] = outcome
            else:
                yield self.store.result(speaker, outcome, first[speaker.name], None)
        if adapted:
            yield from self._recognise_again([s for s in todo if s.name in adapted], adapted, first, feats)

    def _plan(self, manifest: Manifest, feats: Feats) -> Iterator[SpeakerWork | SpeakerFailure]:
        search = search_key(self.system) if self.start_of is None else ""
        self._require_words_of(manifest)
        own: dict[str, list[Utterance]] = {speaker: [] for speaker in manifest.speakers}
        for utterance in manifest:
            own[utterance.speaker].append(utterance)
        for speaker, utterances in own.items():
            try:
                plan = plan_speaker(speaker, Manifest(tuple(utterances)), self.settings.protocol)
                if self.start_of is not None:
                    self._starts[speaker] = self.start_of(plan)
                keys = speaker_keys(
                    plan,
                    feats,
                    manifest.transcripts,
                    self.settings,
                    search or search_key(self.system, self._starts[speaker]),
                    calibration=self.calibration,
                    others=self.others,
                    criterion=self.criterion,
                )
                yield SpeakerWork(plan, keys)
            except SpeakerError as error:
                yield SpeakerFailure(speaker=speaker, reason=str(error))
            except LhucError as error:
                yield SpeakerFailure(speaker=speaker, reason=f"speaker {speaker!r}: {error}")

    def _require_words_of(self, manifest: Manifest) -> None:
        others = self.others
        if others is not None and not any(utterance.id in others for utterance in manifest):
            raise DataError(
                f"the {len(others)} utterances in '{self.settings.adapt.words_from}' are other ones than the "
                f"{len(manifest)} of these speakers, such as {next(iter(manifest)).id!r}"
            )

    def _recognise(self, todo: list[SpeakerWork], feats: Feats) -> dict[str, SpeakerPass]:
        """First passes, those that are stored read and the others made and stored."""
        lattices = self.settings.adapt.keeps_lattices and not self._is_online
        stored = {s.name: self.store.first_passes.get(s.name, s.keys.first_pass, with_lattices=lattices) for s in todo}
        first = {name: known for name, known in stored.items() if known is not None}
        missing = {s.name: s for s in todo if s.name not in first}
        if missing:
            wanted = {name: speaker.plan.utterances for name, speaker in missing.items()}

            def log_likes(speaker: str, utterance: str) -> LogLikes:
                start = self._starts.get(speaker)
                with start.attached(self.system.network) if start else nullcontext():
                    return self.system.log_likes(feats[utterance])

            passes = decode_speakers(
                self._search,
                wanted,
                log_likes,
                description="first pass",
                num_jobs=self.num_jobs,
                meter=self._meter("first_pass"),
                keep_lattices=lattices,
            )
            for name, result in passes:
                self.store.first_passes.put(name, missing[name].keys.first_pass, result)
                first[name] = replace(result, lattices=None)  # they lie on disk; memory would not hold everybody's
        return first

    def _update(
        self, todo: list[SpeakerWork], first: Mapping[str, SpeakerPass], manifest: Manifest, feats: Feats
    ) -> Iterator[tuple[SpeakerWork, Stored | str]]:
        """Profiles, those that are stored read and the others learnt and stored; or the reason why there is none."""
        missing: dict[str, SpeakerWork] = {}
        for speaker in todo:
            if (profile := self.store.learnt(speaker)) is not None and profile.r:
                yield speaker, profile
            else:
                missing[speaker.name] = speaker
        learning = Learning(
            self.system,
            self.sites,
            self.settings,
            self._source(manifest, feats),
            self._search,
            self.store,
            self._meter,
            num_jobs=self.num_jobs,
            expected=self._expected,
            criterion=self.criterion,
            own=self.own,
        )
        for name, found in learning(missing, first):
            if isinstance(found, str):
                yield missing[name], found
            else:
                kept = found.targets.kept()
                yield missing[name], self.store.keep(missing[name], found.updated, kept, self.settings.plain())

    def _source(self, manifest: Manifest, feats: Feats) -> TargetSource:
        return TargetSource(
            self.system,
            self.settings.adapt,
            feats,
            manifest.transcripts,
            self.num_jobs,
            calibration=self.calibration,
            others=self.others,
            criterion=self.criterion,
        )

    def _adapt_online(
        self,
        todo: Sequence[SpeakerWork],
        first: Mapping[str, SpeakerPass],
        manifest: Manifest,
        feats: Feats,
        *,
        second_pass: bool,
    ) -> Iterator[SpeakerResult | SpeakerFailure]:
        """Speakers side by side, each utterance by utterance; their second pass is what was recognised on the way."""
        plans = [speaker.plan for speaker in todo]
        make = self._source(manifest, feats).maker(plans, first)
        adapt = OnlineAdaptation(
            self.system, self.sites, self.settings, self._search, make, feats, self._expected, self.criterion
        )
        learning, search = self._meter("update"), self._meter("second_pass")
        num_jobs = self.num_jobs if device_of(self.system.network).type == "cpu" else 1
        runs = track(map_in_processes(adapt, plans, num_jobs=num_jobs), "online", total=len(plans), unit="speaker")
        for speaker, run in zip(todo, runs, strict=True):
            if isinstance(run, str):
                words = first[speaker.name].of(speaker.plan.evaluation)
                yield SpeakerFailure(speaker=speaker.name, reason=run, plan=speaker.plan, first_pass=words)
                continue
            num_frames = sum(len(own.transition_ids) for own in run.recognised.hypotheses.values())
            search.add(num_frames=num_frames, cpu=run.search, frame_shift_ms=self._shift)
            learning.add(num_frames=num_frames, cpu=run.updated.cpu, frame_shift_ms=self._shift)
            self.store.second_passes.put(speaker.name, speaker.keys.second_pass, run.recognised)
            settings = {**self.settings.plain(), "online": [step.plain() for step in run.steps]}
            profile = self.store.keep(speaker, run.updated, run.kept, settings)
            yield self.store.result(speaker, profile, first[speaker.name], run.recognised if second_pass else None)

    def _recognise_again(
        self,
        speakers: list[SpeakerWork],
        profiles: Mapping[str, Stored],
        first: Mapping[str, SpeakerPass],
        feats: Feats,
    ) -> Iterator[SpeakerResult]:
        by_name = {speaker.name: speaker for speaker in speakers}
        adapters = {name: self._adapter(profiles[name]) for name in by_name}

        def log_likes(speaker: str, utterance: str) -> LogLikes:
            with adapters[speaker].attached(self.system.network):
                return self.system.log_likes(feats[utterance])

        passes = decode_speakers(
            self._search,
            {name: speaker.plan.evaluation for name, speaker in by_name.items()},
            log_likes,
            description="second pass",
            num_jobs=self.num_jobs,
            meter=self._meter("second_pass"),
        )
        for name, result in passes:
            self.store.second_passes.put(name, by_name[name].keys.second_pass, result)
            yield self.store.result(by_name[name], profiles[name], first[name], result)

    def load(self, speaker: str) -> Stored:
        """What was learnt about a speaker.

        Raises:
            ProfileError: there is nothing, or it is damaged or of another model.
        """
        return self.store.load(speaker)

    def _adapter(self, stored: Stored) -> Beginning:
        if isinstance(stored, StoredParameters):
            assert self.own is not None
            return OwnParameters(self.own, stored.r)
        return stored.adapter()

    def _meter(self, stage: str) -> SpeedMeter:
        self._meters[stage] = SpeedMeter()
        return self._meters[stage]

    @property
    def _shift(self) -> float:
        """Milliseconds from one output of the network to the next, in which paths and targets count."""
        return self.system.output_shift_ms

    @property
    def _is_online(self) -> bool:
        return self.settings.protocol.name is Protocol.online

    @cached_property
    def _search(self) -> Decoder:
        system = self.system
        if self.decoder is not None:
            return self.decoder
        return WfstDecoder(system.graph_path, system.hmm, system.lexicon, system.decoding, frame_shift_ms=self._shift)
