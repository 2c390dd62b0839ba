"""The loss of sMBR: minus the expected share of frames whose tied state is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.errors import AlignmentError, ConfigError, DataError, ModelError
from lhuc_asr.training.criteria.smbr.expected_accuracy import expected_accuracy
from lhuc_asr.training.criteria.smbr.state_lattice import StateLattice
from lhuc_asr.training.tasks.objectives import frame_cross_entropy

_USUAL_SCALE = 0.1


class Silence(Enum):
    """When a frame of silence is right.

    ``exact``: like speech, when the state is that of the reference.
    ``one_class``: when both are silence, whatever their states (Kaldi's ``--one-silence-class=true``).
    ``never``: silence earns nothing (Kaldi's ``--one-silence-class=false``).
    """

    exact = "exact"
    one_class = "one_class"
    never = "never"


@dataclass(kw_only=True, slots=True)
class SmbrConfig:
    """Settings of the loss.

    Attributes:
        acoustic_scale: factor on the log-likelihoods in the lattice; None takes that of the decoder, or the usual 0.1
            where there is none.
        smoothing: share of the cross-entropy of frames in the loss, which keeps sMBR from over-fitting.
        silence: when a frame of silence is right.

    Source: ``smoothing`` is the F-smoothing of Su et al. 2013, "Error back propagation for sequence training of
    context-dependent deep networks for conversational speech transcription", ICASSP.
    """

    acoustic_scale: float | None = None
    smoothing: float = 0.0
    silence: Silence = Silence.one_class

    def __post_init__(self) -> None:
        if self.acoustic_scale is not None and not 0 < self.acoustic_scale < float("inf"):
            raise ConfigError(f"smbr.acoustic_scale must be positive, or null, got {self.acoustic_scale}")
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"smbr.smoothing lies from 0 to below 1, got {self.smoothing}")


@dataclass(frozen=True, eq=False)
class SmbrTarget:
    """One utterance to learn from.

    Attributes:
        lattice: what could have been said.
        reference: (T,) int32 tied state of every frame of what was said.
    """

    lattice: StateLattice
    reference: NDArray[np.int32]

    @property
    def num_missing(self) -> int:
        """Frames whose reference state no path of the lattice has; they cannot be learnt by sMBR alone."""
        lattice = self.lattice
        hits = lattice.read_state == self.reference[lattice.read_frame]
        return len(self.reference) - len(np.unique(lattice.read_frame[hits]))


@dataclass(frozen=True, eq=False)
class SmbrLoss:
    """The loss of a batch.

    Attributes:
        loss: () what training minimises: minus the accuracy, or its mixture with the cross-entropy in nats a frame.
        accuracy: () detached, expected share of right frames, 0 to 1.
        per_utterance: (B,) detached, expected number of right frames of each utterance.
        frame_accuracy: (B, T) detached, the chance that a frame is right; 0 in padding.
        num_frames: of the batch without padding.
    """

    loss: Tensor
    accuracy: Tensor
    per_utterance: Tensor
    frame_accuracy: Tensor
    num_frames: int


class Smbr:
    """State-level minimum Bayes risk on lattices.

    A path's log weight is ``acoustic_scale`` times its log-likelihoods plus the lattice's own weights. The lattices may
    come from an older network: the scores are always those of the network in training.

    Args:
        log_prior: (V,) log-priors of the tied states, which turn posteriors into likelihoods; zeros for none.
        silence_states: tied states of silence.
        config: scale, smoothing, silence.

    Example:
        >>> source, target, state = (np.array(column, np.int32) for column in ([0, 0], [1, 1], [0, 2]))
        >>> frame, ends = np.array([0, 1], np.int32), np.array([-np.inf, 0.0])
        >>> lattice = StateLattice("u1", source, target, state, np.zeros(2), frame, ends)
        >>> log_probs = torch.tensor([[[0.5, 0.25, 0.25]]]).log().requires_grad_()
        >>> smbr = Smbr(torch.zeros(3), config=SmbrConfig(acoustic_scale=1.0))
        >>> result = smbr(log_probs, torch.tensor([1]), [SmbrTarget(lattice, np.array([0], np.int32))])
        >>> round(float(result.accuracy), 3)
        0.667

    Source: Kingsbury 2009, "Lattice-based optimization of sequence classification criteria for neural-network acoustic
    modeling", ICASSP; Vesely et al. 2013, "Sequence-discriminative training of deep neural networks", Interspeech,
    section 2.4.
    """

    def __init__(
        self, log_prior: Tensor, *, silence_states: Sequence[int] = (), config: SmbrConfig | None = None
    ) -> None:
        self.config = config or SmbrConfig()
        self._log_prior = log_prior
        self._is_silence = np.zeros(len(log_prior), np.bool_)
        self._is_silence[list(silence_states)] = True

    def __call__(self, log_probs_BTV: Tensor, lens: Tensor, targets: Sequence[SmbrTarget]) -> SmbrLoss:
        """Compare the paths of every lattice with its reference.

        Args:
            log_probs_BTV: (B, T, V) natural logarithms of posteriors.
            lens: (B,) outputs of each utterance without padding.
            targets: one an utterance.

        Raises:
            AlignmentError: network, lattice and reference of an utterance differ in length; all of them are named.
            DataError: log-probabilities are not finite, or leave no path; the text names the utterances.
            ModelError: the network, the priors, the lattices and the references do not have the same states.
        """
        self._refuse_misfits(log_probs_BTV, lens, targets)
        log_likes = log_probs_BTV - self._log_prior.to(log_probs_BTV)
        lattices = [target.lattice for target in targets]
        right = [self._right(target) for target in targets]
        scale = _USUAL_SCALE if self.config.acoustic_scale is None else self.config.acoustic_scale
        found = expected_accuracy(log_likes, lattices, right, acoustic_scale=scale)
        num_frames = int(lens.sum())
        accuracy = found.expected.sum() / num_frames
        loss = -accuracy
        if self.config.smoothing:
            loss = (1 - self.config.smoothing) * loss + self.config.smoothing * _cross_entropy(log_probs_BTV, targets)
        return SmbrLoss(loss, accuracy.detach(), found.expected.detach(), found.of_frame, num_frames)

    def _right(self, target: SmbrTarget) -> NDArray[np.float64]:
        """(A,) 1 where an arc reads its frame as the right state."""
        lattice, silence = target.lattice, self._is_silence
        reference = target.reference[lattice.read_frame]
        same = lattice.read_state == reference
        if self.config.silence is Silence.never:
            same &= ~silence[reference]
        elif self.config.silence is Silence.one_class:
            same |= silence[lattice.read_state] & silence[reference]
        right = np.zeros(len(lattice.state))
        right[lattice.reads] = same
        return right

    def _refuse_misfits(self, log_probs: Tensor, lens: Tensor, targets: Sequence[SmbrTarget]) -> None:
        _refuse_other_states(log_probs.shape[2], len(self._log_prior), targets)
        _refuse_other_lengths(lens, targets)
        _refuse_not_finite(log_probs, lens, targets)


def _cross_entropy(log_probs: Tensor, targets: Sequence[SmbrTarget]) -> Tensor:
    """() nats a frame, over the frames of all utterances."""
    rows = torch.cat([row[: len(target.reference)] for row, target in zip(log_probs, targets, strict=True)])
    references = torch.from_numpy(np.concatenate([target.reference for target in targets])).long()
    return frame_cross_entropy(rows, references.to(log_probs.device))


def _refuse_other_states(num_outputs: int, num_priors: int, targets: Sequence[SmbrTarget]) -> None:
    if num_outputs != num_priors:
        raise ModelError(f"the network has {num_outputs} outputs, but there are {num_priors} priors")
    for target in targets:
        name, states = target.lattice.utterance, target.reference
        needed = max(target.lattice.num_states, int(states.max(initial=-1)) + 1)
        if needed > num_outputs or int(states.min(initial=0)) < 0:
            raise ModelError(
                f"utterance {name!r} has tied states up to {needed - 1} in lattice or reference; "
                f"the network has outputs 0 to {num_outputs - 1}"
            )


def _refuse_other_lengths(lens: Tensor, targets: Sequence[SmbrTarget]) -> None:
    wrong = [
        f"{target.lattice.utterance!r} has {length} outputs of the network, "
        f"{target.lattice.num_frames} frames in its lattice, {len(target.reference)} in its reference"
        for length, target in zip(lens.tolist(), targets, strict=True)
        if not length == target.lattice.num_frames == len(target.reference)
    ]
    if wrong:
        raise AlignmentError(f"network, lattice and reference must have the same length: {'; '.join(wrong)}")


def _refuse_not_finite(log_probs: Tensor, lens: Tensor, targets: Sequence[SmbrTarget]) -> None:
    wrong = [
        repr(target.lattice.utterance)
        for row, length, target in zip(log_probs.detach(), lens.tolist(), targets, strict=True)
        if not bool(row[:length].isfinite().all())
    ]
    if wrong:
        raise DataError(f"the network's log-probabilities are not finite for {', '.join(wrong)}")
