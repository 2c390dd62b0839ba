"""CTC prefix beam search without a language model: the token sequence whose paths are together most probable.

It takes and gives what torchaudio's ``ctc_decoder`` does, so that either can be handed to ``ctc_targets``; that one
adds a lexicon and a KenLM model, but needs flashlight-text, which has no wheels for Python 3.13. Kaldi's decoders keep
the best path only, which without a language model is the greedy answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lhuc_asr.errors import ConfigError

_NEVER = -math.inf


class CtcHypothesis(Protocol):
    """One answer of a CTC decoder; torchaudio's ``CTCHypothesis`` is one."""

    @property
    def tokens(self) -> Tensor:
        """(L,) token numbers, no blanks."""


class CtcDecoder(Protocol):
    """What finds token sequences; torchaudio's ``CTCDecoder`` is one."""

    def __call__(self, log_probs: Tensor, lens: Tensor) -> Sequence[Sequence[CtcHypothesis]]:
        """(B, T, V) log-probabilities and (B,) numbers of frames -> for each utterance its answers, the best first."""


@dataclass(frozen=True)
class BeamHypothesis:
    """A token sequence and how probable it is.

    Attributes:
        tokens: (L,) token numbers, no blanks.
        score: natural logarithm of the probability of all its paths that the beam kept.
    """

    tokens: Tensor
    score: float


@dataclass(frozen=True)
class PrefixBeamSearch:
    """Keep the best prefixes frame by frame, the paths of a prefix added up.

    Attributes:
        beam_size: prefixes that are kept.
        num_tokens: tokens that may follow a prefix in a frame, the most probable ones.
        num_best: answers for each utterance.
        blank: number of the blank token.

    Example:
        >>> log_probs = torch.tensor([[[0.4, 0.6], [0.6, 0.4]]]).log()
        >>> (best,), = PrefixBeamSearch()(log_probs, torch.tensor([2]))
        >>> best.tokens.tolist(), round(math.exp(best.score), 2)
        ([1], 0.76)

    Source: Hannun, Maas, Jurafsky & Ng 2014 (arXiv:1408.2873), algorithm 1, without the language model.
    """

    beam_size: int = 16
    num_tokens: int = 16
    num_best: int = 1
    blank: int = 0

    def __post_init__(self) -> None:
        if min(self.beam_size, self.num_tokens, self.num_best) < 1 or self.num_best > self.beam_size:
            raise ConfigError(
                f"{self.beam_size} prefixes and {self.num_tokens} tokens cannot give {self.num_best} answers; "
                "all are at least 1, and answers at most as many as prefixes"
            )

    def __call__(self, log_probs: Tensor, lens: Tensor) -> Sequence[Sequence[BeamHypothesis]]:
        """The best token sequences of every utterance.

        Args:
            log_probs: (B, T, V) natural logarithms.
            lens: (B,) frames of every utterance.

        Returns:
            For each utterance up to ``num_best`` answers, the best first.
        """
        return [self._search(one[:length]) for one, length in zip(log_probs.cpu(), lens.tolist(), strict=True)]

    def _search(self, log_probs: Tensor) -> list[BeamHypothesis]:
        best = log_probs.topk(min(self.num_tokens, log_probs.shape[-1]))
        beam: dict[tuple[int, ...], _Prefix] = {(): _Prefix(ends_in_blank=0.0)}
        for scores, values, tokens in zip(log_probs, best.values.tolist(), best.indices.tolist(), strict=True):
            beam = self._extended(beam, scores.tolist(), list(zip(tokens, values, strict=True)))
        answers = sorted(beam.items(), key=lambda item: -item[1].total)[: self.num_best]
        return [BeamHypothesis(torch.tensor(tokens, dtype=torch.long), prefix.total) for tokens, prefix in answers]

    def _extended(
        self, beam: dict[tuple[int, ...], _Prefix], scores: list[float], likely: Iterable[tuple[int, float]]
    ) -> dict[tuple[int, ...], _Prefix]:
        """The beam one frame later."""
        grown: dict[tuple[int, ...], _Prefix] = {}
        for tokens, prefix in beam.items():
            same = grown.setdefault(tokens, _Prefix())
            same.ends_in_blank = _add(same.ends_in_blank, prefix.total + scores[self.blank])
            if tokens:
                same.ends_in_token = _add(same.ends_in_token, prefix.ends_in_token + scores[tokens[-1]])
            for token, score in likely:
                if token != self.blank:
                    repeated = bool(tokens) and tokens[-1] == token
                    longer = grown.setdefault((*tokens, token), _Prefix())
                    before = prefix.ends_in_blank if repeated else prefix.total
                    longer.ends_in_token = _add(longer.ends_in_token, before + score)
        kept = sorted(grown.items(), key=lambda item: -item[1].total)[: self.beam_size]
        return dict(kept)


@dataclass(slots=True)
class _Prefix:
    """Log-probability of all paths of one prefix, those that end in a blank apart."""

    ends_in_blank: float = _NEVER
    ends_in_token: float = _NEVER

    @property
    def total(self) -> float:
        return _add(self.ends_in_blank, self.ends_in_token)


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))
