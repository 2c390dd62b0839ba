"""The model that a command works with, and the settings of the run: what the model was made with cannot be changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhuc_asr.cli._common import start_run

if TYPE_CHECKING:
    from lhuc_asr.conditioning.conditioner import Conditioner
    from lhuc_asr.conditioning.settings import ConditionConfig
    from lhuc_asr.config.schema import Config
    from lhuc_asr.data.manifest import Manifest
    from lhuc_asr.system.model_directory import AcousticSystem


def open_model(directory: Path, overrides: Sequence[str]) -> tuple[AcousticSystem, Config]:
    """Load a model directory, and let it search with the settings of this run.

    Raises:
        ConfigError, ModelError: as `load_model` does.
    """
    system, config = load_model(directory, overrides)
    return system.searching_with(config.decoding), config


def load_model(directory: Path, overrides: Sequence[str]) -> tuple[AcousticSystem, Config]:
    """Load a model directory as it is; its decoding settings and features take the place of the defaults.

    Settings of training are accepted and mean nothing here, because a recipe passes the same ones to all its commands.
    So is ``criterion=``, whose presets also say from where the choice of decoding settings begins: it was made before.

    Raises:
        ConfigError: a setting is unknown, or asks for other features than the model was trained on.
        ModelError: a file of the directory is missing or altered.
    """
    from lhuc_asr.config.compose import compose

    start_run(overrides)
    from lhuc_asr.errors import ConfigError
    from lhuc_asr.system.model_directory import load_system

    system = load_system(directory)
    later = [override for override in overrides if not override.startswith("criterion=")]
    config = compose(later, given=settings_of(system))
    if changed := list(_changes("features", system.features, config.features)):
        raise ConfigError(
            f"the model '{directory}' was trained on other features: {'; '.join(changed)}; "
            "leave features out, or train a model on these"
        )
    return system, config


def conditioner_of(
    directory: Path | None, system: AcousticSystem, config: ConditionConfig, data: Path
) -> Conditioner | None:
    """The gate in a directory of lhuc-condition, if one was given, with what is known of the people of some data.

    Raises:
        ModelError: a file of it is missing or altered, or it was trained for another model.
        ConfigError: it listens to a file of vectors and none is named, or the other way round.
        DataError: that file or a table of the data is missing or wrong.
    """
    from lhuc_asr.conditioning.conditioner import load_conditioner
    from lhuc_asr.conditioning.sources import known_of

    if directory is None:
        return None
    conditioner = load_conditioner(directory, system.features, fingerprint=system.fingerprint)
    return conditioner.knowing(known_of(conditioner.describe.known, config, data))


def tell_unknown(conditioner: Conditioner | None, manifest: Manifest) -> None:
    """Print of how many speakers a gate does not know what it goes by."""
    from lhuc_asr.conditioning.people import Who, told_unknown

    if conditioner is not None:
        people = [Who(utterance.id, utterance.speaker) for utterance in manifest]
        for line in told_unknown(conditioner.describe.known, people):
            print(line, flush=True)


def settings_of(system: AcousticSystem) -> dict[str, Any]:
    """Group -> the settings that the model brings with it."""
    return {"decoding": system.decoding, "features": system.features}


def _changes(name: str, trained: Any, asked: Any) -> list[str]:
    """The settings that differ, with both values."""
    if trained == asked:
        return []
    if not hasattr(trained, "__dataclass_fields__"):
        return [f"{name} is {getattr(trained, 'name', trained)}, not {getattr(asked, 'name', asked)}"]
    parts = (field.name for field in fields(trained))
    return [text for part in parts for text in _changes(f"{name}.{part}", getattr(trained, part), getattr(asked, part))]
