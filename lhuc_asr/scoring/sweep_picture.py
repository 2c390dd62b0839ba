"""The picture of a sweep: the error rate against one setting, with a line for each choice of the others.

Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), Fig. 5 (layers and sweeps over the data) and Table II.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhuc_asr.scoring.style import BEFORE, FAINT, INK, LINES, png
from lhuc_asr.scoring.sweep import SweepPoint, short_names, swept_settings, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_MARKERS = "osD^vP*X"
_STROKES = ("-", "-.", ":")
_SIGNIFICANT = 0.05
_LOGARITHMIC_FROM = 8.0
"""Values whose greatest is that many times the least stand on a logarithmic axis."""


@dataclass(frozen=True)
class Line:
    """The points that differ in nothing but the setting on the x axis, from left to right."""

    label: str
    places: tuple[float, ...]
    points: tuple[SweepPoint, ...]

    @property
    def before(self) -> tuple[float, ...]:
        """Error rates of the speaker-independent model."""
        return tuple(point.before.wer for point in self.points)

    @property
    def after(self) -> tuple[float, ...]:
        """Error rates of the adapted model."""
        return tuple(point.after.wer for point in self.points)


@dataclass(frozen=True)
class Layout:
    """What stands where.

    Attributes:
        key: the setting on the x axis.
        values: its values, from left to right.
        places: where they stand.
        is_ordered: one value follows the other, so points are joined.
        is_logarithmic: equal ratios are equal distances.
        lines: one for each choice of the other settings.
        others: short names of those.
    """

    key: str
    values: tuple[Any, ...]
    places: tuple[float, ...]
    is_ordered: bool
    is_logarithmic: bool
    lines: tuple[Line, ...]
    others: str


def draw_sweep(path: Path, points: Sequence[SweepPoint], *, note: str = "") -> bool:
    """Write a PNG of the points of one grid; a filled mark differs from the speaker-independent model (MAPSSWE).

    Args:
        path: the PNG.
        points: in the order in which values should be told.
        note: what all points have in common.

    Returns:
        Whether there is anything to draw: two points at least.
    """
    layout = sweep_layout(points)
    if layout is None:
        return False
    with png(path, width=8.0, height=4.4) as figure:
        axes = figure.add_subplot()
        handles = _draw_lines(axes, layout)
        _mark_best(axes, layout)
        _dress(axes, layout, handles, note)
    return True


def sweep_layout(points: Sequence[SweepPoint]) -> Layout | None:
    """Choose the x axis and the lines; None where no setting differs.

    Numbers make the better axis, then lists of layers, then names; among equals the setting with most values.
    """
    swept = swept_settings(points)
    if not swept:
        return None
    key = max(swept, key=lambda name: (-_kind(swept[name]), len(swept[name])))
    kind = _kind(swept[key])
    values = tuple(sorted(swept[key])) if kind == 0 else tuple(swept[key])
    places = tuple(map(float, values)) if kind == 0 else tuple(map(float, range(len(values))))
    names = short_names(swept)
    others = [name for name in swept if name != key]
    groups: dict[str, dict[float, SweepPoint]] = {}
    for point in points:
        label = " / ".join(value_text(name, point.settings[name]) for name in others)
        groups.setdefault(label, {})[places[values.index(point.settings[key])]] = point
    return Layout(
        key=key,
        values=values,
        places=places,
        is_ordered=kind < 2,
        is_logarithmic=kind == 0 and places[0] > 0 and places[-1] / places[0] >= _LOGARITHMIC_FROM,
        lines=tuple(_line(label, found) for label, found in groups.items()),
        others=" / ".join(names[name] for name in others),
    )


def _kind(values: Sequence[Any]) -> int:
    """0 for numbers, 1 for lists such as layers, 2 for names."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return 0
    return 1 if all(isinstance(value, list) for value in values) else 2


def _line(label: str, found: Mapping[float, SweepPoint]) -> Line:
    places = tuple(sorted(found))
    return Line(label, places, tuple(found[place] for place in places))


