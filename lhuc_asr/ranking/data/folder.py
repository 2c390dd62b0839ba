"""A prepared data set on disk: a folder with the parts train, dev and test, each one file of tensors.

``log.json`` beside them names the columns and tells where the log comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lhuc_asr.errors import DataError
from lhuc_asr.files import read_json, sha256, write_json
from lhuc_asr.ranking.data.timed import Split
from lhuc_asr.ranking.schema import DOMAIN, ITEM, USER, ClickLog
from lhuc_asr.tensors import load_tensors, save_tensors

PARTS = ("train", "dev", "test")
DESCRIPTION = "log.json"
_FORMAT = 1
_KINDS = ("labels", "sparse", "dense", "chances")


def write_split(folder: Path, split: Split, *, source: Mapping[str, Any]) -> None:
    """Write the parts of a log.

    Args:
        folder: it is made where it does not exist; the description comes last, so a folder without one is unfinished.
        split: the parts.
        source: where the log comes from and how it was split, as values for JSON.
    """
    for name, log in split.parts.items():
        write_log(_part(folder, name), log)
    parts = {
        name: {"impressions": len(log), "sha256": sha256(_part(folder, name))} for name, log in split.parts.items()
    }
    write_json(folder / DESCRIPTION, {"format": _FORMAT, "source": dict(source), "parts": parts})


def is_written(folder: Path, source: Mapping[str, Any]) -> bool:
    """Whether a folder is finished and holds a log of this source."""
    return (folder / DESCRIPTION).is_file() and read_description(folder).get("source") == dict(source)


def read_description(folder: Path) -> dict[str, Any]:
    """Where the log of a folder comes from.

    Raises:
        DataError: it is no finished folder of this format.
    """
    path = folder / DESCRIPTION
    try:
        page: dict[str, Any] = read_json(path)
        form = page["format"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"'{folder}' is no prepared log ({path.name}: {error}); lhuc-rank prepare makes one") from error
    if form != _FORMAT:
        raise DataError(f"'{path}' has format {form}, this version reads {_FORMAT}")
    return page


def read_part(folder: Path, name: str) -> ClickLog:
    """One part of a prepared log.

    Raises:
        DataError: the folder is none, or the part is missing or damaged.
    """
    if name not in PARTS:
        raise DataError(f"a prepared log has the parts {', '.join(PARTS)}, not {name!r}")
    read_description(folder)
    return read_log(_part(folder, name))


def fingerprint(folder: Path) -> str:
    """What tells the training part of a prepared log from others.

    Raises:
        DataError: the folder is none.
    """
    return str(read_description(folder)["parts"]["train"]["sha256"])


def _part(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def write_log(path: Path, log: ClickLog) -> None:
    """Write a log as one file of tensors, named by kind and column."""
    tensors = {USER: log.user_id, ITEM: log.item_id, DOMAIN: log.domain}
    for kind in _KINDS:
        tensors |= {f"{kind}.{name}": column for name, column in getattr(log, kind).items()}
    save_tensors({name: torch.from_numpy(column) for name, column in tensors.items()}, path)


def read_log(path: Path) -> ClickLog:
    """Read what ``write_log`` wrote.

    Raises:
        DataError: the file is missing or damaged, or holds something else.
    """
    columns = {name: tensor.numpy() for name, tensor in load_tensors(path, error=DataError).items()}
    kinds: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
    try:
        user, item, domain = (columns.pop(name) for name in (USER, ITEM, DOMAIN))
        for name, column in sorted(columns.items()):  # the file tells no order, and initial weights depend on it
            kind, _, own = name.partition(".")
            kinds[kind][own] = column
    except KeyError as error:
        raise DataError(f"'{path}' is no click log: {error} is missing or not a kind of column") from error
    return ClickLog(user, item, domain, kinds["labels"], kinds["sparse"], kinds["dense"], kinds["chances"])
