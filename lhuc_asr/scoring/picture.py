"""Pictures of an adaptation run: error rates per speaker before and after, and the scales that were learned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.scoring.comparison import Comparison
from lhuc_asr.scoring.report import p_text
from lhuc_asr.scoring.style import BEFORE, BETTER, FAINT, FILL, INK, SAME, WORSE, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scales = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""Speaker -> site (bottom to top) -> (H,) amplitudes; 1 leaves a unit as it was."""

_MOST_NAMES = 60


def draw_results(path: Path, comparison: Comparison, *, names: tuple[str, str], scales: Scales | None = None) -> None:
    """Write a PNG: on the left every speaker's error rate before and after, on the right the scales of every layer.

    Args:
        path: the PNG.
        comparison: two systems.
        names: what to call them.
        scales: learned amplitudes; without them only the left half is drawn.
    """
    width, height = 11.5 if scales else 7.0, _height(len(comparison.first.speakers))
    with png(path, width=width, height=height) as figure:
        if scales:
            left, right = _halves(figure)
            _draw_scales(right, scales)
        else:
            left = figure.add_subplot()
        _draw_speakers(left, comparison, names)


def draw_scales(path: Path, scales: Scales, *, title: str) -> None:
    """Write a PNG of learned scales alone, a row for every layer.

    Args:
        path: the PNG.
        scales: learned amplitudes.
        title: whose they are.
    """
    num_layers = len(next(iter(scales.values())))
    with png(path, width=8.0, height=1.9 + 0.55 * num_layers) as figure:
        axes = figure.add_subplot()
        _draw_scales(axes, scales)
        axes.set_title(title, pad=46)


def _height(num_speakers: int) -> float:
    """As high as so many speakers need, in inches."""
    return 1.6 + max(2.6, min(0.21 * num_speakers, 6.0 + 0.06 * num_speakers))


def _halves(figure: Figure) -> tuple[Axes, Axes]:
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1.0))
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
    return left, right


def _draw_speakers(axes: Axes, comparison: Comparison, names: tuple[str, str]) -> None:
    """A line for each speaker from the error rate before to the one after, the hardest speaker on top."""
    before = comparison.first.speakers
    order = sorted(before, key=lambda speaker: (_shown(before[speaker].wer), speaker))
    for height, speaker in enumerate(order):
        start, end = _shown(before[speaker].wer), _shown(comparison.second.speakers[speaker].wer)
        colour = BETTER if end < start else WORSE if end > start else SAME
        axes.plot([start, end], [height, height], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="round")
        axes.scatter(start, height, s=26, facecolor="white", edgecolor=BEFORE, linewidth=1.4, zorder=3)
        axes.scatter(end, height, s=30, color=colour, zorder=4)
    _name_speakers(axes, order)
    _mark_totals(axes, comparison)
    unit = comparison.first.unit.value
    axes.set_title(f"{unit} of every speaker, {names[0]} and {names[1]}", pad=46)
    axes.set_xlabel(f"{unit} in percent")
    axes.set_ylim(-0.8, len(order) - 0.2)
    axes.margins(x=0.05)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    _explain_speakers(axes, comparison, names)


def _name_speakers(axes: Axes, order: list[str]) -> None:
    if len(order) <= _MOST_NAMES:
        axes.set_yticks(range(len(order)), [name if len(name) <= 18 else f"{name[:17]}…" for name in order])
        axes.tick_params(axis="y", length=0, labelsize=8.5)
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(order)} speakers")


def _mark_totals(axes: Axes, comparison: Comparison) -> None:
    """Upright lines at the error rates over everybody."""
    for counts, style, colour in ((comparison.first.total, ":", BEFORE), (comparison.second.total, "-", INK)):
        axes.axvline(_shown(counts.wer), linestyle=style, color=colour, linewidth=1.1, zorder=1)


