"""The benchmark as text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lhuc_asr.bench.figures import ForwardFigures, UpdateFigures
from lhuc_asr.bench.session import Measured
from lhuc_asr.bench.timing import Interval
from lhuc_asr.files import write_json
from lhuc_asr.scoring.table import table

_FORMAT = 1


def report_text(measured: Measured) -> str:
    """Two tables: what speakers cost in recognition, and how fast they are adapted to."""
    threads = f"{measured.num_threads} thread{'s' * (measured.num_threads > 1)}"
    title = f"== {measured.net}, {measured.device}, {threads}" + (
        " (QUICK: tiny nets, the figures mean nothing)" if measured.quick else ""
    )
    return f"{title}\n\n{forward_text(measured.forward)}\n\n{updates_text(measured.updates)}\n"


def forward_text(found: ForwardFigures) -> str:
    """What speakers cost in recognition."""
    head = (
        f"one batch: {found.num_utterances} utterances of {found.num_frames} frames, {found.num_rounds} rounds; "
        f"outputs that must agree differ by {found.largest_difference:.1g} at most"
    )
    rows = [["forward", "wall ms", "cpu ms", "time against", "ratio", "95 %", "cpu ratio"]]
    for figure in found.figures:
        wall, cpu = f"{figure.wall_ms.median:.2f}", f"{figure.cpu_ms.median:.2f}"
        cpu_ratio = f"{figure.cpu_ratio.median:.3f}" if figure.cpu_ratio else "-"
        rows.append([figure.name, wall, cpu, figure.against or "-", *_with_interval(figure.ratio), cpu_ratio])
    return f"{head}\n{table(rows)}"


def updates_text(found: UpdateFigures) -> str:
    """How fast speakers are adapted to."""
    limits = ", ".join(f"{name} {value.median:.0f}" for name, value in found.limit_gflops.items())
    head = (
        f"adaptation: {found.num_speakers} speakers, {found.speech:.1f} s of speech in all, {found.num_epochs} sweeps, "
        f"minibatches of {found.batch_size} frames, {found.num_rounds} rounds\n"
        f"products alone, Gflop/s: {limits}"
    )
    rows = [["updates", "speech s/s", "per core", "speed against", "ratio", "95 %", "of the limit", "scales differ"]]
    for figure in found.figures:
        rows.append(
            [
                figure.name,
                f"{figure.throughput.median:.2f}",
                f"{figure.throughput_per_core.median:.2f}",
                figure.against or "-",
                *_with_interval(figure.speed_up),
                f"{100 * figure.share_of_limit.median:.1f} %",
                "-" if figure.difference is None else f"{figure.difference:.1g}",
            ]
        )
    missing = "".join(f"\nnot measured: {what}: {why}" for what, why in found.missing.items())
    return f"{head}\n{table(rows)}{missing}"


def _with_interval(value: Interval | None) -> list[str]:
    return ["-", "-"] if value is None else [f"{value.median:.3f}", f"{value.low:.3f} to {value.high:.3f}"]


def write_report(path: Path, measured: Sequence[Measured], *, commit: str, command: Sequence[str]) -> None:
    """Write all figures, and where they come from, as JSON.

    Args:
        path: the file.
        measured: one for each net and number of threads.
        commit: of the checkout.
        command: program and arguments.
    """
    write_json(
        path,
        {
            "format": _FORMAT,
            "benchmark": "adapter",
            "commit": commit,
            "command": list(command),
            "measured": [asdict(one) for one in measured],
        },
    )
