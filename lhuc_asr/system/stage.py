"""A stage of a long job: done once for its inputs, and recognised as done when the job is run again.

stage.json   in the directory of each stage: the key of the inputs that it was begun with, or is done with
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lhuc_asr.files import read_json, write_json
from lhuc_asr.parallel import peak_memory_gb
from lhuc_asr.system.settings import canonical, to_plain
from lhuc_asr.training.processes.distributed import by_first, first_alone, is_first, wait_for_all
from lhuc_asr.units import Seconds

_PAGE = "stage.json"
_NOBODYS = "removal"
"""Instead of a key, while what was made with other inputs is being removed."""

logger = logging.getLogger(__name__)


def run_once(
    directory: Path,
    inputs: Any,
    make: Callable[[Path], None],
    *,
    is_whole: Callable[[], bool] = lambda: True,
    together: bool = False,
    refuses: bool = False,
) -> str:
    """Run a stage unless it was run with the same inputs.

    A stage that was broken off is called again with what it left, so it may go on from there; what was begun or
    finished with other inputs is removed before, and the log tells. Of several processes the first runs it while the
    others wait.

    Args:
        directory: where the stage puts its results; belongs to this stage alone.
        inputs: everything that the results depend on: settings, ids, keys of the stages before.
        make: does the work; called with ``directory``.
        is_whole: whether results that lie elsewhere are still there.
        together: several processes do this work together; what all but the first write is thrown away.
        refuses: ``make`` itself refuses what a broken-off run with other inputs left, with the remedy, so that it is
            kept; for work that takes too long to be removed because of a slip.

    Returns:
        The key of the stage, for the inputs of the stages that build on it.
    """
    key = hashlib.sha256(canonical(to_plain(inputs)).encode()).hexdigest()
    with first_alone(when=not together):
        if by_first(lambda: _key_of(directory) == key and is_whole()):
            logger.info("%s: up to date", directory.name)
        elif together and not is_first():
            with TemporaryDirectory() as scratch:
                make(Path(scratch))
        else:
            _make(directory, key, make, refuses=refuses)
        if together:
            wait_for_all()
    return key


def _make(directory: Path, key: str, make: Callable[[Path], None], *, refuses: bool) -> None:
    _clear_others(directory, key, refuses=refuses)
    write_json(directory / _PAGE, {"begun": key})
    begin = time.monotonic()
    make(directory)
    seconds = time.monotonic() - begin
    page = {"key": key, "seconds": round(seconds, 1), "peak_memory_gb": round(peak_memory_gb(), 2)}
    write_json(directory / _PAGE, page)
    logger.info("%s: done in %.0f s", directory.name, seconds)


def _clear_others(directory: Path, key: str, *, refuses: bool) -> None:
    """Remove what was made with other inputs; where this is broken off, it is done again, whatever is asked for."""
    page = _read(directory)
    done, found = "key" in page, page.get("key", page.get("begun"))
    if found in (None, key) or (refuses and not done and found != _NOBODYS):
        return
    logger.info("%s: what was %s with other inputs is removed", directory.name, "made" if done else "begun")
    write_json(directory / _PAGE, {"begun": _NOBODYS})
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _PAGE:
            path.unlink()


def is_stage(directory: Path) -> bool:
    """Whether a stage puts its results here."""
    return bool(_read(directory))


@dataclass(frozen=True)
class Cost:
    """What a stage took when it was run.

    Attributes:
        seconds: of the clock on the wall.
        peak_memory_gb: the most that one process had from the start of the command to the end of the stage; None where
            it was not noted.
    """

    seconds: Seconds
    peak_memory_gb: float | None


def costs(work: Path, names: Iterable[str]) -> dict[str, Cost]:
    """Name -> cost of the stages of these names that are finished; their directories lie in ``work``."""
    pages = {name: _read(work / name) for name in names}
    return {
        name: Cost(page["seconds"], page.get("peak_memory_gb")) for name, page in pages.items() if "seconds" in page
    }


def _key_of(directory: Path) -> str | None:
    key: str | None = _read(directory).get("key")
    return key


def _read(directory: Path) -> dict[str, Any]:
    try:
        value = read_json(directory / _PAGE)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
