"""The update: a few sweeps of gradient descent over speakers' frames, on everybody's own scales and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import Tensor

from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.parameters.config import ParameterConfig, Parameters
from lhuc_asr.adaptation.parameters.estimate_config import EstimateConfig
from lhuc_asr.adaptation.parameters.own import Beginning
from lhuc_asr.adaptation.parameters.priors import Estimator
from lhuc_asr.adaptation.targets.config import TargetConfig
from lhuc_asr.adaptation.targets.criterion import AdaptCriterion, AdaptCriterionConfig
from lhuc_asr.adaptation.update.group import CACHE_BYTES, Computing, Learnt, MakeEstimate, SpeakerGroup, opened_group
from lhuc_asr.adaptation.update.guard import GuardReport
from lhuc_asr.adaptation.update.held_out import Division, HeldOutConfig, HeldOutReport, Verdict
from lhuc_asr.adaptation.update.stopping import SweepWatch
from lhuc_asr.adaptation.update.without_effect import refuse_what_has_no_effect
from lhuc_asr.errors import ConfigError, SpeakerError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.ranges import require_at_least, require_positive
from lhuc_asr.training.criteria.criterion import CriterionKind
from lhuc_asr.training.precision import Precision
from lhuc_asr.units import Seconds


class StepSchedule(Enum):
    """How long later steps are: all alike, or falling evenly from ``lr`` at the first to 0 after the last."""

    constant = "constant"
    linear = "linear"


@dataclass(kw_only=True, slots=True)
class AdaptConfig(ParameterConfig, TargetConfig, AdaptCriterionConfig, EstimateConfig, HeldOutConfig):
    """How scales, or other numbers of a speaker, are learnt.

    Which numbers, from which targets, what judges, holds and stops them, stands in the bases.

    Attributes:
        lr: step of plain gradient descent on the mean objective of a minibatch.
        schedule: how long later steps are; linear takes the noise of single minibatches out of the end.
        num_epochs: sweeps over the speaker's frames.
        precision: of the matrix products. bfloat16 is two to three times faster on processors with AMX and less
            exact; auto takes it where it is fast, so that results depend on the machine.
        batch_size: output frames in a minibatch; where a network learns from whole utterances, a minibatch is filled
            with as many of them as do not exceed that, at least one.
        min_seconds: a speaker with less speech than that, silence not counted, is refused.
        seed: of the order of the frames, or of the utterances.

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section V: lr 0.8 for every amplitude; the number of
    sweeps and the batch are not printed there (3 sweeps in the paper of 2014).
    """

    lr: float = 0.8
    schedule: StepSchedule = StepSchedule.constant
    num_epochs: int = 3
    precision: Precision = Precision.float32
    batch_size: int = 256
    min_seconds: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ParameterConfig.__post_init__(self)
        TargetConfig.__post_init__(self)
        AdaptCriterionConfig.__post_init__(self)
        EstimateConfig.__post_init__(self)
        HeldOutConfig.__post_init__(self)
        self.check_with(self)
        require_positive(self, "adapt", "lr")
        require_at_least(1, self, "adapt", "num_epochs", "batch_size")
        if self.min_seconds < 0:
            raise ConfigError(f"adapt.min_seconds must not be negative, got {self.min_seconds}")
        refuse_what_has_no_effect(self)
        if self.tied and self.parameters not in (Parameters.lhuc, Parameters.bias):
            raise ConfigError(
                f"adapt.tied is about units of layers; adapt.parameters={self.parameters.name} learns other numbers: "
                "give it with adapt.parameters=lhuc or bias"
            )
        for name in ("prior_from", "subspace"):
            if self.parameters is not Parameters.lhuc and getattr(self, name) is not None:
                raise ConfigError(
                    f"adapt.{name} names a file about scales; adapt.parameters={self.parameters.name} learns others: "
                    "give it with adapt.parameters=lhuc"
                )

    @property
    def keeps_lattices(self) -> bool:
        """Whether the first pass must keep more than its best paths, for the targets or for the criterion."""
        return self.needs_lattices or self.criterion is CriterionKind.smbr

    def described(self) -> str:
        """Targets, criterion, and what departs from the defaults of both, on one line."""
        return ", ".join([TargetConfig.described(self), *self.criterion_told()])

    def lr_after(self, num_sweeps: float) -> float:
        """Step when that many sweeps, and parts of one, are done."""
        return self.lr * (1 - num_sweeps / self.num_epochs) if self.schedule is StepSchedule.linear else self.lr


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of self-training.

    Attributes:
        number: from 1.
        changed: words that changed since the round before, per word of it; 0 in the first round.
        objective: on held-out speech, after its best sweep; None where none was held out.
        kept: False where the round before was better.
    """

    number: int
    changed: float = 0.0
    objective: float | None = None
    kept: bool = True


