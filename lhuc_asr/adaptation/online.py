"""Adaptation utterance by utterance: what is learnt from one helps to recognise the next.

Every utterance is recognised once, with what was learnt from those before it, and never with what is learnt from
itself; so its words are those of a live recogniser, and their errors tell what adaptation is worth there (prequential
scoring). The first utterance, and the first after a reset, are recognised without scales.

Speakers whose speech lies recorded as a whole are better adapted to at once: each sweep then sees all of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lhuc_asr.adaptation.failures import TROUBLE, reason_of, told
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.outcome import Updated
from lhuc_asr.adaptation.parameters.own import Beginning
from lhuc_asr.adaptation.parameters.priors import Expectation
from lhuc_asr.adaptation.passes.protocol import SpeakerPlan
from lhuc_asr.adaptation.passes.speaker_passes import Decoder, Feats, SpeakerPass
from lhuc_asr.adaptation.targets.criterion import AdaptCriterion
from lhuc_asr.adaptation.targets.making import TargetMaker
from lhuc_asr.adaptation.targets.supervision import SpeakerTargets, require_speech
from lhuc_asr.adaptation.update.group import Learnt
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.adaptation.updating import beginning, speech_of
from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.speed import SpeedMeter, cpu_seconds
from lhuc_asr.errors import DecodingError, SpeakerError
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.parallel import one_thread
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.units import Seconds

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OnlineStep:
    """One utterance: recognised, then learnt from.

    Attributes:
        utterance: its id.
        reset: what had been learnt was given up before it.
        num_frames: output frames that were learnt from; 0 where nothing was.
        objective_before: mean over them with the scales that recognised the utterance, after forgetting.
        objective_after: the same, with the scales for the next utterance.
        skipped: why nothing was learnt.
    """

    utterance: str
    reset: bool = False
    num_frames: int = 0
    objective_before: float = 0.0
    objective_after: float = 0.0
    skipped: str = ""

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        learnt = {"objective_before": self.objective_before, "objective_after": self.objective_after}
        return {
            "utterance": self.utterance,
            "reset": self.reset,
            "num_frames": self.num_frames,
            **(learnt if self.num_frames else {"skipped": self.skipped}),
        }


@dataclass(frozen=True, eq=False)
class OnlineRun:
    """One speaker, from the first utterance to the last.

    Attributes:
        updated: scales after the last utterance.
        recognised: every utterance, each with what was learnt before it.
        steps: in the order in which they were said.
        kept: how much of the speech counted.
        search: seconds of one core that the search took.
    """

    updated: Updated
    recognised: SpeakerPass
    steps: tuple[OnlineStep, ...]
    kept: Mapping[str, float]
    search: Seconds


class OnlineState:
    """Scales that are carried from one utterance to the next.

    Args:
        adapter: where they begin, and where they are reset to.

    Example:
        >>> import torch
        >>> from lhuc_asr.lhuc.adapter import LhucAdapter
        >>> adapter = LhucAdapter({"1": torch.zeros(2)})
        >>> state = OnlineState(adapter)
        >>> _ = adapter.r["1"].data.fill_(1.0)
        >>> state.forget(0.25)
        >>> adapter.r["1"].tolist()
        [0.75, 0.75]
    """

    def __init__(self, adapter: Beginning) -> None:
        self.adapter = adapter
        self._beginning: dict[str, Tensor] = {name: r.detach().clone() for name, r in adapter.r.items()}

    def reset(self) -> None:
        """Give up what was learnt."""
        for name, r in self.adapter.r.items():
            r.data.copy_(self._beginning[name])

    def forget(self, rate: float) -> None:
        """Draw the scales back to where they began, by a share of the way; 0 forgets nothing, 1 everything."""
        if rate:
            for name, r in self.adapter.r.items():
                r.data.lerp_(self._beginning[name], rate)


@dataclass(frozen=True, eq=False)
class OnlineAdaptation:
    """Adapts to speakers as they speak.

    Attributes:
        system: the model; nothing of it changes.
        sites: the layers that are scaled.
        settings: of the adaptation; each utterance is learnt from as a speaker's whole speech otherwise is.
        decoder: the search.
        make: makes targets.
        feats: utterance id -> (T, F) normalised.
        expected: of the speakers, before anything is learnt.
        criterion: what judges the outputs.
    """

    system: AcousticSystem
    sites: Sequence[Site]
    settings: AdaptationSettings
    decoder: Decoder
    make: TargetMaker
    feats: Feats
    expected: Expectation = field(default_factory=Expectation)
    criterion: AdaptCriterion = field(default_factory=AdaptCriterion)

    def __call__(self, plan: SpeakerPlan) -> OnlineRun | str:
        """Go through one speaker's utterances, in one thread; or the reason why nothing could be learnt."""
        try:
            with one_thread():
                return self._run(plan)
        except TROUBLE as error:
            return reason_of(plan.speaker, error)

    def state(self, speaker: str = "") -> OnlineState:
        """A speaker of whom nothing has been heard."""
        return OnlineState(beginning(self.system.network, self.sites, self.settings, self.expected, speaker))

    def recognise(
        self, utterance: str, state: OnlineState, meter: SpeedMeter | None = None
    ) -> tuple[SpeakerPass, dict[str, Lattice]]:
        """Words of one utterance with the scales as they are, and its lattice where targets need one."""
        failed: dict[str, str] = {}
        lattices: dict[str, Lattice] = {}

        def note(name: str, error: DecodingError) -> None:
            failed[name] = str(error)

        def keep(lattice: Lattice) -> None:
            lattices[lattice.utterance] = lattice

        with state.adapter.attached(self.system.network):
            log_likes = self.system.log_likes(self.feats[utterance])
        found = list(
            self.decoder.decode_all(
                [(utterance, log_likes)],
                num_jobs=1,
                meter=meter or SpeedMeter(),
                on_failure=note,
                **({"on_lattice": keep} if self.settings.adapt.keeps_lattices else {}),
            )
        )
        return SpeakerPass({own.utterance: own for own in found}, failed), lattices

    def learn(
        self, plan: SpeakerPlan, state: OnlineState, recognised: SpeakerPass, lattices: Mapping[str, Lattice]
    ) -> tuple[SpeakerTargets, UpdateReport]:
        """Move the scales by one utterance, which is the only one in the plan.

        Raises:
            SpeakerError: there is too little speech in it, and the scales stay as they were; or the objective ceased to
                be finite, and they are reset.
            DataError: a criterion of whole utterances gave no number for it; the scales are reset.
        """
        adapt, system = self.settings.adapt, self.system
        targets = self.make(plan, recognised, lattices)
        require_speech(targets, plan.speaker, at_least=adapt.min_seconds, frame_shift_ms=system.output_shift_ms)
        speech = speech_of(targets, self.feats, system.network, whole=self.criterion.sequence is not None)
        state.forget(self.settings.protocol.forgetting)
        try:
            return targets, self._update(state, speech)
        except TROUBLE:
            state.reset()
            raise

    def _update(self, state: OnlineState, speech: Learnt) -> UpdateReport:
        (outcome,) = adapt_group(
            self.system.network,
            [state.adapter],
            [speech],
            self.settings.adapt,
            estimator=self.expected.estimator(self.settings.adapt, self.settings.adapt.seed),
            criterion=self.criterion,
        )
        if isinstance(outcome, SpeakerError):
            raise outcome
        return outcome

    def _run(self, plan: SpeakerPlan) -> OnlineRun | str:
        state, run, meter = self.state(plan.speaker), _Course(), SpeedMeter()
        for utterance in plan.adaptation:
            if utterance in plan.resets:
                state.reset()
            recognised, lattices = self.recognise(utterance, state, meter)
            run.recognised(recognised)
            begin, clock = cpu_seconds(), time.perf_counter()
            step, targets = self._step(plan, utterance, state, recognised, lattices)
            run.learnt(step, targets, cpu_seconds() - begin, time.perf_counter() - clock)
        prior = None if self.expected.prior is None else self.expected.prior.sha256
        return run.result(plan, state, prior=prior, search=meter.speed.cpu)

    def _step(
        self,
        plan: SpeakerPlan,
        utterance: str,
        state: OnlineState,
        recognised: SpeakerPass,
        lattices: Mapping[str, Lattice],
    ) -> tuple[OnlineStep, SpeakerTargets | None]:
        reset, alone = utterance in plan.resets, SpeakerPlan(plan.speaker, (utterance,), (utterance,))
        try:
            targets, report = self.learn(alone, state, recognised, lattices)
        except TROUBLE as error:
            logger.info("nothing is learnt from utterance %r: %s", utterance, told(error))
            return OnlineStep(utterance=utterance, reset=reset, skipped=told(error)), None
        step = OnlineStep(
            utterance=utterance,
            reset=reset,
            num_frames=targets.num_kept_frames,
            objective_before=report.objective_before,
            objective_after=report.objective_after,
        )
        return step, targets


