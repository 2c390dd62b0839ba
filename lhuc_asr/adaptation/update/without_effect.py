"""Settings that only some others give a meaning: where these are not asked for, they are refused, not ignored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

from lhuc_asr.adaptation.parameters.config import Parameters
from lhuc_asr.adaptation.parameters.estimate_config import Estimation
from lhuc_asr.adaptation.targets.config import Supervision
from lhuc_asr.errors import ConfigError
from lhuc_asr.training.criteria.criterion import CriterionKind

if TYPE_CHECKING:
    from lhuc_asr.adaptation.update.sweeps import AdaptConfig


@dataclass(frozen=True)
class Meaning:
    """When a setting means something.

    Attributes:
        needs: in the words of the settings.
        holds: whether they say so.
    """

    needs: str
    holds: Callable[[AdaptConfig], bool]


def _weighs_paths(config: AdaptConfig) -> bool:
    of_lattices = (Supervision.lattice, Supervision.n_best, Supervision.mbr)
    return config.supervision in of_lattices or config.needs_frames


def _shares_frames(config: AdaptConfig) -> bool:
    shared = (Supervision.lattice, Supervision.n_best, Supervision.soft)
    judges_frames = config.criterion is CriterionKind.cross_entropy or config.smoothing > 0
    return config.supervision in shared and judges_frames


def _has_doubt(config: AdaptConfig) -> bool:
    return config.supervision is Supervision.entropy


def _has_entropy(config: AdaptConfig) -> bool:
    return _has_doubt(config) and config.confusion < 1


def _has_confusion(config: AdaptConfig) -> bool:
    return _has_doubt(config) and config.confusion > 0


_HOLDS_OUT = Meaning("adapt.held_out_share above 0", lambda config: config.held_out_share > 0)
_HAS_PRIOR = Meaning("adapt.prior above 0", lambda config: config.prior > 0)

MEANINGS = {
    "lattice_scale": Meaning("adapt.supervision=lattice, n_best or mbr, or confidences of frames", _weighs_paths),
    "sharpness": Meaning("adapt.supervision=lattice, n_best or soft, and frames that are judged", _shares_frames),
    "num_sentences": Meaning("adapt.supervision=n_best", lambda config: config.supervision is Supervision.n_best),
    "confidence": Meaning(
        "adapt.min_confidence above 0 or adapt.best_share below 1",
        lambda config: config.min_confidence > 0 or config.best_share < 1,
    ),
    "share_of": Meaning("adapt.best_share below 1", lambda config: config.best_share < 1),
    "entropy_order": Meaning("adapt.supervision=entropy and adapt.confusion below 1", _has_entropy),
    "confusion": Meaning("adapt.supervision=entropy", _has_doubt),
    "confusion_over": Meaning("adapt.supervision=entropy and adapt.confusion above 0", _has_confusion),
    "negatives": Meaning("adapt.supervision=entropy", _has_doubt),
    "temperature": Meaning("adapt.supervision=entropy", _has_doubt),
    "tolerance": Meaning(
        "adapt.criterion=lfmmi and targets that are paths",
        lambda config: config.criterion is CriterionKind.lfmmi and config.supervision is not Supervision.lattice,
    ),
    "prior_layers": _HAS_PRIOR,
    "prior_shape": _HAS_PRIOR,
    "posterior_std": Meaning("adapt.estimation=bayesian", lambda config: config.estimation is Estimation.bayesian),
    "rank": Meaning("adapt.parameters=lora", lambda config: config.parameters is Parameters.lora),
    "held_out_gain": _HOLDS_OUT,
    "patience": _HOLDS_OUT,
}
"""Setting -> when it means something; settings that are not here always do, or are refused beside their dataclass."""


def refuse_what_has_no_effect(config: AdaptConfig) -> None:
    """Refuse settings away from their defaults that would change nothing.

    Raises:
        ConfigError: there is one; the text tells what it needs.
    """
    plain = {field.name: _default(field) for field in fields(config)}
    for name, meaning in MEANINGS.items():
        value = getattr(config, name)
        if value != plain[name] and not meaning.holds(config):
            asked = getattr(value, "name", value)
            raise ConfigError(
                f"adapt.{name}={asked} has no effect: it needs {meaning.needs}; give that, or leave it out"
            )


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