@dataclass(frozen=True, kw_only=True)
class UpdateReport:
    """What an update did.

    Attributes:
        objective_before: mean of the criterion per frame with the scales at the start.
        objective_after: the same with the scales at the end.
        per_epoch: mean of the minibatch objectives of every sweep, measured on the way.
        seconds: wall-clock time that the update took.
        held_out: what speech told that was not learnt from; None where none was to be held out.
        coefficients: numbers that were learnt instead of r; none where r was learnt.
        guard: what the guard said, to which nothing else here pays heed; None where there was none.
        rounds: of self-training; none where there was one pass alone.
        learnt_from: ids of the utterances that were learnt from; none where the report comes from a file.
        utterances_held_out: ids of those that were held out as a whole; none likewise.
    """

    objective_before: float
    objective_after: float
    per_epoch: tuple[float, ...]
    seconds: Seconds
    held_out: HeldOutReport | None = None
    coefficients: tuple[float, ...] = ()
    guard: GuardReport | None = None
    rounds: tuple[Round, ...] = ()
    learnt_from: tuple[str, ...] = ()
    utterances_held_out: tuple[str, ...] = ()

    @property
    def round_kept(self) -> int:
        """Number of the round that gave what was learnt; 1 where there was no other."""
        return max((own.number for own in self.rounds if own.kept), default=1)

    @property
    def tested_on(self) -> tuple[str, ...]:
        """Ids of the utterances on which scales are tried: those held out, or all where there are none."""
        return self.utterances_held_out or self.learnt_from


def adapt(
    network: AcousticNetwork, adapter: Beginning, frames: SplicedFrames, targets: Tensor, config: AdaptConfig
) -> UpdateReport:
    """Learn one speaker's scales: `adapt_group` with nobody else.

    Args:
        network: in evaluation mode.
        adapter: its parameters are moved in place.
        frames: the speaker's N frames with their context.
        targets: (N,) tied state of every frame.
        config: step, sweeps, minibatch.

    Raises:
        SpeakerError: there is not one frame, or the objective ceased to be finite.
    """
    (outcome,) = adapt_group(network, [adapter], [SpeakerFrames(frames, targets)], config)
    if isinstance(outcome, SpeakerError):
        raise outcome
    return outcome


