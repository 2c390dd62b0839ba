"""What judges the outputs while scales are learnt, and how outputs are read that are scores without priors."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.errors import ConfigError
from lhuc_asr.models.network import log_posteriors
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.trained_objective import gives_scores, read_objective
from lhuc_asr.tensors import digest

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class AdaptCriterionConfig:
    """What the outputs are judged by; without slots, to be one base of several.

    Attributes:
        state_prior_scale: factor on the log-priors of the tied states that are added to outputs which are scores
            without priors, before cross-entropy compares them with targets; 1 is Bayes' rule, 0 takes scores for
            posteriors. It says nothing where outputs are posteriors, as after training by cross-entropy or CTC.
    """

    state_prior_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (self.state_prior_scale >= 0 and math.isfinite(self.state_prior_scale)):
            raise ConfigError(f"adapt.state_prior_scale must be 0 or more, and finite, got {self.state_prior_scale}")


@dataclass(frozen=True, eq=False)
class AdaptCriterion:
    """The criterion of one model.

    Attributes:
        log_prior: (V,) what makes posteriors of the network's outputs when a softmax follows; None where they are
            posteriors already.

    Example:
        >>> scores = torch.tensor([[0.0, 0.0]]).log_softmax(dim=1)
        >>> AdaptCriterion(torch.tensor([0.75, 0.25]).log()).log_posteriors(scores).exp()
        tensor([[0.7500, 0.2500]])
    """

    log_prior: Tensor | None = None

    def log_posteriors(self, outputs: Tensor) -> Tensor:
        """(..., V) natural logarithms of the states' posteriors, of what the network gives."""
        return outputs if self.log_prior is None else log_posteriors(outputs + self.log_prior.to(outputs))

    def identity(self) -> list[Any]:
        """JSON values that change when this does, beyond the settings; empty where settings say it all."""
        return [] if self.log_prior is None else [digest({"log_prior": self.log_prior})]


def criterion_of(system: AcousticSystem, config: AdaptCriterionConfig) -> AdaptCriterion:
    """The criterion that the settings ask for.

    Raises:
        ModelError: what the model directory tells of its training was altered, or is of another model.
    """
    if config.state_prior_scale == 0 or not gives_scores(system):
        return AdaptCriterion()
    trained = read_objective(system)
    if trained is None:
        logger.warning(
            "nothing tells the priors of the tied states of '%s', so that its outputs are taken for posteriors; if it "
            "was trained by LF-MMI, that does harm: run lhuc-train again with the same settings",
            system.directory,
        )
        return AdaptCriterion()
    return AdaptCriterion(torch.as_tensor(config.state_prior_scale * trained.log_prior))
