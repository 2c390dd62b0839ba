"""Settings as JSON and back, and JSON files that notice when they were altered."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from lhuc_asr.errors import LhucError, ModelError
from lhuc_asr.files import read_json, write_json

Settings = TypeVar("Settings")

REMEDY = "copy the whole directory again, or train the model again"

_SEAL = "sha256"


def to_plain(value: Any) -> Any:
    """Settings as dictionaries, lists, names of enum members, numbers and strings."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[Settings], value: Any, *, source: str) -> Settings:
    """The settings that ``to_plain`` turned into this value.

    Args:
        kind: dataclass of the settings.
        value: what ``to_plain`` gave.
        source: where it was read, for the message.

    Raises:
        ModelError: a setting is unknown, missing or out of range.
    """
    try:
        result: Settings = _restore(kind, value)
        return result
    except (KeyError, TypeError, AttributeError, LhucError) as error:
        raise ModelError(f"'{source}' holds settings that this version cannot use: {error}") from error


def _restore(kind: Any, value: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        kind = next(choice for choice in get_args(kind) if choice is not NoneType)
    if isinstance(kind, type) and is_dataclass(kind):
        types = get_type_hints(kind)
        unknown = sorted(value.keys() - {field.name for field in fields(kind)})
        if unknown:
            raise TypeError(f"unknown {', '.join(map(repr, unknown))} in {kind.__name__}")
        return kind(**{name: _restore(types[name], item) for name, item in value.items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind[value]
    if get_origin(kind) in (tuple, list):
        item_kind = get_args(kind)[0]
        return get_origin(kind)(_restore(item_kind, item) for item in value)
    return value


def canonical(value: Any) -> str:
    """One text for equal JSON values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write JSON together with the SHA-256 of its content."""
    write_json(path, {**value, _SEAL: _seal(value)})


def read_sealed(path: Path, *, version: int) -> dict[str, Any]:
    """Read what ``write_sealed`` wrote.

    Raises:
        ModelError: the file is missing, altered, or of a newer format.
    """
    try:
        value = read_json(path)
    except FileNotFoundError as error:
        raise ModelError(f"the model directory '{path.parent}' has no '{path.name}'; {REMEDY}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("version"), int):
        raise ModelError(f"'{path}' is not a file of a model directory: it states no format version")
    if value["version"] > version:
        raise ModelError(
            f"'{path}' has format version {value['version']}; update lhuc_asr, which reads up to {version}"
        )
    seal = value.pop(_SEAL, None)
    if seal != _seal(value):
        raise ModelError(f"'{path}' was altered after it was written; {REMEDY}")
    return value


def _seal(value: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()
