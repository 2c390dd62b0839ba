"""Error rates of many models against a number that tells them apart, such as a share, hours of speech or a width.

Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), Fig. 6: the share of speaker-adaptive training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lhuc_asr.errors import DataError
from lhuc_asr.scoring.style import BEFORE, FAINT, LINES, png
from lhuc_asr.scoring.wer import Score

_MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Curve:
    """What a picture of error rates shows.

    Attributes:
        lines: name -> number -> error rate in percent, the numbers ascending.
        levels: name -> error rate of a system without a number.
    """

    lines: Mapping[str, Mapping[float, float]]
    levels: Mapping[str, float]


def curve_of(scores: Mapping[str, Score]) -> Curve:
    """Take names such as ``adapted@0.5`` apart.

    Args:
        scores: name of the system, with ``@NUMBER`` where it is a point of a line -> its errors.

    Raises:
        DataError: what follows the ``@`` is no number, or no line has two points.

    Example:
        >>> from lhuc_asr.scoring.wer import score
        >>> right, wrong = (score({"a-1": "ONE"}, {"a-1": text}, {"a-1": "a"}) for text in ("ONE", "TWO"))
        >>> curve_of({"SI": wrong, "adapted@0.5": right, "adapted@0.1": wrong})
        Curve(lines={'adapted': {0.1: 100.0, 0.5: 0.0}}, levels={'SI': 100.0})
    """
    lines: dict[str, dict[float, float]] = {}
    levels: dict[str, float] = {}
    for name, found in scores.items():
        line, at, number = name.rpartition("@")
        if at:
            lines.setdefault(line, {})[_number(number, name)] = found.total.wer
        else:
            levels[name] = found.total.wer
    if not any(len(points) > 1 for points in lines.values()):
        raise DataError(f"a curve needs two systems NAME@NUMBER of one NAME at least, got {', '.join(scores)}")
    return Curve({name: dict(sorted(points.items())) for name, points in lines.items()}, levels)


def draw_curve(path: Path, curve: Curve, label: str) -> None:
    """Write a PNG: a line for each name, and a dashed level for each system without a number.

    Args:
        path: the PNG.
        curve: what is drawn.
        label: of the numbers.
    """
    with png(path, width=8.0, height=4.4) as figure:
        axes = figure.add_subplot()
        for place, (name, points) in enumerate(curve.lines.items()):
            colour, marker = LINES[place % len(LINES)], _MARKERS[place % len(_MARKERS)]
            axes.plot(list(points), list(points.values()), color=colour, marker=marker, linewidth=1.8, label=name)
        for place, (name, rate) in enumerate(curve.levels.items()):
            stroke = ("--", ":", "-.")[place % 3]
            axes.axhline(rate, color=BEFORE, linestyle=stroke, linewidth=1.4, label=f"{name} {rate:.2f} %")
        axes.set_xticks(sorted({number for points in curve.lines.values() for number in points}))
        axes.set_xlabel(label)
        axes.set_ylabel("WER in percent")
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.set_title(f"WER by {label}")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"system {name!r}: what follows '@' should be a number, such as 0.5, not {text!r}") from None
