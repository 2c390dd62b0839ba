"""A stage of a long job: done once for its inputs, and recognised as done when the job is run again."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lhuc_asr.files import read_json, write_json
from lhuc_asr.system.settings import canonical, to_plain

_DONE = "stage.json"

logger = logging.getLogger(__name__)


def run_once(
    directory: Path, inputs: Any, make: Callable[[Path], None], *, is_whole: Callable[[], bool] = lambda: True
) -> str:
    """Run a stage unless it was run with the same inputs.

    A stage that was broken off is called again with what it left, so it may go on from there; one that was finished
    with other inputs begins with an empty directory.

    Args:
        directory: where the stage puts its results; belongs to this stage alone.
        inputs: everything that the results depend on: settings, ids, keys of the stages before.
        make: does the work; called with ``directory``.
        is_whole: whether results that lie elsewhere are still there.

    Returns:
        The key of the stage, for the inputs of the stages that build on it.
    """
    key = hashlib.sha256(canonical(to_plain(inputs)).encode()).hexdigest()
    before = _key_of(directory)
    if before == key and is_whole():
        logger.info("%s: up to date", directory.name)
        return key
    (directory / _DONE).unlink(missing_ok=True)
    if before not in (None, key):
        shutil.rmtree(directory)
    begin = time.monotonic()
    make(directory)
    seconds = time.monotonic() - begin
    write_json(directory / _DONE, {"key": key, "seconds": round(seconds, 1)})
    logger.info("%s: done in %.0f s", directory.name, seconds)
    return key


def seconds_taken(directory: Path) -> float:
    """Wall-clock seconds that the stage took when it was run; 0 when it was not."""
    return float(_read(directory).get("seconds", 0.0))


def _key_of(directory: Path) -> str | None:
    key: str | None = _read(directory).get("key")
    return key


def _read(directory: Path) -> dict[str, Any]:
    try:
        value = read_json(directory / _DONE)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
