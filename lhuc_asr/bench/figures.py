"""The figures of a measurement, apart from the nets: what is printed, written and drawn."""

from __future__ import annotations

from dataclasses import dataclass

from lhuc_asr.bench.forward import Forward
from lhuc_asr.bench.nets import BenchNet
from lhuc_asr.bench.timing import Interval
from lhuc_asr.bench.updates import Updates
from lhuc_asr.units import Seconds


@dataclass(frozen=True, kw_only=True)
class ForwardFigure:
    """One way to run a batch.

    Attributes:
        name: of the way.
        wall_ms: milliseconds on the wall clock.
        cpu_ms: milliseconds of one core.
        against: the way that it is compared with; "" for none.
        ratio: how many times as long it takes as that one.
        cpu_ratio: the same on the clock of the cores.
    """

    name: str
    wall_ms: Interval
    cpu_ms: Interval
    against: str
    ratio: Interval | None
    cpu_ratio: Interval | None


@dataclass(frozen=True, kw_only=True)
class ForwardFigures:
    """All ways to run the same batch.

    Attributes:
        num_utterances: of the batch.
        num_frames: of each utterance.
        num_rounds: in which each way was timed once.
        figures: one for each way.
        largest_difference: of any log-probability between ways that must agree.
    """

    num_utterances: int
    num_frames: int
    num_rounds: int
    figures: tuple[ForwardFigure, ...]
    largest_difference: float


@dataclass(frozen=True, kw_only=True)
class UpdateFigure:
    """One way to adapt to the same speakers.

    Attributes:
        name: of the way.
        number_format: of its matrix products.
        throughput: seconds of speech in a second on the wall clock.
        throughput_per_core: seconds of speech in a second of one core.
        against: the way that it is compared with; "" for none.
        speed_up: how many times as fast as that one.
        share_of_limit: time of the bare products in the same number format against its own.
        difference: largest difference of any scale from those of the first way; None for that one.
    """

    name: str
    number_format: str
    throughput: Interval
    throughput_per_core: Interval
    against: str
    speed_up: Interval | None
    share_of_limit: Interval
    difference: float | None


@dataclass(frozen=True, kw_only=True)
class UpdateFigures:
    """All ways to adapt to the same speakers.

    Attributes:
        num_speakers: how many.
        speech: seconds of speech of all of them.
        num_epochs: sweeps over it.
        batch_size: frames of a minibatch.
        num_rounds: in which each way was timed once.
        figures: one for each way.
        limit_gflops: number format -> billions of multiplications and additions a second in the bare products.
        missing: what could not be measured -> why.
    """

    num_speakers: int
    speech: Seconds
    num_epochs: int
    batch_size: int
    num_rounds: int
    figures: tuple[UpdateFigure, ...]
    limit_gflops: dict[str, Interval]
    missing: dict[str, str]


def forward_figures(bench: BenchNet, forward: Forward) -> ForwardFigures:
    """What the timings of forward passes say."""
    timings = forward.timings
    return ForwardFigures(
        num_utterances=bench.shape.num_utterances,
        num_frames=bench.shape.num_frames,
        num_rounds=timings.num_rounds,
        figures=tuple(
            ForwardFigure(
                name=variant.name,
                wall_ms=Interval.of(1e3 * timings.wall[variant.name]),
                cpu_ms=Interval.of(1e3 * timings.cpu[variant.name]),
                against=variant.against,
                ratio=timings.ratio(variant.name, variant.against) if variant.against else None,
                cpu_ratio=timings.cpu_ratio(variant.name, variant.against) if variant.against else None,
            )
            for variant in forward.variants
        ),
        largest_difference=max(forward.differences.values()),
    )


def update_figures(bench: BenchNet, updates: Updates) -> UpdateFigures:
    """What the timings of updates say."""
    return UpdateFigures(
        num_speakers=bench.shape.num_speakers,
        speech=updates.speech,
        num_epochs=updates.config.num_epochs,
        batch_size=bench.shape.batch_size,
        num_rounds=updates.timings.num_rounds,
        figures=tuple(
            UpdateFigure(
                name=variant.name,
                number_format=updates.formats[variant.name],
                throughput=updates.throughput(variant.name),
                throughput_per_core=updates.throughput_per_core(variant.name),
                against=variant.against,
                speed_up=updates.speed_up(variant.name, variant.against) if variant.against else None,
                share_of_limit=updates.share_of_limit(variant.name),
                difference=updates.differences.get(variant.name),
            )
            for variant in updates.variants
        ),
        limit_gflops={name: updates.limit_gflops(name) for name in updates.limits},
        missing=dict(updates.missing),
    )
