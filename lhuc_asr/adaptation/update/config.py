"""How scales, or other numbers of a speaker, are learnt; settings to which only others give a meaning need these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import Any

from lhuc_asr.adaptation.parameters.config import ParameterConfig, Parameters
from lhuc_asr.adaptation.parameters.estimate_config import EstimateConfig, Estimation
from lhuc_asr.adaptation.targets.config import Supervision, TargetConfig
from lhuc_asr.adaptation.targets.criterion import AdaptCriterionConfig
from lhuc_asr.adaptation.update.held_out import HeldOutConfig
from lhuc_asr.errors import ConfigError
from lhuc_asr.ranges import require_at_least, require_positive
from lhuc_asr.training.criteria.criterion import CriterionKind
from lhuc_asr.training.precision import Precision


class StepSchedule(Enum):
    """How long later steps are: all alike, or falling evenly from ``lr`` at the first to 0 after the last."""

    constant = "constant"
    linear = "linear"


@dataclass(kw_only=True, slots=True)
class AdaptConfig(ParameterConfig, TargetConfig, AdaptCriterionConfig, EstimateConfig, HeldOutConfig):
    """How scales, or other numbers of a speaker, are learnt.

    Which numbers, from which targets, what judges, holds and stops them, stands in the bases.

    Attributes:
        lr: step of plain gradient descent on the mean objective of a minibatch.
        schedule: how long later steps are; linear takes the noise of single minibatches out of the end.
        num_epochs: sweeps over the speaker's frames.
        precision: of the matrix products. bfloat16 is two to three times faster on processors with AMX and less
            exact; auto takes it where it is fast, so that results depend on the machine.
        batch_size: output frames in a minibatch; where a network learns from whole utterances, a minibatch is filled
            with as many of them as do not exceed that, at least one.
        min_seconds: a speaker with less speech than that, silence not counted, is refused.
        seed: of the order of the frames, or of the utterances.

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section V: lr 0.8 for every amplitude; the number of
    sweeps and the batch are not printed there (3 sweeps in the paper of 2014).
    """

    lr: float = 0.8
    schedule: StepSchedule = StepSchedule.constant
    num_epochs: int = 3
    precision: Precision = Precision.float32
    batch_size: int = 256
    min_seconds: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ParameterConfig.__post_init__(self)
        TargetConfig.__post_init__(self)
        AdaptCriterionConfig.__post_init__(self)
        EstimateConfig.__post_init__(self)
        HeldOutConfig.__post_init__(self)
        self.check_with(self)
        require_positive(self, "adapt", "lr")
        require_at_least(1, self, "adapt", "num_epochs", "batch_size")
        require_at_least(0, self, "adapt", "min_seconds")
        refuse_what_has_no_effect(self)
        if self.tied and self.parameters not in (Parameters.lhuc, Parameters.bias):
            raise ConfigError(
                f"adapt.tied is about units of layers; adapt.parameters={self.parameters.name} learns other numbers: "
                "give it with adapt.parameters=lhuc or bias"
            )
        for name in ("prior_from", "subspace"):
            if self.parameters is not Parameters.lhuc and getattr(self, name) is not None:
                raise ConfigError(
                    f"adapt.{name} names a file about scales; adapt.parameters={self.parameters.name} learns others: "
                    "give it with adapt.parameters=lhuc"
                )

    @property
    def keeps_lattices(self) -> bool:
        """Whether the first pass must keep more than its best paths, for the targets or for the criterion."""
        return self.needs_lattices or self.criterion is CriterionKind.smbr

    def described(self) -> str:
        """Targets, criterion, and what departs from the defaults of both, on one line."""
        return ", ".join([TargetConfig.described(self), *self.criterion_told()])

    def lr_after(self, num_sweeps: float) -> float:
        """Step when that many sweeps, and parts of one, are done."""
        return self.lr * (1 - num_sweeps / self.num_epochs) if self.schedule is StepSchedule.linear else self.lr


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
