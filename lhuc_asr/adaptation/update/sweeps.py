"""The update: a few sweeps of gradient descent over speakers' frames, on everybody's own scales and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.parameters.own import Beginning
from lhuc_asr.adaptation.parameters.priors import Estimator
from lhuc_asr.adaptation.targets.criterion import AdaptCriterion
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.group import CACHE_BYTES, Computing, Learnt, MakeEstimate, SpeakerGroup, opened_group
from lhuc_asr.adaptation.update.held_out import Division, HeldOutReport, Verdict
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.stopping import SweepWatch
from lhuc_asr.errors import SpeakerError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.units import Seconds


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