def adapt_group(
    network: AcousticNetwork,
    adapters: Sequence[Beginning],
    speakers: Sequence[Learnt],
    config: AdaptConfig,
    *,
    estimator: MakeEstimate | None = None,
    criterion: AdaptCriterion | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> list[UpdateReport | SpeakerError]:
    """Learn the scales of several speakers side by side; not one bit of the net changes, and gradients reach only r.

    Every step takes the next minibatch of each speaker and descends the sum of their mean cross-entropies. A
    speaker's parameters act on that speaker's frames alone, and the frames come in the order in which they would come
    to the speaker alone; so everybody's parameters take the path that they would take alone. Sums are rounded
    differently in company: single precision leaves differences of about 1e-6. Where speakers learn from frames, what
    lies below the first site is computed once.

    Args:
        network: in evaluation mode, on any device.
        adapters: one for each speaker, all of the same sites and amplitude; moved in place.
        speakers: what each is learnt from, all of them frames or all of them utterances.
        config: step, sweeps, minibatch of each speaker.
        estimator: what is learnt (`lhuc_asr.adaptation.parameters.priors.Estimator`); if nothing is said, what the
            configuration asks for.
        criterion: what judges the outputs; if nothing is said, cross-entropy of posteriors.
        cache_bytes: the output of the part below the first site is kept if it is no bigger than that.

    Returns:
        For each speaker what was done, ``seconds`` being the share by frames; or why it failed (there is not one
        frame, or the objective ceased to be finite). The others are not touched by that.

    Raises:
        SiteError: the adapters differ in sites or amplitude, a site does not act, or scales are attached already.
        ConfigError: the configuration names a file, and no estimator was given that knows what it holds.
    """
    start = time.perf_counter()
    able = [place for place, speaker in enumerate(speakers) if speaker.have_targets]
    outcomes: list[UpdateReport | SpeakerError] = [_without_targets(speaker) for speaker in speakers]
    if able:
        chosen = ([adapters[place] for place in able], [speakers[place] for place in able])
        with opened_group(
            network,
            *chosen,
            seed=config.seed,
            held_out_share=config.held_out_share,
            estimator=estimator or Estimator(config, None, config.seed),
            computing=Computing(
                criterion=criterion or AdaptCriterion(), precision=config.precision, cache_bytes=cache_bytes
            ),
        ) as group:
            courses = _courses(group, config)
        shares = [group.sizes[place] / sum(group.sizes) for place in range(len(able))]
        elapsed = time.perf_counter() - start
        for place, course, share in zip(able, courses, shares, strict=True):
            outcomes[place] = _outcome(course, config, elapsed * share)
    return outcomes


@dataclass(frozen=True)
class _Course:
    """One speaker's objectives on the way."""

    before: float
    per_epoch: tuple[float, ...]
    after: float
    held_out: HeldOutReport | None
    coefficients: tuple[float, ...]
    division: Division


def _courses(group: SpeakerGroup[Any], config: AdaptConfig) -> list[_Course]:
    """Learn; those whose objective is not finite from the beginning do not take part."""
    before = group.measure()
    able = [place for place, value in enumerate(before) if math.isfinite(value)]
    watch = SweepWatch(group, able, config)
    epochs: list[dict[int, float]] = []
    while len(epochs) < config.num_epochs and watch.going:
        means = _sweep(group, watch.going, config, len(epochs))
        epochs.append({place: means[place] for place in watch.going})
        watch.after_sweep(epochs[-1])
    r, reports = watch.settle(), watch.reports()
    group.store(able, r)
    after = group.measure(r)
    fallen = {place for place, report in reports.items() if report.verdict is Verdict.fell_back}
    return [
        _Course(
            before=before[place],
            per_epoch=_kept(reports.get(place), [epoch[place] for epoch in epochs if place in epoch]),
            after=after[place],
            held_out=reports.get(place),
            coefficients=tuple(group.estimate.coefficients(place)) if place not in fallen else (),
            division=group.divisions[place],
        )
        for place in range(len(before))
    ]


def _kept(report: HeldOutReport | None, means: Sequence[float]) -> tuple[float, ...]:
    """Means of the sweeps that are told: without the one that ran away, where that was noticed."""
    return tuple(means[:-1] if report is not None and report.ran_away else means)


def _sweep(group: SpeakerGroup[Any], going: Sequence[int], config: AdaptConfig, epoch: int) -> list[float]:
    def lr_at(share: float) -> float:
        return config.lr_after(epoch + share)

    return group.sweep(going, lr_at=lr_at, batch_size=config.batch_size)


def _outcome(course: _Course, config: AdaptConfig, seconds: Seconds) -> UpdateReport | SpeakerError:
    if not math.isfinite(course.before):
        return SpeakerError("the objective is not finite before the first step")
    held_out = course.held_out.objectives if course.held_out else ()
    if not all(map(math.isfinite, (course.after, *course.per_epoch, *held_out))):
        went = f"the objective went from {course.before:.3f} to {course.after:.3f}"
        return SpeakerError(f"{went}; lower adapt.lr ({config.lr})")
    return UpdateReport(
        objective_before=course.before,
        objective_after=course.after,
        per_epoch=course.per_epoch,
        seconds=seconds,
        held_out=course.held_out,
        coefficients=course.coefficients,
        learnt_from=course.division.utterances_learnt,
        utterances_held_out=course.division.utterances_held_out,
    )


def _without_targets(speaker: Learnt) -> SpeakerError:
    return SpeakerError(f"cannot adapt on {speaker.num_frames} frames with {len(speaker.targets)} targets")
