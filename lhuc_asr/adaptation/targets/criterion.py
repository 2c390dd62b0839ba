"""What judges the outputs while scales are learnt, and how outputs are read that are scores without priors."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.adaptation.targets.config import Supervision, TargetConfig
from lhuc_asr.adaptation.targets.sequence_criteria import (
    CtcOfBelieved,
    LfMmiOfBelieved,
    SequenceCriterion,
    SmbrOfBelieved,
)
from lhuc_asr.decoding.ctc_graph import is_ctc
from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.models.network import log_posteriors
from lhuc_asr.ranges import require_at_least, require_finite, require_share_below_one
from lhuc_asr.system.lattice_arcs import silence_states
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.trained_objective import TrainedObjective, gives_scores, read_objective
from lhuc_asr.tensors import digest
from lhuc_asr.training.criteria.criterion import CriterionKind
from lhuc_asr.training.criteria.lfmmi.chain_topology import ChainTopology
from lhuc_asr.training.criteria.lfmmi.denominator import denominator_graph
from lhuc_asr.training.criteria.lfmmi.numerator import NumeratorCompiler
from lhuc_asr.training.criteria.lfmmi.objective import LfMmi
from lhuc_asr.training.criteria.smbr.objective import Smbr, SmbrConfig

logger = logging.getLogger(__name__)

_PATHS = (Supervision.one_best, Supervision.mbr, Supervision.words, Supervision.oracle)
_FITTING = {
    CriterionKind.lfmmi: (*_PATHS, Supervision.lattice),
    CriterionKind.ctc: _PATHS,
    CriterionKind.smbr: _PATHS,
}
"""What a criterion of whole utterances can learn from; cross-entropy learns from all."""


@dataclass(kw_only=True)
class AdaptCriterionConfig:
    """What the outputs are judged by; without slots, to be one base of several.

    Attributes:
        criterion: cross-entropy of frames; or that of whole utterances which the network was trained by (LF-MMI, CTC),
            or sMBR on the first pass's lattices, for any network of tied states.
        smoothing: share of cross-entropy of frames beside a criterion of whole utterances, 0 to below 1; through it
            ``kl`` holds such a criterion as well.
        tolerance: frames of the features by which a phone may be earlier or later than the path says, under LF-MMI.
        state_prior_scale: factor on the log-priors of the tied states that are added to outputs which are scores
            without priors, before cross-entropy compares them with targets; 1 is Bayes' rule, 0 takes scores for
            posteriors. It says nothing where outputs are posteriors, as after training by cross-entropy or CTC. Outputs
            that were trained with ``criterion.smoothing`` lie between both: choose the factor on development speech.

    Do not learn by LF-MMI or sMBR from paths that are mostly wrong: both trust them in every frame, more firmly than
    cross-entropy does. sMBR with the best path as reference makes the network surer of what it says already.

    Source: Huang & Gong 2015, "Regularized sequence-level deep neural network model adaptation", Interspeech, for
    sequence criteria held by a divergence of frames.
    """

    criterion: CriterionKind = CriterionKind.cross_entropy
    smoothing: float = 0.0
    tolerance: int = 5
    state_prior_scale: float = 0.4

    def __post_init__(self) -> None:
        require_share_below_one(self, "adapt", "smoothing")
        require_at_least(0, self, "adapt", "tolerance", "state_prior_scale")
        require_finite(self, "adapt", "state_prior_scale")

    def criterion_told(self) -> list[str]:
        """What departs from cross-entropy of posteriors, a text each."""
        plain = AdaptCriterionConfig()
        told = [] if self.criterion is plain.criterion else [f"criterion {self.criterion.name}"]
        names = ("smoothing", "tolerance", "state_prior_scale")
        return told + [
            f"{name} {getattr(self, name):g}" for name in names if getattr(self, name) != getattr(plain, name)
        ]

    def check_with(self, targets: TargetConfig) -> None:
        """Refuse targets that this criterion cannot learn from.

        Raises:
            ConfigError: it learns from whole utterances, and the targets are made for frames.
        """
        name = f"adapt.criterion={self.criterion.name}"
        fitting = _FITTING.get(self.criterion)
        if fitting is None:
            if self.smoothing:
                raise ConfigError(f"adapt.smoothing is for criteria of whole utterances, not for {name}")
            return
        if targets.supervision not in fitting:
            asked, possible = targets.supervision.name, ", ".join(kind.name for kind in fitting)
            raise ConfigError(f"{name} cannot learn from adapt.supervision={asked}; possible: {possible}")
        if targets.weighs_frames:
            raise ConfigError(
                f"{name} learns from whole utterances: adapt.weights, adapt.min_confidence and adapt.only_agreed are "
                "for frames, and so is adapt.share_of=frames; adapt.best_share chooses utterances, and so does "
                "adapt.min_confidence with adapt.confidence=utterance"
            )
        if targets.kl and not self.smoothing:
            raise ConfigError(f"adapt.kl holds {name} through the cross-entropy of frames: give adapt.smoothing")


@dataclass(frozen=True, eq=False)
class AdaptCriterion:
    """The criterion of one model.

    Attributes:
        log_prior: (V,) what makes posteriors of the network's outputs when a softmax follows; None where they are
            posteriors already.
        sequence: judges whole utterances; None where frames alone are judged.
        frame_share: of the cross-entropy of frames, 0 to 1.

    Example:
        >>> scores = torch.tensor([[0.0, 0.0]]).log_softmax(dim=1)
        >>> AdaptCriterion(torch.tensor([0.75, 0.25]).log()).log_posteriors(scores).exp()
        tensor([[0.7500, 0.2500]])
    """

    log_prior: Tensor | None = None
    sequence: SequenceCriterion | None = None
    frame_share: float = 1.0

    def log_posteriors(self, outputs: Tensor) -> Tensor:
        """(..., V) natural logarithms of the states' posteriors, of what the network gives."""
        return outputs if self.log_prior is None else log_posteriors(outputs + self.log_prior.to(outputs))

    def identity(self) -> list[Any]:
        """JSON values that change when this does, beyond the settings; empty where settings say it all."""
        own = [] if self.log_prior is None else [digest({"log_prior": self.log_prior})]
        return own + (self.sequence.identity() if self.sequence else [])


