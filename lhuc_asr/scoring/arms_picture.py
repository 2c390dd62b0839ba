"""Pictures of many ways to adapt: error rate by seconds of speech, gain by how hard a speaker is, and who is harmed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lhuc_asr.scoring.arms import HARM, ArmResult
from lhuc_asr.scoring.style import BEFORE, BETTER, FAINT, FILL, INK, SAME, WORSE, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
_PANEL = (2.9, 2.35)
"""Width and height of one panel, in inches."""


def draw_arms(directory: Path, results: Sequence[ArmResult]) -> list[Path]:
    """Write the pictures.

    Args:
        directory: where they go.
        results: of a comparison.

    Returns:
        seconds.png, where an arm has several amounts of speech; speakers.png and harmed.png, of the run of every arm
        with the most speech.
    """
    arms = _by_arm(results)
    most = [own[-1] for own in arms.values()]
    drawn = []
    if any(len(own) > 1 for own in arms.values()):
        drawn.append(directory / "seconds.png")
        _draw_seconds(drawn[-1], arms)
    drawn += [directory / "speakers.png", directory / "harmed.png"]
    _draw_speakers(drawn[-2], most)
    _draw_harmed(drawn[-1], most)
    return drawn


def _by_arm(results: Sequence[ArmResult]) -> dict[str, list[ArmResult]]:
    """Arm -> its runs, those with less speech first."""
    arms: dict[str, list[ArmResult]] = {}
    for result in results:
        arms.setdefault(result.run.arm, []).append(result)
    return {arm: sorted(own, key=lambda each: each.run.mean_seconds) for arm, own in arms.items()}


def _draw_seconds(path: Path, arms: dict[str, list[ArmResult]]) -> None:
    """A panel for each arm: its error rates with intervals, those of all others in grey behind."""
    si = next(iter(arms.values()))[0].against_first_pass.first.wer
    title = "WER by seconds of adaptation speech per speaker"
    note = f"dotted: first pass, {si:.2f} %; bars: 95 % of the paired change when speakers are drawn"
    with png(path, width=_width(len(arms)), height=_height(len(arms))) as figure:
        _name_axes(figure, f"seconds of speech per speaker\n{note}", "WER in percent")
        for axes, own in zip(_panels(figure, len(arms), title), arms.values(), strict=True):
            for other in arms.values():
                _draw_line(axes, other, colour=FAINT)
            _draw_line(axes, own, colour=FILL, si=si)
            axes.axhline(si, color=BEFORE, linestyle=":", linewidth=1.1)
            axes.set_title(_called(own[0]), fontsize=9.5)
            _mark_seconds(axes, [each.run.mean_seconds for each in own])


def _draw_line(axes: Axes, own: Sequence[ArmResult], *, colour: str, si: float | None = None) -> None:
    seconds = [each.run.mean_seconds for each in own]
    rates = [each.against_first_pass.second.wer for each in own]
    axes.plot(seconds, rates, color=colour, linewidth=1.6, marker="o", markersize=3.5, zorder=3 if si else 1)
    for second, each in zip(seconds, own, strict=True):
        drawn = each.against_first_pass.bootstrap
        if si is not None and drawn is not None:
            ends = [si * (1 + drawn.low / 100), si * (1 + drawn.high / 100)]
            axes.plot([second, second], ends, color=colour, linewidth=3.5, alpha=0.35, solid_capstyle="butt", zorder=2)


def _mark_seconds(axes: Axes, seconds: Sequence[float]) -> None:
    """A logarithmic axis with marks at whole seconds."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(seconds, [f"{second:.0f}" for second in seconds])


