"""How quick stores of very many profiles are, of either kind, on the disk on which they would lie."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lhuc_asr.files import write_json
from lhuc_asr.profiles.measure import measure_store
from lhuc_asr.scoring.table import table

STORE_NAMES = {"folder": "profiles", "sqlite": "profiles.sqlite"}
"""Kind of store -> a name that means it."""

_FORMAT = 1


def measure_stores(
    directory: Path, kinds: Sequence[str], *, num_profiles: int, num_gets: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Fill a store of each kind beneath a directory, measure it, and remove it.

    Args:
        directory: on the disk that is meant.
        kinds: of `STORE_NAMES`.
        num_profiles: speakers.
        num_gets: random speakers to get.

    Yields:
        The kind, and what `lhuc_asr.profiles.measure.measure_store` says of it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".store.") as scratch:
            yield kind, measure_store(Path(scratch) / STORE_NAMES[kind], num_profiles=num_profiles, num_gets=num_gets)


def store_text(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """A table: a line for each figure, a column for each kind of store."""
    names = list(next(iter(measured.values())))
    rows = [[name.replace("_", " "), *(_figure(own[name]) for own in measured.values())] for name in names]
    return table([["store", *measured], *rows])


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value}"


def write_store_report(
    path: Path,
    measured: Mapping[str, Mapping[str, Any]],
    *,
    machine: Mapping[str, Any],
    commit: str,
    command: Sequence[str],
) -> None:
    """Write all figures, and where they come from, as JSON."""
    content = {
        "format": _FORMAT,
        "benchmark": "store",
        "commit": commit,
        "command": list(command),
        "machine": dict(machine),
        "measured": {kind: dict(own) for kind, own in measured.items()},
    }
    write_json(path, content)
