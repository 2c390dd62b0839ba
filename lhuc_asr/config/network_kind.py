"""Which kind of network the presets and overrides ask for; its settings, and no others, can then be set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from lhuc_asr.config.explanations import EXPERIMENT, model_settings
from lhuc_asr.config.schema import Config
from lhuc_asr.models.kinds import NETWORKS
from lhuc_asr.models.network import NetworkConfig, NetworkKind


def chosen_model(overrides: Sequence[str], given: Mapping[str, Any]) -> NetworkConfig:
    """The defaults of the kind of network that is asked for; to be called where Hydra is initialised.

    Where overrides name a model or an experiment, all presets are composed without a schema and without overrides of
    other settings, and ``model.kind`` is read.

    Args:
        overrides: as for ``compose``.
        given: group -> dataclass that takes the place of the defaults.
    """
    before = Config(**given).model
    if not any(_key(override) in {"model", "model.kind", EXPERIMENT} for override in overrides):
        return before
    groups = {field.name for field in fields(Config)}
    schema: dict[str, Any] = {group: {} for group in groups}
    schema["model"] = {**model_settings(), "kind": before.kind.name}
    ConfigStore.instance().store("schema", schema)
    choices = [one for one in overrides if _key(one) in {"model", "model.kind"} or _is_preset(one, groups)]
    return model_of_kind(hydra_compose("config", overrides=choices), before)


def model_of_kind(settings: Any, before: NetworkConfig) -> NetworkConfig:
    """The defaults of the kind that settings without a schema name; a kind that does not exist changes nothing.

    Args:
        settings: all groups.
        before: what holds where no kind is named.
    """
    model = settings.get("model") if isinstance(settings, DictConfig) else None
    kind = model.get("kind") if isinstance(model, DictConfig) else None
    if kind not in NetworkKind.__members__ or kind == before.kind.name:
        return before
    chosen = NetworkKind[str(kind)]
    return NETWORKS[chosen].config(kind=chosen)


def _key(override: str) -> str:
    return override.partition("=")[0]


def _is_preset(override: str, groups: set[str]) -> bool:
    return _key(override) in {*groups, EXPERIMENT} and not override.partition("=")[2].startswith("{")
