"""The one progress bar: on standard error, with the time left, only for work that takes longer than a blink."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, *, total: int | None = None, unit: str = "utterance"
) -> Iterator[Item]:
    """Yield the items and show how many are done and how long the rest will take.

    The bar appears after two seconds; where standard error is a file, at most one line in ten seconds is written.
    """
    from tqdm import tqdm

    interactive = sys.stderr.isatty()
    yield from tqdm(
        items,
        desc=description,
        total=total,
        unit=f" {unit}{'es' if unit.endswith(('s', 'ch')) else 's'}",
        delay=2.0,
        mininterval=0.2 if interactive else 10.0,
        dynamic_ncols=interactive,
        leave=not interactive,
    )