def _draw_lines(axes: Axes, layout: Layout) -> list[Line2D]:
    """Draw everything but words, and return what the legend shows."""
    handles = []
    for number, line in enumerate(layout.lines):
        colour = LINES[number % len(LINES)]
        marker = _MARKERS[number % len(_MARKERS)]
        size = 9.0 - 0.7 * min(number, 5)  # where marks coincide, those below remain to be seen
        places = [place + _aside(layout, number) for place in line.places]
        stroke = _STROKES[number // len(LINES) % len(_STROKES)] if layout.is_ordered else ""
        axes.plot(places, line.after, color=colour, linestyle=stroke, linewidth=1.8, alpha=0.85, zorder=3)
        for place, point in zip(places, line.points, strict=True):
            face = colour if point.p_value < _SIGNIFICANT else "white"
            axes.plot(place, point.after.wer, marker, color=colour, markerfacecolor=face, markersize=size, zorder=4)
        handles.append(_handle(color=colour, marker=marker, linestyle=stroke, label=line.label or "LHUC"))
    return handles + _draw_before(axes, layout)


def _aside(layout: Layout, number: int) -> float:
    """Marks over a name stand side by side, for there is no line to tell them apart."""
    return 0.0 if layout.is_ordered else 0.5 * ((number + 0.5) / len(layout.lines) - 0.5)


def _draw_before(axes: Axes, layout: Layout) -> list[Line2D]:
    """Dashed lines of the speaker-independent model: one where all points share it, else one for each line."""
    rates = {rate for line in layout.lines for rate in line.before}
    if len(rates) == 1:
        axes.axhline(rates.pop(), color=BEFORE, linestyle="--", linewidth=1.4, zorder=2)
        return [_handle(color=BEFORE, linestyle="--", label=f"SI {layout.lines[0].before[0]:.2f} %")]
    drawn = {(line.places, line.before) for line in layout.lines}
    for number, line in enumerate(layout.lines):
        colour = BEFORE if len(drawn) == 1 else LINES[number % len(LINES)]
        if layout.is_ordered and len(line.places) > 1:
            axes.plot(line.places, line.before, color=colour, linestyle="--", linewidth=1.3, alpha=0.8, zorder=2)
        else:
            for place, rate in zip(line.places, line.before, strict=True):
                centre = place + _aside(layout, number)
                ends = [centre - 0.5 / len(layout.lines) / 2, centre + 0.5 / len(layout.lines) / 2]
                axes.plot(ends, [rate, rate], color=colour, linestyle="--", linewidth=1.3, alpha=0.8, zorder=2)
    return [_handle(color=BEFORE, linestyle="--", label="SI")]


def _handle(**how: Any) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], linewidth=1.6, markersize=6.5, **how)


def _mark_best(axes: Axes, layout: Layout) -> None:
    """The lowest error rate in figures."""
    places = [
        (point.after.wer, place + _aside(layout, number))
        for number, line in enumerate(layout.lines)
        for place, point in zip(line.places, line.points, strict=True)
    ]
    rate, place = min(places)
    axes.annotate(
        f"{rate:.2f}", (place, rate), xytext=(0, -9), textcoords="offset points", ha="center", va="top", fontsize=9
    )


def _dress(axes: Axes, layout: Layout, handles: list[Line2D], note: str) -> None:
    """Scales, ticks, titles and the legend."""
    if layout.is_logarithmic:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(layout.places, [value_text(layout.key, value) for value in layout.values])
    if not layout.is_ordered:
        axes.set_xlim(-0.5, len(layout.places) - 0.5)
    axes.set_xlabel(layout.key)
    axes.set_ylabel("WER in percent")
    axes.margins(x=0.05, y=0.12)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    by = f" and {layout.others}" if layout.others else ""
    axes.set_title(f"WER by {short_names([layout.key])[layout.key]}{by}", pad=24)
    text = "; ".join(part for part in (note, f"filled: MAPSSWE p < {_SIGNIFICANT:g} against SI") if part)
    axes.text(0.0, 1.02, text, transform=axes.transAxes, fontsize=8.5, color=INK, va="bottom")
    axes.legend(
        handles=handles,
        title=layout.others or None,
        alignment="left",
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize=9,
    )
