"""Supervision from a CTC model's own first pass: token sequences, and a token for every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import AlignmentError
from lhuc_asr.pretrained.prefix_beam import CtcDecoder, CtcHypothesis


@dataclass(frozen=True, eq=False)
class CtcTarget:
    """What one utterance is believed to say.

    Attributes:
        tokens: (L,) token numbers, no blanks.
        alignment: (T,) the token of every frame, blanks included, on the best path of these tokens.
        frame_log_probs: (T,) natural logarithms of the probabilities of these tokens in their frames.
    """

    tokens: Tensor
    alignment: Tensor
    frame_log_probs: Tensor

    @property
    def is_empty(self) -> bool:
        """Whether every frame is a blank, so that nothing can be learnt."""
        return not len(self.tokens)

    @property
    def num_terms(self) -> int:
        """Frames of the model's output."""
        return len(self.alignment)

    @property
    def confidence(self) -> float:
        """Geometric mean, 0 to 1, of the probabilities of the aligned tokens."""
        return float(self.frame_log_probs.mean().exp())


def ctc_targets(
    log_probs: Tensor, lens: Tensor, *, blank: int = 0, decoder: CtcDecoder | None = None
) -> tuple[CtcTarget, ...]:
    """Decode a batch and align every frame with the answer.

    Args:
        log_probs: (B, T, V) natural logarithms, of any device.
        lens: (B,) frames of every utterance.
        blank: number of the blank token.
        decoder: for example a `PrefixBeamSearch`, or torchaudio's ``ctc_decoder``; None takes the best token of every
            frame (greedy).

    Returns:
        A target for each utterance, on the CPU.

    Raises:
        AlignmentError: the decoder's answer has more tokens than fit into the utterance's frames.

    Example:
        >>> log_probs = torch.tensor([[[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]]]).log()
        >>> target, = ctc_targets(log_probs, torch.tensor([4]))
        >>> target.tokens.tolist(), target.alignment.tolist()
        ([1, 1], [1, 1, 0, 1])
    """
    log_probs, lens = log_probs.detach().float().cpu().contiguous(), lens.cpu()
    if decoder is None:
        found = [greedy(one[:length], blank) for one, length in zip(log_probs, lens.tolist(), strict=True)]
    else:
        found = [_best(answers) for answers in decoder(log_probs, lens)]
    return tuple(
        align(one[:length], tokens, blank) for one, length, tokens in zip(log_probs, lens.tolist(), found, strict=True)
    )


def greedy(log_probs: Tensor, blank: int = 0) -> Tensor:
    """(L,) tokens of the best path: repetitions become one, then blanks go.

    Args:
        log_probs: (T, V).
        blank: number of the blank token.
    """
    path: Tensor = torch.unique_consecutive(log_probs.argmax(-1))
    return path[path != blank]


def align(log_probs: Tensor, tokens: Tensor, blank: int = 0) -> CtcTarget:
    """The best path of a token sequence, found by torchaudio.

    Args:
        log_probs: (T, V) natural logarithms, on the CPU.
        tokens: (L,) token numbers, no blanks.
        blank: number of the blank token.

    Raises:
        AlignmentError: there are more tokens, and blanks between equal ones, than frames.
    """
    num_repeated = int((tokens[1:] == tokens[:-1]).sum())
    if len(tokens) + num_repeated > len(log_probs):
        raise AlignmentError(
            f"{len(tokens)} tokens with {num_repeated} repetitions need as many frames together, "
            f"but the utterance has {len(log_probs)}"
        )
    if not len(tokens):
        return CtcTarget(tokens, torch.full((len(log_probs),), blank), log_probs[:, blank])
    path, scores = import_torchaudio("functional").forced_align(log_probs[None], tokens[None], blank=blank)
    return CtcTarget(tokens, path[0].long(), scores[0])


def _best(answers: Sequence[CtcHypothesis]) -> Tensor:
    """A decoder that found nothing says that nobody spoke."""
    return answers[0].tokens.long() if answers else torch.empty(0, dtype=torch.long)
