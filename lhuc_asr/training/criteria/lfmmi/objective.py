"""The loss of LF-MMI: how much more likely everything that could be said is than what was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lhuc_asr.errors import AlignmentError, ConfigError, DataError, ModelError
from lhuc_asr.training.criteria.lfmmi.forward_backward import (
    Engine,
    Occupancy,
    denominator_occupancy,
    log_likelihood,
    numerator_occupancy,
)
from lhuc_asr.training.criteria.lfmmi.graph import ChainGraph


@dataclass(kw_only=True, slots=True)
class LfMmiConfig:
    """Settings of the loss.

    Attributes:
        leak: leaky HMM coefficient of the denominator.
        l2_regularisation: weight of half the squared outputs, each frame's mean taken out, for a constant changes
            nothing.
        engine: what computes forward-backward.

    Source: Povey et al. 2016 (Interspeech), section 2.7; ``leak`` as in Kaldi's recipes.
    """

    leak: float = 0.1
    l2_regularisation: float = 5e-5
    engine: Engine = Engine.auto

    def __post_init__(self) -> None:
        if not 0 <= self.leak <= 1:
            raise ConfigError(f"leak lies from 0 to 1, got {self.leak}")
        if self.l2_regularisation < 0:
            raise ConfigError(f"l2_regularisation must be at least 0, got {self.l2_regularisation}")


@dataclass(frozen=True, eq=False)
class LfMmiLoss:
    """The loss of a batch.

    Attributes:
        loss: () nats a frame, with the regulariser; what training minimises.
        log_prob: () detached, numerator minus denominator, nats a frame; at most 0 where the phone model
            has seen all that was said.
        numerator_posteriors: (B, T, V) detached, targets of `chain_cross_entropy`.
        agreement: chance that a path of what was said and one of what could be said, each drawn at random, are in the
            same tied state, mean over frames.
        num_frames: outputs of the batch without padding.
    """

    loss: Tensor
    log_prob: Tensor
    numerator_posteriors: Tensor
    agreement: float
    num_frames: int


class LfMmi:
    """LF-MMI with one denominator.

    Args:
        denominator: everything that could be said.
        config: leak, regulariser, engine.

    Example:
        >>> from lhuc_asr.training.criteria.lfmmi.chain_topology import ChainTopology
        >>> from lhuc_asr.training.criteria.lfmmi.denominator import denominator_graph
        >>> from lhuc_asr.training.criteria.lfmmi.numerator import NumeratorCompiler
        >>> from lhuc_asr.training.criteria.lfmmi.phone_graph import PhoneGraph
        >>> from lhuc_asr.training.criteria.lfmmi.phone_lm import PhoneLm
        >>> said = PhoneGraph.of_words([[[2, 3]], [[4]]])
        >>> lm, topology = PhoneLm.estimate([said]), ChainTopology.monophone(4)
        >>> denominator = denominator_graph(lm, topology)
        >>> compiler = NumeratorCompiler(lm, topology, log_start=float(denominator.start[0]))
        >>> outputs = torch.zeros(1, 6, topology.num_pdfs, requires_grad=True)
        >>> result = LfMmi(denominator)(outputs, torch.tensor([6]), [compiler.of_phones(said)], ["hello"])
        >>> bool(result.log_prob < 0)
        True

    Source: Povey et al. 2016, "Purely sequence-trained neural networks for ASR based on lattice-free MMI", Interspeech;
    without alignments: Hadian et al. 2018, "End-to-end speech recognition using lattice-free MMI", Interspeech.
    """

    def __init__(self, denominator: ChainGraph, config: LfMmiConfig | None = None) -> None:
        self.denominator = denominator
        self.config = config or LfMmiConfig()

    def __call__(
        self, outputs_BTV: Tensor, lens: Tensor, numerators: Sequence[ChainGraph], utterances: Sequence[str]
    ) -> LfMmiLoss:
        """Compare what was said with all that could be said.

        Args:
            outputs_BTV: (B, T, V) of the network's last linear layer, sub-sampled; any real numbers.
            lens: (B,) outputs of each utterance without padding.
            numerators: graph of each utterance.
            utterances: their ids, for messages.

        Raises:
            AlignmentError: what was said does not fit into the frames of some utterances; all of them are named.
            DataError: outputs are not finite.
            ModelError: the network has fewer outputs than the graphs have tied states.
        """
        _refuse_too_narrow(outputs_BTV, [self.denominator, *numerators])
        _refuse_not_finite(outputs_BTV, lens, utterances)
        engine = self.config.engine
        numerator = numerator_occupancy(outputs_BTV, lens, numerators, engine=engine)
        _refuse_impossible(numerator, lens, numerators, utterances)
        denominator = denominator_occupancy(outputs_BTV, lens, self.denominator, leak=self.config.leak, engine=engine)
        _refuse_lost(denominator, utterances)
        num_frames = int(lens.sum())
        both = Occupancy(numerator.log_like - denominator.log_like, numerator.posteriors - denominator.posteriors)
        log_prob = log_likelihood(outputs_BTV, both).sum() / num_frames
        loss = self.config.l2_regularisation * _half_square(outputs_BTV, lens) / num_frames - log_prob
        agreement = float((numerator.posteriors * denominator.posteriors).sum()) / num_frames
        return LfMmiLoss(loss, log_prob.detach(), numerator.posteriors, agreement, num_frames)


def chain_cross_entropy(log_probs_BTV: Tensor, numerator_posteriors: Tensor) -> Tensor:
    """Cross-entropy of a second output against the numerator's posteriors, which keeps LF-MMI from over-fitting.

    Args:
        log_probs_BTV: (B, T, V) natural logarithms of posteriors.
        numerator_posteriors: (B, T, V) targets; padding has none.

    Returns:
        () nats a frame.

    Source: Povey et al. 2016 (Interspeech), section 2.7.1 (there with weight 0.1).
    """
    used = torch.where(numerator_posteriors > 0, log_probs_BTV, 0.0)
    return -(numerator_posteriors * used).sum() / numerator_posteriors.sum()


def _half_square(outputs: Tensor, lens: Tensor) -> Tensor:
    outputs = outputs - outputs.mean(dim=2, keepdim=True)
    inside = torch.arange(outputs.shape[1], device=outputs.device)[None] < lens.to(outputs.device)[:, None]
    return 0.5 * torch.where(inside[..., None], outputs, 0.0).square().sum()


def _refuse_too_narrow(outputs: Tensor, graphs: Sequence[ChainGraph]) -> None:
    if outputs.shape[2] < (needed := max(graph.num_pdfs for graph in graphs)):
        raise ModelError(f"the network has {outputs.shape[2]} outputs, the graphs have {needed} tied states")


def _refuse_not_finite(outputs: Tensor, lens: Tensor, utterances: Sequence[str]) -> None:
    ends = lens.tolist()
    wrong = [
        utterance
        for row, end, utterance in zip(outputs.detach(), ends, utterances, strict=True)
        if not bool(row[:end].isfinite().all())
    ]
    if wrong:
        raise DataError(f"the network's outputs are not finite for {', '.join(map(repr, wrong))}")


def _refuse_impossible(
    numerator: Occupancy, lens: Tensor, graphs: Sequence[ChainGraph], utterances: Sequence[str]
) -> None:
    impossible = numerator.log_like.isneginf().tolist()
    wrong = [
        f"{utterance!r} has {end} outputs of the network, its words need {graph.min_frames()} or more"
        for fails, end, graph, utterance in zip(impossible, lens.tolist(), graphs, utterances, strict=True)
        if fails
    ]
    if wrong:
        raise AlignmentError(f"transcripts do not fit into their speech: {'; '.join(wrong)}")


def _refuse_lost(denominator: Occupancy, utterances: Sequence[str]) -> None:
    finite = denominator.log_like.isfinite().tolist()
    wrong = [utterance for fine, utterance in zip(finite, utterances, strict=True) if not fine]
    if wrong:
        raise DataError(f"no path of the denominator fits {', '.join(map(repr, wrong))}; a leak above 0 helps")