class _Course:
    """What is collected on the way."""

    def __init__(self) -> None:
        self._hypotheses: dict[str, Any] = {}
        self._failed: dict[str, str] = {}
        self._steps: list[OnlineStep] = []
        self._kept: list[Mapping[str, float]] = []
        self._learning = self._wall = 0.0

    def recognised(self, found: SpeakerPass) -> None:
        """One utterance."""
        self._hypotheses.update(found.hypotheses)
        self._failed.update(found.failed)

    def learnt(self, step: OnlineStep, targets: SpeakerTargets | None, cpu: Seconds, wall: Seconds) -> None:
        """The same utterance."""
        self._steps.append(step)
        if targets is not None:
            self._kept.append(targets.kept())
        self._learning += cpu
        self._wall += wall

    def result(self, plan: SpeakerPlan, state: OnlineState, *, prior: str | None, search: Seconds) -> OnlineRun | str:
        """All of it; the reason where nothing was learnt."""
        steps = [step for step in self._steps if step.num_frames]
        if not steps:
            reason = self._steps[0].skipped if self._steps else "there is no utterance"
            return f"speaker {plan.speaker!r} has nothing to learn from: {reason}"
        num_frames = sum(step.num_frames for step in steps)
        report = UpdateReport(
            objective_before=sum(step.objective_before * step.num_frames for step in steps) / num_frames,
            objective_after=sum(step.objective_after * step.num_frames for step in steps) / num_frames,
            per_epoch=tuple(step.objective_before for step in steps),
            seconds=self._wall,
            learnt_from=tuple(step.utterance for step in steps),
        )
        updated = Updated(
            r={name: r.detach().cpu().numpy() for name, r in state.adapter.r.items()},
            amplitude=state.adapter.kind,
            layouts={site.name: site.layout.letters for site in state.adapter.sites},
            report=report,
            num_frames=num_frames,
            cpu=self._learning,
            prior=prior,
        )
        recognised = SpeakerPass(self._hypotheses, self._failed)
        return OnlineRun(updated, recognised, tuple(self._steps), _joined(self._kept), search)


def _joined(kept: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of all utterances; the mean weight is by frames."""
    sums = {name: sum(own[name] for own in kept) for name in kept[0]}
    sums["mean_weight"] = sum(own["mean_weight"] * own["num_frames"] for own in kept) / sums["num_frames"]
    return sums
