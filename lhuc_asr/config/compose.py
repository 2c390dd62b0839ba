"""From presets in YAML and ``key=value`` overrides to checked dataclasses; the only place that knows Hydra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lhuc_asr.config.explanations import EXPERIMENT, explain, no_such_setting, setting_names
from lhuc_asr.config.network_kind import chosen_model
from lhuc_asr.config.schema import Config
from lhuc_asr.errors import ConfigError


def compose(
    overrides: Sequence[str] = (), *, given: Mapping[str, Any] | None = None, directory: Path | None = None
) -> Config:
    """All settings of a run: defaults, then presets, then overrides, each checked against the schema.

    The schema of ``model`` is that of the kind of network which the presets and overrides choose.

    Args:
        overrides: ``group=preset`` and ``group.key=value``; a later one wins.
        given: group -> dataclass that takes the place of the defaults, such as a model directory's own settings.
        directory: of the presets; None takes those of the package.

    Returns:
        Plain dataclasses, their ranges checked.

    Raises:
        ConfigError: an unknown setting or preset, or a value that cannot be; the text names the nearest ones.

    Example:
        >>> config = compose(["protocol=enrolment", "protocol.num_utterances=10", "adapt.lr=0.4"])
        >>> config.protocol.name.name, config.protocol.num_utterances, config.adapt.lr
        ('enrolment', 10, 0.4)
        >>> compose(["model=tdnnf", "model.bottleneck_dim=64"]).model.kind.name
        'tdnnf'
    """
    directory = directory or preset_directory()
    for override in overrides:
        _check(override, directory)
    given = dict(given or {})
    try:
        with initialize_config_dir(str(directory.resolve()), version_base="1.3"):
            given["model"] = chosen_model(overrides, given)
            ConfigStore.instance().store("schema", Config(**given))
            composed = OmegaConf.to_object(hydra_compose("config", overrides=list(overrides)))
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(explain(error, overrides, Config(**given))) from error
    assert isinstance(composed, Config)
    return composed


def preset_directory() -> Path:
    """Where the presets lie: inside the installed package, or beside it in a checkout.

    Raises:
        ConfigError: neither exists.
    """
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "configs", package.parent / "configs"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError(f"no presets in '{package}/configs' nor beside the package: install lhuc_asr again")


def presets(group: str, directory: Path | None = None) -> list[str]:
    """Names of a group's presets."""
    return sorted(path.stem for path in ((directory or preset_directory()) / group).glob("*.yaml"))


def _check(override: str, directory: Path) -> None:
    """Refuse what Hydra would take in silence or explain badly, before it sees it."""
    key, equals, value = override.partition("=")
    if not equals or not key or key[0] in "+~":
        raise ConfigError(f"{override!r} is not a setting: write key=value, for example adapt.lr=0.4")
    if key not in {*setting_names(), EXPERIMENT}:
        raise ConfigError(no_such_setting(key))
    groups = {field.name for field in fields(Config)} | {EXPERIMENT}
    if key in groups and value[:1] != "{" and value not in presets(key, directory):
        raise ConfigError(
            f"{key} has no preset {value!r}; there are: {', '.join(presets(key, directory)) or 'none'} "
            f"(a single setting is written {key}.name=value)"
        )