def criterion_of(
    system: AcousticSystem, config: AdaptCriterionConfig, targets: TargetConfig | None = None
) -> AdaptCriterion:
    """The criterion that the settings ask for.

    Args:
        system: the model.
        config: what is asked for.
        targets: what is learnt from.

    Raises:
        ModelError: the model was not trained by such a criterion, does not tell its denominator, or what it tells was
            altered or is of another model.
    """
    _refuse_foreign(system, config.criterion)
    trained = read_objective(system)
    log_prior = _log_prior(system, trained, config.state_prior_scale)
    if config.criterion is CriterionKind.cross_entropy:
        return AdaptCriterion(log_prior)
    sequence: SequenceCriterion
    if config.criterion is CriterionKind.ctc:
        sequence = CtcOfBelieved(system.hmm)
    elif config.criterion is CriterionKind.smbr:
        sequence = _smbr(system)
    else:
        sequence = _lfmmi(system, trained, config, targets or TargetConfig())
    return AdaptCriterion(log_prior, sequence, config.smoothing)


def _refuse_foreign(system: AcousticSystem, kind: CriterionKind) -> None:
    """A criterion that the outputs of this model have no meaning for."""
    asked = f"adapt.criterion={kind.name}"
    if is_ctc(system.hmm):
        if kind not in (CriterionKind.cross_entropy, CriterionKind.ctc):
            raise ModelError(f"{asked} needs tied states, '{system.directory}' gives labels of CTC; possible: ctc")
    elif kind is CriterionKind.ctc:
        raise ModelError(f"{asked} needs a network of CTC, '{system.directory}' gives tied states; possible: smbr")
    elif kind is CriterionKind.lfmmi and not gives_scores(system):
        raise ModelError(
            f"{asked} needs a network that was trained by LF-MMI, '{system.directory}' gives posteriors; possible: smbr"
        )


def _log_prior(system: AcousticSystem, trained: TrainedObjective | None, scale: float) -> Tensor | None:
    if trained is not None and scale:
        logger.info("outputs are scores: frames are compared with targets after log-priors times %g are added", scale)
        return torch.as_tensor(scale * trained.log_prior)
    if trained is None and scale and gives_scores(system):
        logger.warning(
            "nothing tells the priors of the tied states of '%s', so that its outputs are taken for posteriors; if it "
            "was trained by LF-MMI, that does harm: run lhuc-train again with the same settings",
            system.directory,
        )
    return None


def _smbr(system: AcousticSystem) -> SmbrOfBelieved:
    """With priors and acoustic scale of the search."""
    config = SmbrConfig(acoustic_scale=system.decoding.acoustic_scale)
    return SmbrOfBelieved(Smbr(system.log_prior, silence_states=silence_states(system.hmm), config=config), system.hmm)


def _lfmmi(
    system: AcousticSystem, trained: TrainedObjective | None, config: AdaptCriterionConfig, targets: TargetConfig
) -> LfMmiOfBelieved:
    if trained is None:
        raise ModelError(
            f"adapt.criterion=lfmmi needs the denominator of the training, which '{system.directory}' does not tell: "
            "it has no objective.json, and no alignments below work; run lhuc-train again with the same settings"
        )
    topology = ChainTopology.of_tree(system.hmm.tree)
    denominator = denominator_graph(trained.phone_lm, topology)
    return LfMmiOfBelieved(
        lfmmi=LfMmi(denominator, trained.lfmmi),
        compiler=NumeratorCompiler(trained.phone_lm, topology, log_start=float(denominator.start[0])),
        hmm=system.hmm,
        subsampling=system.network.subsampling,
        tolerance=config.tolerance,
        lattice_scale=targets.lattice_scale or None,
        from_lattice=targets.supervision is Supervision.lattice,
        told=[trained.sha256],
    )
