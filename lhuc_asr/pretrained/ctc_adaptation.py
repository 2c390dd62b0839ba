"""Adapting any CTC model to one speaker from its own greedy or beam decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional

from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.example import Example
from lhuc_asr.pretrained.ctc_targets import CtcTarget, ctc_targets
from lhuc_asr.pretrained.prefix_beam import CtcDecoder
from lhuc_asr.pretrained.updating import Adaptation, UpdateConfig, adapt
from lhuc_asr.units import Hertz


def _numbers(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens))


@dataclass(frozen=True)
class CtcModel:
    """A net, and how it is used.

    Attributes:
        net: the module whose sites are scaled.
        run: net and the speech of one utterance, samples (N,) or whatever the model is fed -> (T, V) logits or
            log-probabilities.
        blank: number of the blank token.
        text: token numbers -> words; the default writes the numbers.
        sampling_rate: of the samples that it is fed.
    """

    net: nn.Module
    run: Callable[[nn.Module, Tensor], Tensor]
    blank: int = 0
    text: Callable[[Sequence[int]], str] = _numbers
    sampling_rate: Hertz = 16000

    def log_probs(self, speech: Tensor) -> Tensor:
        """(T, V) natural logarithms, in single precision."""
        return self.run(self.net, speech).float().log_softmax(-1)

    @torch.no_grad()
    def recognise(self, speech: Tensor, decoder: CtcDecoder | None = None) -> CtcTarget:
        """What the model hears as it is set now; attach an adapter around it."""
        log_probs = self.log_probs(speech)
        (target,) = ctc_targets(log_probs[None], torch.tensor([len(log_probs)]), blank=self.blank, decoder=decoder)
        return target

    def words(self, target: CtcTarget) -> str:
        """The tokens of a target as text."""
        return self.text(target.tokens.tolist())


class CtcObjective(Enum):
    """What is minimised: CTC's loss over all paths of the tokens, or the cross-entropy of their best path's frames."""

    sequence = "sequence"
    frames = "frames"


@dataclass(kw_only=True, slots=True)
class CtcAdaptationConfig:
    """How a CTC model is adapted.

    Attributes:
        objective: what is minimised.
        updates: how.
    """

    objective: CtcObjective = CtcObjective.sequence
    updates: UpdateConfig = field(default_factory=UpdateConfig)


def adapt_ctc(
    model: CtcModel,
    adapter: LhucAdapter,
    utterances: Mapping[str, Tensor],
    config: CtcAdaptationConfig | None = None,
    *,
    decoder: CtcDecoder | None = None,
) -> Adaptation[CtcTarget]:
    """Let a CTC model learn one speaker's scales from what it recognises itself.

    Args:
        model: stays as it is.
        adapter: its r is trained in place.
        utterances: name -> speech, all of one speaker.
        config: how.
        decoder: of the first and second pass, such as a `PrefixBeamSearch`; None is greedy.

    Returns:
        Both passes and the objective. Utterances without a token in the first pass are listed in ``unused``, those that
        adaptation left without any in ``silenced``.

    Raises:
        SpeakerError: there are no utterances, or all of them decode to blanks only, or the loss is not finite.
        SiteError: a site does not act.

    Example:
        >>> from lhuc_asr.lhuc.finding import find_sites
        >>> _ = torch.manual_seed(1)
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> adapter = LhucAdapter.identity(net, find_sites(net, "1"))
        >>> done = adapt_ctc(CtcModel(net, nn.Module.__call__), adapter, {"a": torch.randn(20, 4)})
        >>> done.objective_after < done.objective_before, done.has_collapsed
        (True, False)
    """
    settings = config or CtcAdaptationConfig()
    return adapt(_CtcLearner(model, settings.objective, decoder), adapter, utterances, settings.updates)


@dataclass(frozen=True)
class _CtcLearner:
    model: CtcModel
    objective: CtcObjective
    decoder: CtcDecoder | None

    @property
    def net(self) -> nn.Module:
        return self.model.net

    def example(self, speech: Tensor) -> Example:
        return Example((speech,), call=self.model.run)

    def recognise(self, speech: Tensor) -> CtcTarget:
        return self.model.recognise(speech, self.decoder)

    def loss(self, speech: Tensor, target: CtcTarget) -> Tensor:
        log_probs = self.model.log_probs(speech)
        if self.objective is CtcObjective.frames:
            return functional.nll_loss(log_probs, target.alignment.to(log_probs.device), reduction="sum")
        return functional.ctc_loss(
            log_probs[:, None],
            target.tokens[None].to(log_probs.device),
            torch.tensor([len(log_probs)]),
            torch.tensor([len(target.tokens)]),
            blank=self.model.blank,
            reduction="sum",
        )