def _draw_speakers(path: Path, results: Sequence[ArmResult]) -> None:
    """A panel for each arm: a dot for each speaker, the change against the error rate of the first pass."""
    title = "Change of every speaker's WER, by the WER of the first pass"
    note = f"points of WER, below 0 is better; red: more than {HARM:g} point worse; line: least squares"
    with png(path, width=_width(len(results)), height=_height(len(results))) as figure:
        _name_axes(figure, f"WER of the speaker in the first pass, in percent\n{note}", "change in points of WER")
        for axes, result in zip(_panels(figure, len(results), title), results, strict=True):
            _draw_changes(axes, result)
            axes.set_title(f"{_called(result)}, {result.run.mean_seconds:.0f} s", fontsize=9.5)


def _draw_changes(axes: Axes, result: ArmResult) -> None:
    changes = result.changes()
    before = [result.against_first_pass.first.speakers[name].wer for name in changes]
    after = list(changes.values())
    colours = [WORSE if change > HARM else BETTER if change < 0 else SAME for change in after]
    axes.axhline(0, color=BEFORE, linewidth=1.0, linestyle=":", zorder=1)
    axes.scatter(before, after, s=18, c=colours, alpha=0.8, linewidth=0, zorder=3)
    if len(set(before)) > 1:
        slope, offset = np.polyfit(before, after, 1)
        ends = np.array([min(before), max(before)])
        axes.plot(ends, slope * ends + offset, color=INK, linewidth=1.1, zorder=2)


def _draw_harmed(path: Path, results: Sequence[ArmResult]) -> None:
    """A bar for each arm: the shares of speakers who got better, stayed or got little worse, and were harmed."""
    order = sorted(results, key=lambda each: (len(each.harmed), -len(each.against_first_pass.better)), reverse=True)
    with png(path, width=8.0, height=1.5 + 0.34 * len(order)) as figure:
        axes = figure.add_subplot()
        for height, result in enumerate(order):
            _draw_shares(axes, height, result)
        axes.set_yticks(range(len(order)), [f"{_called(each)}, {each.run.mean_seconds:.0f} s" for each in order])
        axes.tick_params(axis="y", length=0, labelsize=8.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("speakers in percent")
        axes.set_title("What became of the speakers", pad=22)
        parts = f"green: better; grey: the same, or worse by {HARM:g} point at most; red: harmed, worse by more"
        axes.text(0.0, 1.01, parts, transform=axes.transAxes, fontsize=8.5, va="bottom").set_in_layout(False)
        axes.margins(y=0.01)


def _draw_shares(axes: Axes, height: int, result: ArmResult) -> None:
    """One bar; numbers of speakers stand in its parts."""
    num_better, num_harmed = len(result.against_first_pass.better), len(result.harmed)
    num_speakers = len(result.changes())
    start = 0.0
    for count, colour in (
        (num_better, BETTER),
        (num_speakers - num_better - num_harmed, FAINT),
        (num_harmed, WORSE),
    ):
        share = 100 * count / num_speakers
        axes.barh(height, share, left=start, color=colour, height=0.72)
        if count:
            ink = INK if colour == FAINT else "white"
            axes.text(start + share / 2, height, str(count), ha="center", va="center", fontsize=8, color=ink)
        start += share


def _panels(figure: Figure, count: int, title: str) -> Iterator[Axes]:
    """So many axes that share their scales, row after row."""
    columns = min(count, _COLUMNS)
    figure.suptitle(title, fontweight="bold", fontsize=11.5, x=0.02, ha="left")
    grid = figure.subplots(ceil(count / columns), columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.set_visible(False)
    for place, one in enumerate(axes[:count]):
        one.grid(axis="y", color=FAINT, linewidth=0.8)
        one.tick_params(labelsize=8, labelbottom=place + columns >= count)
        yield one


def _name_axes(figure: Figure, across: str, up: str) -> None:
    """What all panels show; what is written across may have a second line of notes."""
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)


def _called(result: ArmResult) -> str:
    return result.run.arm + " (oracle)" * (result.run.oracle and "oracle" not in result.run.arm)


def _width(count: int) -> float:
    return max(7.5, _PANEL[0] * min(count, _COLUMNS))


def _height(count: int) -> float:
    return 1.2 + _PANEL[1] * ceil(count / _COLUMNS)
