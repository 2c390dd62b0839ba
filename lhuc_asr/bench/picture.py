"""The picture of the benchmark: a row for each net; extra time, speaker by speaker, and speed of adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.bench.figures import ForwardFigure, UpdateFigure
from lhuc_asr.bench.session import Measured
from lhuc_asr.scoring.style import BEFORE, FAINT, INK, LINES, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOOP = "speaker by speaker, "
_TOLERATED_PERCENT = 3.0


def draw_benchmark(path: Path, measured: Sequence[Measured]) -> None:
    """Write a PNG of all nets and numbers of threads.

    Args:
        path: the PNG.
        measured: at least one.
    """
    nets = list(dict.fromkeys(one.net for one in measured))
    with png(path, width=14.0, height=0.7 + 3.6 * len(nets)) as figure:
        grid = figure.subplots(len(nets), 3, squeeze=False, width_ratios=[1.0, 0.6, 1.1])
        for row, net in zip(grid, nets, strict=True):
            of_net = [one for one in measured if one.net == net]
            _draw_extra_time(row[0], of_net)
            _draw_loops(row[1], of_net)
            _draw_updates(row[2], of_net)
        figure.suptitle(_heading(measured), fontsize=9.5, color=INK, ha="left", x=0.01)
        handles, labels = grid[0][2].get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper right", frameon=False, ncols=len(labels), fontsize=9)


def _heading(measured: Sequence[Measured]) -> str:
    """Where it was measured, and what the colours mean."""
    machine = measured[0].machine
    quick = "QUICK: tiny nets, the figures mean nothing\n" if any(one.quick for one in measured) else ""
    return f"{quick}{machine.processor}, {machine.num_cores} cores, torch {machine.torch}, {machine.device}"


def _draw_extra_time(axes: Axes, measured: Sequence[Measured]) -> None:
    """Percent by which a way to run a batch takes longer than the one it is compared with."""
    names: list[str] = []
    for number, one in enumerate(measured):
        figures = [f for f in one.forward.figures if f.ratio is not None and not f.name.startswith(_LOOP)]
        names = [f"{figure.name} / {figure.against}" for figure in figures]
        for place, figure in enumerate(figures):
            _mark(axes, place + _aside(number, len(measured)), figure, LINES[number % len(LINES)])
    axes.axvspan(-_TOLERATED_PERCENT, _TOLERATED_PERCENT, color=FAINT, alpha=0.6, zorder=0)
    axes.axvline(0.0, color=BEFORE, linewidth=1.0, zorder=1)
    _list(axes, names)
    axes.set_xlabel(f"extra time in percent (grey: up to {_TOLERATED_PERCENT:g})")
    axes.set_title(f"{measured[0].net}: time in recognition")


def _mark(axes: Axes, place: float, figure: ForwardFigure, colour: str) -> None:
    assert figure.ratio is not None
    low, middle, high = (100 * (v - 1) for v in (figure.ratio.low, figure.ratio.median, figure.ratio.high))
    axes.plot([low, high], [place, place], color=colour, linewidth=1.8, alpha=0.7, zorder=2)
    axes.plot(middle, place, "o", color=colour, markersize=5.5, zorder=3)


def _draw_loops(axes: Axes, measured: Sequence[Measured]) -> None:
    """How many times as long a loop over the speakers takes as the mixed batch, for each make-up."""
    names: list[str] = []
    for number, one in enumerate(measured):
        figures = [f for f in one.forward.figures if f.name.startswith(_LOOP)]
        names = [figure.name.removeprefix(_LOOP) for figure in figures]
        for place, figure in enumerate(figures):
            assert figure.ratio is not None
            _bar(axes, place, (number, len(measured)), figure.ratio.median, f"{figure.ratio.median:.1f}")
    axes.axvline(1.0, color=BEFORE, linewidth=1.0)
    _list(axes, names)
    axes.margins(x=0.2)
    axes.set_xlabel("times as long as the mixed batch")
    axes.set_title("Speaker by speaker")


def _draw_updates(axes: Axes, measured: Sequence[Measured]) -> None:
    """Seconds of speech that are adapted to in a second."""
    names: list[str] = []
    for number, one in enumerate(measured):
        names = [figure.name for figure in one.updates.figures]
        for place, figure in enumerate(one.updates.figures):
            _bar(axes, place, (number, len(measured)), figure.throughput.median, _speed_text(figure))
        bar_label = f"{one.num_threads} thread{'s' * (one.num_threads > 1)}"
        axes.plot([], [], color=LINES[number % len(LINES)], linewidth=6, label=bar_label)
    _list(axes, names)
    axes.margins(x=0.55)
    axes.set_xlabel("seconds of speech in a second (%: share of the limit)")
    axes.set_title(f"Adaptation in {measured[0].updates.num_epochs} sweeps")


def _speed_text(figure: UpdateFigure) -> str:
    times = f", {figure.speed_up.median:.2f} x PEFT" if figure.speed_up else ""
    return f"{_three_digits(figure.throughput.median)}{times}, {100 * figure.share_of_limit.median:.0f} %"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _bar(axes: Axes, place: float, of: tuple[int, int], value: float, text: str) -> None:
    number, count = of
    height = 0.8 / count
    middle = place + _aside(number, count)
    axes.barh(middle, value, height=0.92 * height, color=LINES[number % len(LINES)], zorder=2)
    axes.annotate(
        text, (value, middle), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8, color=INK, zorder=3
    )


def _aside(number: int, count: int) -> float:
    """Where one of several marks of the same line stands."""
    return 0.8 * ((number + 0.5) / count - 0.5)


def _list(axes: Axes, names: Sequence[str]) -> None:
    """Names from top to bottom."""
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
