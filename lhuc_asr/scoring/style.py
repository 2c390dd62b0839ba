"""How all pictures of results look: colours, letters, and the PNG that they are drawn on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhuc_asr.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEFORE, BETTER, WORSE, SAME = "#8a8f98", "#1b7f5c", "#c8553d", "#5b6470"
INK, FAINT, FILL = "#22262b", "#dfe3e8", "#3b6fb6"
LINES = (FILL, WORSE, BETTER, "#8a5aab", "#c78a1b", "#2f9fb3", "#7a4b2a", "#cf5f96")
"""One colour after the other for lines that belong to different things."""

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": BEFORE,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.axisbelow": True,
}


@contextmanager
def png(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """An empty figure in this style, drawn without any window system; it is written when the block ends well.

    Args:
        path: the PNG.
        width: in inches.
        height: in inches.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=160, facecolor="white")
