"""Sweeps: lists of values in overrides become points of a grid, each with its own checked settings and a safe name."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException

from lhuc_asr.config.compose import compose
from lhuc_asr.config.explanations import explain, setting_names
from lhuc_asr.config.schema import Config
from lhuc_asr.errors import ConfigError
from lhuc_asr.system.settings import to_plain

SWEPT_GROUPS = ("lhuc", "adapt", "protocol", "guard", "decoding")
"""Groups of settings that an adaptation depends on."""

NO_DIFFERENCE = "defaults"
_LONGEST_NAME = 150

Settings = Mapping[str, Any]
"""Dotted name of a setting -> its value, ready for JSON."""


@dataclass(frozen=True, kw_only=True)
class GridPoint:
    """One combination of settings.

    Attributes:
        overrides: as if they had been given alone.
        config: all settings.
        settings: those of `SWEPT_GROUPS`.
        differences: those of them that are not as they would be without any override.
    """

    overrides: tuple[str, ...]
    config: Config
    settings: Settings
    differences: Settings

    @property
    def name(self) -> str:
        """A safe file name: the same for the same settings, whatever they were swept with."""
        return settings_name(self.differences)

    def differences_of(self, group: str) -> Settings:
        """The differences within one group."""
        return {key: value for key, value in self.differences.items() if key.startswith(f"{group}.")}


def grid(
    overrides: Sequence[str], *, given: Mapping[str, Any] | None = None, directory: Path | None = None
) -> list[GridPoint]:
    """Every combination of the values in the overrides, the last one changing fastest; all are checked.

    Args:
        overrides: ``key=value`` holds for all points; ``key=a,b`` and ``key=range(1,4)`` are swept, and a list in
            brackets is one value. The grammar is Hydra's.
        given: group -> dataclass that takes the place of the defaults.
        directory: of the presets; None takes those of the package.

    Raises:
        ConfigError: a setting cannot be swept, a point cannot be, or two points are the same.

    Example:
        >>> [point.name for point in grid(["lhuc.layers=[],[1,2]", "adapt.lr=0.4"])]
        ['adapt.lr=0.4', 'lhuc.layers=1,2+adapt.lr=0.4']
    """
    unchanged = _settings(compose((), given=given, directory=directory))
    points: dict[str, GridPoint] = {}
    for chosen in expand(overrides):
        config = compose(chosen, given=given, directory=directory)
        settings = _settings(config)
        differences = {key: value for key, value in settings.items() if value != unchanged[key]}
        point = GridPoint(overrides=tuple(chosen), config=config, settings=settings, differences=differences)
        if point.name in points:
            other = " ".join(points[point.name].overrides)
            raise ConfigError(f"two points of the sweep have the same settings: {' '.join(chosen)!r} and {other!r}")
        points[point.name] = point
    return list(points.values())


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every point, without looking at what they mean.

    Raises:
        ConfigError: an override cannot be read, is swept twice, or cannot be swept.

    Example:
        >>> expand(["adapt.num_epochs=1,3", "lhuc.layers=[1,2]"])
        [['adapt.num_epochs=1', 'lhuc.layers=[1,2]'], ['adapt.num_epochs=3', 'lhuc.layers=[1,2]']]
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        choices = [_choices(text, override) for text, override in zip(overrides, parsed, strict=True)]
    except HydraException as error:
        raise ConfigError(explain(error, overrides)) from error
    swept = [override.key_or_group for override in parsed if override.is_sweep_override()]
    for key in swept:
        if swept.count(key) > 1:
            raise ConfigError(f"{key} is swept twice: write all of its values in one list, {key}=a,b,c")
    return [list(combination) for combination in itertools.product(*choices)]


def _choices(text: str, override: Override) -> list[str]:
    """What one override stands for at each point."""
    if not override.is_sweep_override():
        return [text]
    group = override.key_or_group.partition(".")[0]
    if group in setting_names() and group not in SWEPT_GROUPS:
        raise ConfigError(
            f"{text!r}: only settings that an adaptation depends on can be swept: {', '.join(SWEPT_GROUPS)}; "
            f"run the command once for each {override.key_or_group}"
        )
    if not override.is_discrete_sweep() or override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        raise ConfigError(f"{text!r}: a sweep takes a list of values, key=a,b,c, or key=range(first,end,step)")
    if override.is_range_sweep():  # 0.1 three times is not 0.3, and would be seen in file names
        values = [f"{value:.12g}" for value in override.sweep_iterator()]
    else:
        values = list(override.sweep_string_iterator())
    return [f"{override.get_key_element()}={value}" for value in values]


def settings_name(settings: Settings) -> str:
    """A safe file name for settings; other settings have another name.

    Example:
        >>> settings_name({"adapt.num_epochs": 1, "lhuc.layers": [1, 2]}), settings_name({})
        ('adapt.num_epochs=1+lhuc.layers=1,2', 'defaults')
    """
    name = "+".join(f"{key}={quote(_text(value), safe=',')}" for key, value in settings.items()) or NO_DIFFERENCE
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        name = f"{name[: _LONGEST_NAME - 13]}~{digest}"
    return name


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = json.dumps(value, separators=(",", ":"))
    return text[1:-1] if isinstance(value, list) else text


def _settings(config: Config) -> dict[str, Any]:
    return {key: value for group in SWEPT_GROUPS for key, value in _flat(group, to_plain(getattr(config, group)))}


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}", item)
    else:
        yield prefix, value
