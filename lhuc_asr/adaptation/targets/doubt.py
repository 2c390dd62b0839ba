"""How unsure a network is of frames, by its own posteriors: what learning without any target makes small.

Shapes: N frames, V tied states. Frames that are judged together, those of one speaker in a minibatch or of one
utterance, lie one after the other; ``counts`` says how many there are of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from lhuc_asr.ranges import require_finite, require_positive, require_share


class ConfusionOver(Enum):
    """What class confusion is a mean over.

    Attributes:
        frames: every frame counts alike, so that states count as often as they occur; frames stay apart.
        classes: every state that occurs counts alike, however rare it is; surer frames count up to twice as much.
    """

    frames = "frames"
    classes = "classes"


@dataclass(kw_only=True)
class DoubtConfig:
    """How doubt is measured where ``adapt.supervision=entropy``; without slots, to be one base of several.

    Attributes:
        entropy_order: alpha of Renyi's entropy, log(sum p^alpha) / (1 - alpha). 1 is Shannon's; the higher, the more
            the likeliest state alone decides, and the less is learnt from frames that might be anything.
        confusion: share of the objective in which class confusion, the chance that two draws from a frame's posteriors
            differ, takes the place of the entropy.
        confusion_over: what that is a mean over.
        negatives: where above 0, states that are less likely than so many even shares 1 / V are taken for wrong, and
            -log(1 - their sum) is added to the objective.
        temperature: what logits are divided by before they are judged; above 1, sure frames still teach something.

    When not to use it: alone, for the surest network takes every frame for the same state; ``adapt.kl`` holds it. Not
    ``classes`` with less speech than the states need to occur: each minibatch knows those alone that it has a frame of,
    and a rare state's few frames, which are wrong the most, then count as much as silence.

    Source: Lin et al. 2022 (arXiv:2203.14222, SUTA): entropy 0.3, confusion 0.7 over classes, temperature 2.5, after
    Jin et al. 2020 (arXiv:1912.03699); there over all classes, of which a CTC network has 32, here over those that
    occur, for a minibatch never has all tied states. Kim et al. 2023 (arXiv:2306.01981, SGEM): order 1.5, negatives
    below 0.4 / V, temperature 2.5. Its search chooses among the logits of decoders that hear their own words; a network
    of frames has one set of them. Both leave frames of blanks out of the entropy; silence, which is their like, counts
    here.
    """

    entropy_order: float = 1.0
    confusion: float = 0.0
    confusion_over: ConfusionOver = ConfusionOver.frames
    negatives: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "adapt", "entropy_order", "temperature")
        require_finite(self, "adapt", "entropy_order", "temperature")
        require_share(self, "adapt", "confusion", "negatives")

    def doubt(self) -> Doubt:
        """What computes it."""
        over_classes = self.confusion_over is ConfusionOver.classes
        return Doubt(self.entropy_order, self.confusion, over_classes, self.negatives, self.temperature)


@dataclass(frozen=True)
class Doubt:
    """The measure; `DoubtConfig` explains its parts.

    Attributes:
        order: alpha of Renyi's entropy.
        confusion: share of class confusion; the rest is the entropy.
        over_classes: class confusion is a mean over the states that occur.
        negatives: even shares below which a state is taken for wrong.
        temperature: what the logits are divided by.

    Example:
        >>> evenly, weights = torch.tensor([[0.5, 0.5]]).log(), torch.ones(1)
        >>> Doubt()(evenly, weights), Doubt(order=1.5)(evenly, weights), Doubt(confusion=1.0)(evenly, weights)
        (tensor([0.6931]), tensor([0.6931]), tensor([0.5000]))
    """

    order: float = 1.0
    confusion: float = 0.0
    over_classes: bool = False
    negatives: float = 0.0
    temperature: float = 1.0

    def __call__(self, log_probs_NV: Tensor, weights_N: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """(N,) what each frame adds to the objective, from 0, where one state is certain.

        Args:
            log_probs_NV: (N, V) natural logarithms.
            weights_N: (N,) what a frame counts.
            counts: frames that are judged together; None takes all of them.
        """
        tempered_NV = self._tempered(log_probs_NV)
        doubt_N = (1 - self.confusion) * self._entropy(tempered_NV)
        if self.confusion and not self.over_classes:
            doubt_N = doubt_N + self.confusion * (1 - (2 * tempered_NV).exp().sum(dim=1))
        if self.negatives:
            doubt_N = doubt_N - torch.log1p(-self._chance_of_negatives(log_probs_NV, tempered_NV))
        doubt_N = doubt_N * weights_N
        if self.confusion and self.over_classes:
            doubt_N = doubt_N + self.confusion * _by_parts(_class_confusion, tempered_NV, weights_N, counts)
        return doubt_N

    def by_logits(self, log_probs_NV: Tensor, weights_N: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """(N, V) derivatives of the sum by the logits."""
        tempered_NV = self._tempered(log_probs_NV)
        p_NV = tempered_NV.exp()
        slopes_NV = self._entropy_by_logits(tempered_NV, p_NV).mul_(1 - self.confusion)
        if self.confusion and not self.over_classes:
            slopes_NV -= 2 * self.confusion * p_NV * (p_NV - p_NV.square().sum(dim=1, keepdim=True))
        if self.negatives:
            chance_N1 = self._chance_of_negatives(log_probs_NV, tempered_NV)[:, None]
            slopes_NV += p_NV * (self._are_negative(log_probs_NV) - chance_N1) / (1 - chance_N1)
        slopes_NV *= weights_N[:, None].to(slopes_NV.dtype)
        if self.confusion and self.over_classes:
            slopes_NV += self.confusion * _by_parts(_class_confusion_by_logits, tempered_NV, weights_N, counts)
        return slopes_NV / self.temperature

    def _tempered(self, log_probs_NV: Tensor) -> Tensor:
        return log_probs_NV if self.temperature == 1 else (log_probs_NV / self.temperature).log_softmax(dim=1)

    def _entropy(self, log_probs_NV: Tensor) -> Tensor:
        if self.order == 1:
            return -(log_probs_NV.exp() * log_probs_NV).sum(dim=1)
        return (self.order * log_probs_NV).logsumexp(dim=1) / (1 - self.order)

    def _entropy_by_logits(self, log_probs_NV: Tensor, p_NV: Tensor) -> Tensor:
        if self.order == 1:
            entropy_N1 = -(p_NV * log_probs_NV).sum(dim=1, keepdim=True)
            return -(log_probs_NV + entropy_N1) * p_NV
        tilted_NV = (self.order * log_probs_NV).softmax(dim=1)
        return (tilted_NV - p_NV) * (self.order / (1 - self.order))

    def _are_negative(self, log_probs_NV: Tensor) -> Tensor:
        """(N, V) 1 where a state is taken for wrong, else 0; it is chosen by the posteriors as they are."""
        return (log_probs_NV.detach().exp() < self.negatives / log_probs_NV.shape[1]).to(log_probs_NV.dtype)

    def _chance_of_negatives(self, log_probs_NV: Tensor, tempered_NV: Tensor) -> Tensor:
        return (self._are_negative(log_probs_NV) * tempered_NV.exp()).sum(dim=1)


@dataclass(frozen=True, eq=False)
class _Classes:
    """The states that occur in frames which are judged together.

    Attributes:
        p_NV: posteriors.
        sure_N: what a frame counts, by its weight and by how sure it is; 1 on average. It is held constant.
        size_V: frames of each state, sum of the posteriors by ``sure_N``.
        inverse_V: 1 / (size times number of states that occur), 0 for the others.
    """

    p_NV: Tensor
    sure_N: Tensor
    size_V: Tensor
    inverse_V: Tensor

    @staticmethod
    def of(log_probs_NV: Tensor, weights_N: Tensor) -> _Classes:
        """States occur that have a frame or more."""
        p_NV = log_probs_NV.exp()
        entropy_N = -(p_NV * log_probs_NV).sum(dim=1).detach()
        sure_N = weights_N.to(p_NV.dtype) * (1 + (-entropy_N).exp())
        sure_N = sure_N * len(sure_N) / sure_N.sum().clamp(min=torch.finfo(p_NV.dtype).tiny)
        size_V = sure_N @ p_NV
        occur_V = (size_V >= 1).to(p_NV.dtype).detach()
        return _Classes(p_NV, sure_N, size_V, occur_V / (size_V.clamp(min=1) * occur_V.sum().clamp(min=1)))


def _class_confusion(log_probs_NV: Tensor, weights_N: Tensor) -> Tensor:
    """(N,) whose mean is 1 - mean over the states that occur of sum_n sure p^2 / sum_n sure p.

    The confusion of a state with all states, itself included, sums up to 1 after normalising, because posteriors do: no
    matrix of states by states is needed.
    """
    own = _Classes.of(log_probs_NV, weights_N)
    similar_N = len(weights_N) * own.sure_N * (own.p_NV.square() @ own.inverse_V)
    return weights_N.mean() * (1 - similar_N)


def _class_confusion_by_logits(log_probs_NV: Tensor, weights_N: Tensor) -> Tensor:
    """(N, V) derivatives of its sum."""
    own = _Classes.of(log_probs_NV, weights_N)
    same_V = own.sure_N @ own.p_NV.square() / own.size_V.clamp(min=1)
    factor_N1 = (-weights_N.mean() * len(weights_N) * own.sure_N)[:, None]
    by_p_NV = factor_N1 * (2 * own.p_NV - same_V) * own.inverse_V
    return own.p_NV * (by_p_NV - (by_p_NV * own.p_NV).sum(dim=1, keepdim=True))


def _by_parts(
    of_part: Callable[[Tensor, Tensor], Tensor], log_probs_NV: Tensor, weights_N: Tensor, counts: Sequence[int] | None
) -> Tensor:
    """What is computed of the frames that are judged together, one part after the other."""
    sizes = [len(weights_N)] if counts is None else list(counts)
    parts = zip(torch.split(log_probs_NV, sizes), torch.split(weights_N, sizes), strict=True)
    return torch.cat([of_part(*own) for own in parts])
