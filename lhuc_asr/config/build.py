"""From the settings of a run to what each room asks for."""

from __future__ import annotations

from dataclasses import fields

from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.config.schema import Config
from lhuc_asr.system.build_settings import BuildSettings


def build_settings(config: Config) -> BuildSettings:
    """What training a speaker-independent model needs."""
    return BuildSettings(**{field.name: getattr(config, field.name) for field in fields(BuildSettings)})


def adaptation_settings(config: Config) -> AdaptationSettings:
    """What adapting speakers needs."""
    return AdaptationSettings(lhuc=config.lhuc, adapt=config.adapt, protocol=config.protocol, guard=config.guard)
