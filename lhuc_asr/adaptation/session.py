"""The whole adaptation of many speakers: first pass, supervision, update, profile, second pass; resumable.

DIRECTORY/first_pass/<speaker>/     speaker-independent words, state paths and, where targets or confidences are read
                                    off them, lattices (may lie elsewhere and be shared)
DIRECTORY/profiles/<speaker>.json   the profile, with its tensors beside it; where others than scales are learnt,
                                    DIRECTORY/parameters/<speaker>.json
DIRECTORY/second_pass/<speaker>/    adapted words and state paths
DIRECTORY/rounds/<n>/<speaker>/     where there are several rounds, what the round before recognised
DIRECTORY/status/<speaker>.json     what became of the speaker
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from lhuc_asr.adaptation.criterion import AdaptCriterion, criterion_of
from lhuc_asr.adaptation.guarding import Guard
from lhuc_asr.adaptation.keys import AdaptationSettings, Feats, SpeakerKeys, search_key, speaker_keys
from lhuc_asr.adaptation.lower_part import device_of
from lhuc_asr.adaptation.online import OnlineAdaptation
from lhuc_asr.adaptation.other_words import OtherWords, words_from
from lhuc_asr.adaptation.own_parameters import Beginning, OwnParameters
from lhuc_asr.adaptation.parameter_sets import ParameterSet, parameter_set, prove_numbers_act
from lhuc_asr.adaptation.passes import Decoder, LogLikes, PassStore, SpeakerPass, decode_speakers
from lhuc_asr.adaptation.priors import Expectation, prior_of
from lhuc_asr.adaptation.protocol import Protocol, SpeakerPlan, plan_speaker
from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult, write_status
from lhuc_asr.adaptation.rounds import Rounds
from lhuc_asr.adaptation.stored_parameters import Stored, StoredParameters, load_parameters, save_parameters
from lhuc_asr.adaptation.supervision import SpeakerTargets, require_speech
from lhuc_asr.adaptation.target_config import Supervision
from lhuc_asr.adaptation.target_source import TargetSource
from lhuc_asr.adaptation.updating import Updated, report_of, update_speakers
from lhuc_asr.data.manifest import Manifest, Utterance
from lhuc_asr.decoding.calibration import Calibration
from lhuc_asr.decoding.speed import DecodingSpeed, SpeedMeter
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.errors import DataError, LhucError, ProfileError, SpeakerError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.profiles.format import load_profile, profile_path, remove_profile, save_profile
from lhuc_asr.profiles.prior import ScalePrior
from lhuc_asr.progress import track
from lhuc_asr.system.calibrated import read_calibration
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.sites import proved_sites

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Speaker:
    """One speaker's work: what it is about, and the keys by which finished parts are known."""

    plan: SpeakerPlan
    keys: SpeakerKeys

    @property
    def name(self) -> str:
        return self.plan.speaker


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
            if isinstance(outcome, SpeakerFailure):
                remove_profile(self._profiles, outcome.speaker)
            write_status(self.directory / "status", outcome)
            yield outcome

    @property
    def speed(self) -> dict[str, DecodingSpeed]:
        """Time of ``first_pass``, ``update`` (the last round's), ``rounds``, ``guard`` and ``second_pass``, if done."""
        return {stage: meter.speed for stage, meter in self._meters.items()}

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
        todo: list[_Speaker] = []
        for speaker in planned:
            if isinstance(speaker, SpeakerFailure):
                continue
            finished = self._finished(speaker, second_pass=second_pass)
            if finished is None:
                todo.append(speaker)
            else:
                yield finished
        yield from (speaker for speaker in planned if isinstance(speaker, SpeakerFailure))
        if todo:
            yield from self._adapt(todo, manifest, feats, second_pass=second_pass)

    def _adapt(
        self, todo: list[_Speaker], manifest: Manifest, feats: Feats, *, second_pass: bool
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
                yield self._result(speaker, outcome, first[speaker.name], None)
        if adapted:
            yield from self._recognise_again([s for s in todo if s.name in adapted], adapted, first, feats)

    def _plan(self, manifest: Manifest, feats: Feats) -> Iterator[_Speaker | SpeakerFailure]:
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
                yield _Speaker(plan, keys)
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

    def _finished(self, speaker: _Speaker, *, second_pass: bool) -> SpeakerResult | None:
        profile = self._stored_profile(speaker)
        if profile is None:
            return None
        first = self._first_passes.get(speaker.name, speaker.keys.first_pass)
        second = self._second_passes.get(speaker.name, speaker.keys.second_pass) if second_pass else None
        if first is None or (second_pass and second is None):
            return None
        return self._result(speaker, profile, first, second, resumed=True)

    def _recognise(self, todo: list[_Speaker], feats: Feats) -> dict[str, SpeakerPass]:
        """First passes, those that are stored read and the others made and stored."""
        lattices = self.settings.adapt.keeps_lattices and not self._is_online
        stored = {s.name: self._first_passes.get(s.name, s.keys.first_pass, with_lattices=lattices) for s in todo}
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
                self._first_passes.put(name, missing[name].keys.first_pass, result)
                first[name] = replace(result, lattices=None)  # they lie on disk; memory would not hold everybody's
        return first

    def _update(
        self, todo: list[_Speaker], first: Mapping[str, SpeakerPass], manifest: Manifest, feats: Feats
    ) -> Iterator[tuple[_Speaker, Stored | str]]:
        """Profiles, those that are stored read and the others learnt and stored; or the reason why there is none."""
        missing: dict[str, _Speaker] = {}
        for speaker in todo:
            if (profile := self._stored_profile(speaker)) is not None and profile.r:
                yield speaker, profile
            else:
                missing[speaker.name] = speaker
        targets: dict[str, SpeakerTargets] = {}
        plans = [speaker.plan for speaker in missing.values()]
        for name, found in self._source(manifest, feats).of_speakers(plans, first, self._first_passes):
            try:
                if isinstance(found, SpeakerError):
                    raise found
                require_speech(found, name, at_least=self.settings.adapt.min_seconds, frame_shift_ms=self._shift)
                targets[name] = found
            except SpeakerError as error:
                yield missing[name], str(error)
        learnt = self._in_rounds(missing, targets, first, manifest, feats)
        for name, outcome in self._guarded(learnt, first, feats):
            speaker = missing[name]
            yield speaker, outcome if isinstance(outcome, str) else self._keep(speaker, outcome, targets[name].kept())

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

    def _learn(self, targets: Mapping[str, SpeakerTargets], feats: Feats) -> Iterator[tuple[str, Updated | str]]:
        if not targets:
            return
        meter = self._meter("update")
        updates = update_speakers(
            self.system.network,
            self.sites,
            targets,
            feats,
            settings=self.settings,
            num_jobs=self.num_jobs,
            expected=self._expected,
            criterion=self.criterion,
        )
        for name, outcome in updates:
            if isinstance(outcome, Updated):
                meter.add(num_frames=targets[name].num_frames, cpu=outcome.cpu, frame_shift_ms=self._shift)
            yield name, outcome

    def _in_rounds(
        self,
        speakers: Mapping[str, _Speaker],
        targets: dict[str, SpeakerTargets],
        first: Mapping[str, SpeakerPass],
        manifest: Manifest,
        feats: Feats,
    ) -> Iterator[tuple[str, Updated | str]]:
        """What is learnt, in as many rounds as the settings ask for; ``targets`` become those of the last good one."""
        if self.settings.protocol.num_rounds == 1:
            yield from self._learn(targets, feats)
            return
        learnt: dict[str, Updated] = {}
        for name, outcome in self._learn(targets, feats):
            if isinstance(outcome, str):
                yield name, outcome
            else:
                learnt[name] = outcome
        if not learnt:
            return
        rounds = Rounds(
            self._source(manifest, feats),
            self._search,
            lambda found: self._learn(found, feats),
            lambda number: PassStore(self.directory / "rounds" / str(number)),
            {name: speaker.keys.update for name, speaker in speakers.items()},
            self.settings.protocol.num_rounds,
            self._meter("rounds"),
            self.own,
        )
        yield from rounds(learnt, first, {name: speaker.plan for name, speaker in speakers.items()}, targets)

    def _guarded(
        self,
        outcomes: Iterator[tuple[str, Updated | str]],
        first: Mapping[str, SpeakerPass],
        feats: Feats,
    ) -> Iterator[tuple[str, Updated | str]]:
        """What was learnt, as far as the guard lets it pass; where there is no guard, as it is."""
        if not self.settings.guard.enabled:
            yield from outcomes
            return
        learnt: dict[str, Updated] = {}
        for name, outcome in outcomes:
            if isinstance(outcome, str):
                yield name, outcome
            else:
                learnt[name] = outcome
        if learnt:
            meter, config = self._meter("guard"), self.settings.guard
            guard = Guard(self.system, self._search, config, feats, self.num_jobs, meter, self._expected, self.own)
            yield from guard(learnt, first)

    def _adapt_online(
        self,
        todo: Sequence[_Speaker],
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
            self.system, self.sites, self.settings, self._search, make, feats, self.prior, self.criterion
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
            self._second_passes.put(speaker.name, speaker.keys.second_pass, run.recognised)
            profile = self._keep(speaker, run.updated, run.kept, online=[step.plain() for step in run.steps])
            yield self._result(speaker, profile, first[speaker.name], run.recognised if second_pass else None)

    def _keep(self, speaker: _Speaker, updated: Updated, kept: Mapping[str, float], **more: Any) -> Stored:
        stored = replace(updated, num_frames=int(kept["num_kept_frames"])).stored(
            speaker.name,
            base_fingerprint=self.system.fingerprint,
            settings={
                **self.settings.plain(),
                "key": speaker.keys.update,
                "utterances": list(speaker.plan.adaptation),
                "kept": dict(kept),
                **more,
            },
            frame_shift_ms=self._shift,
        )
        if isinstance(stored, StoredParameters):
            save_parameters(stored, self._profiles)
        else:
            save_profile(stored, self._profiles)
        return stored

    def _recognise_again(
        self,
        speakers: list[_Speaker],
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
            self._second_passes.put(name, by_name[name].keys.second_pass, result)
            yield self._result(by_name[name], profiles[name], first[name], result)

    def _result(
        self,
        speaker: _Speaker,
        profile: Stored,
        first: SpeakerPass,
        second: SpeakerPass | None,
        *,
        resumed: bool = False,
    ) -> SpeakerResult:
        return SpeakerResult(
            speaker=speaker.name,
            plan=speaker.plan,
            seconds=profile.seconds,
            update=report_of(profile),
            kept=profile.settings.get("kept", {}),
            profile=profile_path(self._profiles, speaker.name),
            first_pass=first.of(speaker.plan.evaluation),
            second_pass=None if second is None else second.of(speaker.plan.evaluation),
            failed={**first.failed, **(second.failed if second else {})},
            resumed=resumed,
        )

    def load(self, speaker: str) -> Stored:
        """What was learnt about a speaker.

        Raises:
            ProfileError: there is nothing, or it is damaged or of another model.
        """
        path = profile_path(self._profiles, speaker)
        if self.own is None:
            return load_profile(path, fingerprint=self.system.fingerprint)
        return load_parameters(path, fingerprint=self.system.fingerprint)

    def _adapter(self, stored: Stored) -> Beginning:
        if isinstance(stored, StoredParameters):
            assert self.own is not None
            return OwnParameters(self.own, stored.r)
        return stored.adapter()

    def _stored_profile(self, speaker: _Speaker) -> Stored | None:
        if not profile_path(self._profiles, speaker.name).exists():
            return None
        try:
            profile = self.load(speaker.name)
        except ProfileError as error:
            logger.warning("%s; it is learnt again", error)
            return None
        return profile if profile.settings.get("key") == speaker.keys.update else None

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

    @property
    def _profiles(self) -> Path:
        return self.directory / ("profiles" if self.own is None else "parameters")

    @property
    def _first_passes(self) -> PassStore:
        return PassStore(self.first_pass_directory or self.directory / "first_pass")

    @property
    def _second_passes(self) -> PassStore:
        return PassStore(self.directory / "second_pass")

    @cached_property
    def _search(self) -> Decoder:
        system = self.system
        if self.decoder is not None:
            return self.decoder
        return WfstDecoder(system.graph_path, system.hmm, system.lexicon, system.decoding, frame_shift_ms=self._shift)
