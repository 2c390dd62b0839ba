"""The picture of a comparison: GAUC of every system, its seeds and its interval, between the first and the optimum."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.ranking.comparison import Compared
from lhuc_asr.scoring.style import BEFORE, BETTER, FAINT, FILL, INK, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_comparison(path: Path, compared: Compared, *, note: str = "") -> None:
    """Write a PNG of one task.

    Args:
        path: the PNG.
        compared: the systems, from top to bottom.
        note: what all of them have in common.
    """
    with png(path, width=8.0, height=1.5 + 0.42 * len(compared.scores)) as figure:
        axes = figure.add_subplot()
        _draw_landmarks(axes, compared)
        for place, (name, interval) in enumerate(compared.gauc.items()):
            seeds = [run.gauc.value for run in compared.scores[name]]
            axes.plot(seeds, [place] * len(seeds), "o", color=FILL, markersize=4, alpha=0.45, zorder=3)
            if not math.isnan(interval.low):
                axes.plot([interval.low, interval.high], [place, place], color=FILL, linewidth=2.2, zorder=3)
            axes.plot(interval.mean, place, "|", color=INK, markersize=13, markeredgewidth=1.8, zorder=4)
            share = compared.recovered.get(name)
            label = f"{interval.mean:.4f}" + (f"  ({100 * share:.0f} %)" if share else "")
            axes.annotate(
                label, (interval.mean, place), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=8
            )
        _dress(axes, compared, note)


def _draw_landmarks(axes: Axes, compared: Compared) -> None:
    """Lines where the first system and the optimum stand, and half way between them."""
    first = next(iter(compared.gauc.values())).mean
    axes.axvline(first, color=BEFORE, linewidth=1.2, zorder=1)
    if (best := compared.optimum) is None:
        return
    axes.axvline((first + best.gauc) / 2, color=BEFORE, linestyle=":", linewidth=1.2, zorder=1)
    axes.axvline(best.gauc, color=BETTER, linewidth=1.6, zorder=1)
    axes.annotate(
        f"true chances {best.gauc:.4f}",
        (best.gauc, -0.75),
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=8.5,
        color=BETTER,
    )


def _dress(axes: Axes, compared: Compared, note: str) -> None:
    names = list(compared.scores)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -1.05)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.margins(x=0.06)
    axes.set_xlabel("GAUC; dots: seeds, bar: 95 % of the mean" + ("; dotted: half way" if compared.optimum else ""))
    axes.set_title(f"Order within users: {compared.task}" + (f" ({note})" if note else ""))
