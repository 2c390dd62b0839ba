"""How fast speakers are adapted to: all in one run, one by one, and by PEFT, on the same net, data and minibatches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.bench.ia3 import ia3_updates
from lhuc_asr.bench.limit import Limit, matrix_limit, products_above
from lhuc_asr.bench.nets import BenchNet
from lhuc_asr.bench.ours import our_updates
from lhuc_asr.bench.timing import Interval, Rounds, Timings, Variant, interleave
from lhuc_asr.errors import DependencyError
from lhuc_asr.training.precision import Precision
from lhuc_asr.units import Seconds

FLOAT32, BFLOAT16 = "float32", "bfloat16"
_LR = 0.1
"""Small enough that random targets do no harm; the time does not depend on it."""


@dataclass(frozen=True, eq=False)
class Updates:
    """Timings of one net.

    Attributes:
        variants: what was timed, the bare products apart.
        timings: seconds, the bare products among them.
        config: step, sweeps, items of a minibatch.
        formats: variant -> number format of its products.
        speech: seconds of speech that every variant adapts to.
        limits: number format -> the bare products.
        num_updated: frames that pass through the net and back, every sweep counted.
        differences: variant -> how much its scales differ from those of PEFT (without it: of our one-by-one run).
        missing: what could not be measured -> why.
    """

    variants: tuple[Variant, ...]
    timings: Timings
    config: AdaptConfig
    formats: Mapping[str, str]
    speech: Seconds
    limits: Mapping[str, Limit]
    num_updated: int
    differences: Mapping[str, float]
    missing: Mapping[str, str]

    def throughput(self, name: str) -> Interval:
        """Seconds of speech that are adapted to in a second."""
        return Interval.of(self.speech / self.timings.wall[name])

    def throughput_per_core(self, name: str) -> Interval:
        """Seconds of speech that are adapted to in a second of one core."""
        return Interval.of(self.speech / self.timings.cpu[name])

    def speed_up(self, name: str, against: str) -> Interval:
        """How many times as fast a variant is as another one."""
        return self.timings.ratio(against, name)

    def share_of_limit(self, name: str) -> Interval:
        """Time of the bare products against that of the variant, in its number format."""
        limit = self.limits[self.formats[name]]
        frames = self.num_updated / limit.num_rows
        return Interval.of(self.timings.wall[limit.variant.name] * frames / self.timings.wall[name])

    def limit_gflops(self, number_format: str) -> Interval:
        """Billions of multiplications and additions a second in the bare products."""
        limit = self.limits[number_format]
        return Interval.of(limit.operations * limit.num_rows / 1e9 / self.timings.wall[limit.variant.name])


def update_config(bench: BenchNet) -> AdaptConfig:
    """Three sweeps of plain gradient descent; the batch size counts items."""
    return AdaptConfig(lr=_LR, num_epochs=3, batch_size=bench.items_per_batch, min_seconds=0.0)


def measure_updates(
    bench: BenchNet, rounds: Rounds, *, num_jobs: int = 1, quick: bool = False, title: str = "updates"
) -> Updates:
    """Time all ways to adapt to the same speakers; what they learn is compared.

    Args:
        bench: the net.
        rounds: how long.
        num_jobs: processes that our run of all speakers may use, as many as there are threads.
        quick: also the bare products are tiny.
        title: of the progress bar.
    """
    config = update_config(bench)
    missing: dict[str, str] = {}
    found = list(_variants(bench, config, num_jobs, missing))
    variants = [variant for variant, _ in found]
    formats = {variant.name: number_format for variant, number_format in found}
    products = products_above(bench.net, bench.sites[0].name)
    limits = {
        name: matrix_limit(products, getattr(torch, name), bench.device, rows=16 if quick else 0)
        for name in dict.fromkeys(formats.values())
    }
    timings = interleave(
        [*variants, *(limit.variant for limit in limits.values())], rounds, bench.device, description=title
    )
    speech = bench.speech()
    return Updates(
        variants=tuple(variants),
        timings=timings,
        config=config,
        formats=formats,
        speech=sum(one.seconds for one in speech),
        limits=limits,
        num_updated=config.num_epochs * sum(one.targets.numel() for one in speech),
        differences=_differences({variant.name: timings.outcomes[variant.name] for variant in variants}),
        missing=missing,
    )


def _variants(
    bench: BenchNet, config: AdaptConfig, num_jobs: int, missing: dict[str, str]
) -> Iterator[tuple[Variant, str]]:
    """Each with its number format; what cannot be measured goes into ``missing``."""
    speech = bench.speech()
    peft = {FLOAT32: f"PEFT (IA)^3, {FLOAT32}", BFLOAT16: f"PEFT (IA)^3, {BFLOAT16} autocast"}
    try:
        yield Variant(peft[FLOAT32], ia3_updates(bench, speech, config)), FLOAT32
        autocast = ia3_updates(bench, speech, config, bfloat16=True)
        yield Variant(peft[BFLOAT16], autocast, against=peft[FLOAT32]), BFLOAT16
    except DependencyError as error:
        missing["PEFT (IA)^3"] = str(error)
        peft = {}
    for number_format in (FLOAT32, BFLOAT16) if bench.takes_precision else (FLOAT32,):
        chosen = replace(config, precision=Precision(number_format))
        for name, run in our_updates(bench, speech, chosen, num_jobs=num_jobs):
            against = peft.get(number_format, "")
            yield Variant(f"{name}, {number_format}", run, against=against), number_format


def _differences(learnt: Mapping[str, object]) -> dict[str, float]:
    """Largest difference of any scale from those of the first variant."""
    first, *others = learnt
    return {name: _difference(learnt[name], learnt[first]) for name in others}


def _difference(found: object, wanted: object) -> float:
    assert isinstance(found, dict) and isinstance(wanted, dict)
    return max(
        float((found[speaker][site].cpu() - scales.cpu()).abs().max())
        for speaker, sites in wanted.items()
        for site, scales in sites.items()
    )
