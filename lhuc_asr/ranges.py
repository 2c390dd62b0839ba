"""What settings may be: the checks that most configurations make of theirs, in one form of words."""

from __future__ import annotations

import math

from lhuc_asr.errors import ConfigError


def require_at_least(least: float, config: object, group: str, *names: str) -> None:
    """Refuse settings that are less than that, and those that are no number.

    Args:
        least: what they must be at least.
        config: has the settings.
        group: where they stand in the configuration, for the message.
        names: of the settings.

    Raises:
        ConfigError: one of them is less; the text names it.

    Example:
        >>> from types import SimpleNamespace
        >>> require_at_least(1, SimpleNamespace(num_layers=0), "model", "num_layers")
        Traceback (most recent call last):
        ...
        lhuc_asr.errors.ConfigError: model.num_layers must be at least 1, got 0
    """
    bound = f"at least {least}" if least else "0 or more"
    for name in names:
        if not getattr(config, name) >= least:
            raise ConfigError(f"{group}.{name} must be {bound}, got {getattr(config, name)}")


def require_positive(config: object, group: str, *names: str) -> None:
    """Refuse settings that are 0 or less, and those that are no number; the arguments are as above.

    Raises:
        ConfigError: one of them is; the text names it.
    """
    for name in names:
        if not getattr(config, name) > 0:
            raise ConfigError(f"{group}.{name} must be positive, got {getattr(config, name)}")


def require_finite(config: object, group: str, *names: str) -> None:
    """Refuse settings that are infinite, and those that are no number; the arguments are as above.

    Raises:
        ConfigError: one of them is; the text names it.
    """
    for name in names:
        if not math.isfinite(getattr(config, name)):
            raise ConfigError(f"{group}.{name} must be finite, got {getattr(config, name)}")


def require_share(config: object, group: str, *names: str) -> None:
    """Refuse settings outside of [0, 1], such as confidences; the arguments are as above.

    Raises:
        ConfigError: one of them is outside; the text names it.
    """
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"{group}.{name} must lie in [0, 1], got {getattr(config, name)}")


def require_share_below_one(config: object, group: str, *names: str) -> None:
    """Refuse settings outside of [0, 1), such as dropout; the arguments are as above.

    Raises:
        ConfigError: one of them is outside; the text names it.
    """
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(f"{group}.{name} must lie in [0, 1), got {getattr(config, name)}")