def _explain_speakers(axes: Axes, comparison: Comparison, names: tuple[str, str]) -> None:
    """The legend above the axes: both systems with their totals, and how many speakers gained."""
    from matplotlib.lines import Line2D

    def dot(face: str, edge: str, text: str) -> Line2D:
        return Line2D(
            [], [], linestyle="", marker="o", markersize=5.5, markerfacecolor=face, markeredgecolor=edge, label=text
        )

    handles = [
        dot("white", BEFORE, f"{names[0]}: {comparison.first.wer:.2f} % (dotted line)"),
        dot(BETTER, BETTER, f"{names[1]}, better: {len(comparison.better)}"),
        Line2D(
            [], [], color=INK, linewidth=1.1, label=f"{names[1]}: {comparison.second.wer:.2f} %, {_change(comparison)}"
        ),
        dot(WORSE, WORSE, f"{names[1]}, worse: {len(comparison.worse)}; same: {len(comparison.same)}"),
    ]
    legend = axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=2,
        frameon=False,
        fontsize=8.5,
        borderpad=0.2,
        handletextpad=0.6,
        columnspacing=1.4,
        borderaxespad=0.3,
    )
    legend.set_in_layout(False)


def _change(comparison: Comparison) -> str:
    text = f"{comparison.relative_change:+.1f} % relative"
    test = comparison.matched_pairs
    return text if test is None else f"{text}, {p_text(test.p_value)}"


def _draw_scales(axes: Axes, scales: Scales) -> None:
    """A violin for each layer: all units of all speakers, with the middle 50 % and 90 %."""
    speakers = list(scales)
    sites = list(scales[speakers[0]])
    values = [np.concatenate([np.asarray(scales[speaker][site]) for speaker in speakers]) for site in sites]
    positions = range(len(sites))
    limit = max(0.02, 1.15 * max(float(np.abs(np.percentile(value, [0.5, 99.5]) - 1).max()) for value in values))
    for position, value in zip(positions, values, strict=True):
        _draw_violin(axes, position, value[np.abs(value - 1) <= limit])
        low, lower, middle, upper, high = np.percentile(value, [5, 25, 50, 75, 95])
        axes.plot([low, high], [position, position], color=INK, linewidth=1.0, zorder=3)
        axes.plot([lower, upper], [position, position], color=INK, linewidth=4.0, solid_capstyle="butt", zorder=3)
        axes.scatter(middle, position, s=22, facecolor="white", edgecolor=INK, linewidth=1.2, zorder=4)
        axes.text(1 + limit, position + 0.3, f"sd {value.std():.3f}", ha="right", va="center", fontsize=8, color=SAME)
    axes.axvline(1.0, color=BEFORE, linewidth=1.0, linestyle="--", zorder=1)
    axes.set_yticks(positions, sites)
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.set_ylim(-0.6, len(sites) - 0.4)
    axes.set_xlim(1 - limit, 1 + limit)
    axes.set_title("Learned scales of every layer", pad=46)
    count = f"{len(speakers)} speaker" + ("s" if len(speakers) > 1 else "")
    note = axes.text(
        0.0,
        1.01,
        f"{count}, all units; bar: middle half, line: middle 90 %\n1 leaves a unit as it was",
        transform=axes.transAxes,
        fontsize=8.5,
        va="bottom",
        linespacing=1.5,
    )
    note.set_in_layout(False)
    axes.set_xlabel("scale")
    axes.grid(axis="x", color=FAINT, linewidth=0.8)


def _draw_violin(axes: Axes, position: float, value: NDArray[np.float32]) -> None:
    """How the scales of one layer are spread; nothing where all are equal."""
    if float(np.ptp(value)) < 1e-6:
        return
    counts, edges = np.histogram(value, bins=80)
    window = np.hanning(9)
    density = np.convolve(counts, window / window.sum(), mode="same")
    half = 0.38 * density / density.max()
    centres = (edges[1:] + edges[:-1]) / 2
    axes.fill_between(centres, position - half, position + half, color=FILL, alpha=0.35, linewidth=0, zorder=2)


def _shown(error_rate: float) -> float:
    """Error rates on the picture; an infinite one stands at the edge."""
    return min(error_rate, 200.0)
