"""Speech that a speaker is judged by and not learnt from, so that learning stops without references."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.objectives.utterances import SpeakerUtterances
from lhuc_asr.errors import ConfigError


@dataclass(kw_only=True)
class HeldOutConfig:
    """How much speech is held out, and what is concluded from it; without slots, to be one base of several.

    Attributes:
        held_out_share: of a speaker's frames, in whole utterances, from 0 (nothing is held out, every sweep is done and
            the last one counts) to 0.5. After every sweep the objective is measured on them, and the scales of the
            best sweep are kept; if the model without scales is best, the speaker's scales are the identity.
        held_out_gain: the best sweep must be better than no scales by more than that, in nats a target.
        patience: learning stops when the objective has not improved for so many sweeps.
    """

    held_out_share: float = 0.0
    held_out_gain: float = 0.0
    patience: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share <= 0.5:
            raise ConfigError(f"adapt.held_out_share must be from 0 to 0.5, got {self.held_out_share}")
        if not (self.held_out_gain >= 0 and math.isfinite(self.held_out_gain)):
            raise ConfigError(f"adapt.held_out_gain must be 0 or more nats, got {self.held_out_gain}")
        if self.patience < 1:
            raise ConfigError(f"adapt.patience must be at least 1, got {self.patience}")


class Verdict(Enum):
    """Whether a speaker's scales are used: ``accepted``, ``shrunk``, ``fell_back`` to the identity, ``not_judged``."""

    accepted = "accepted"
    shrunk = "shrunk"
    fell_back = "fell back"
    not_judged = "not judged"


@dataclass(frozen=True, kw_only=True)
class HeldOutReport:
    """What the speech that was held out told.

    Attributes:
        verdict: not judged where all speech is one utterance that cannot be divided.
        best_sweep: whose scales were kept; 0 is before the first.
        objectives: mean over the targets held out, where learning began and after every sweep.
        speaker_independent: the same without scales.
        num_targets: that were held out.
        ran_away: learning was stopped because an objective was no longer a number; that sweep is not listed.
    """

    verdict: Verdict
    best_sweep: int
    objectives: tuple[float, ...]
    speaker_independent: float
    num_targets: int
    ran_away: bool = False

    def __str__(self) -> str:
        if self.verdict is Verdict.not_judged:
            return "not judged: nothing could be held out"
        found = f"held-out objective {self.speaker_independent:.3f} -> {self.objectives[self.best_sweep]:.3f}"
        return f"{self.verdict.value}, {found} after sweep {self.best_sweep}" + (", then ran away" * self.ran_away)

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "test": "objective on held-out speech",
            "verdict": self.verdict.value,
            "best_sweep": self.best_sweep,
            "objectives": list(self.objectives),
            "speaker_independent": self.speaker_independent,
            "num_targets": self.num_targets,
            "ran_away": self.ran_away,
        }

    @staticmethod
    def from_plain(plain: Any) -> HeldOutReport | None:
        """What `plain` gave; None where it is something else."""
        if not isinstance(plain, dict) or plain.get("test") != "objective on held-out speech":
            return None
        return HeldOutReport(
            verdict=Verdict(plain["verdict"]),
            best_sweep=plain["best_sweep"],
            objectives=tuple(plain["objectives"]),
            speaker_independent=plain["speaker_independent"],
            num_targets=plain["num_targets"],
            ran_away=plain["ran_away"],
        )


def judge(
    objectives: Sequence[float],
    speaker_independent: float,
    *,
    num_targets: int,
    least_gain: float,
    ran_away: bool = False,
) -> HeldOutReport:
    """Which scales are used.

    Args:
        objectives: on held-out targets, where learning began and after every sweep.
        speaker_independent: the same without scales.
        num_targets: that were held out; 0 judges nothing.
        least_gain: the best must be better than no scales by more.
        ran_away: an objective was no longer a number.

    Example:
        >>> judge([2.0, 1.8, 1.9], 2.0, num_targets=9, least_gain=0.1).verdict
        <Verdict.accepted: 'accepted'>
        >>> judge([2.0, 1.8, 1.9], 2.0, num_targets=9, least_gain=0.3).verdict
        <Verdict.fell_back: 'fell back'>
    """
    if not num_targets or not objectives:
        return HeldOutReport(
            verdict=Verdict.not_judged, best_sweep=0, objectives=(), speaker_independent=0.0, num_targets=0
        )
    best = best_of(objectives)
    accepted = speaker_independent - objectives[best] > least_gain
    return HeldOutReport(
        verdict=Verdict.accepted if accepted else Verdict.fell_back,
        best_sweep=best,
        objectives=tuple(objectives),
        speaker_independent=speaker_independent,
        num_targets=num_targets,
        ran_away=ran_away,
    )


def best_of(objectives: Sequence[float]) -> int:
    """Place of the least; of several the first; what is not a number never is."""
    return min(range(len(objectives)), key=lambda place: _or_infinite(objectives[place]))


@dataclass(frozen=True, eq=False)
class Division:
    """One speaker's items, frames or pieces of utterances, divided; a part's items are in ascending order.

    Attributes:
        learnt: (n,) numbers of the items that are learnt from.
        held_out: (m,) the others.
        num_learnt: targets of the former.
        num_held_out: targets of the latter.
    """

    learnt: Tensor
    held_out: Tensor
    num_learnt: int
    num_held_out: int


def divide(speech: SpeakerFrames | SpeakerUtterances, share: float, *, seed: int) -> Division:
    """Hold out whole utterances, chosen at random, whose targets come as near to a share as they can.

    A single utterance that is learnt from frame by frame is divided, and its end held out; one that must be whole is
    not, and nothing is held out.

    Args:
        speech: of one speaker.
        share: of the targets, 0 to 0.5.
        seed: of the choice.
    """
    utterances = _with_targets(speech)
    counts = _targets_of_items(speech)
    if share > 0 and len(utterances) == 1 and isinstance(speech, SpeakerFrames):
        most = len(utterances[0]) - 1
        kept = max(1, min(most, round(len(utterances[0]) * (1 - share))))
        utterances = [utterances[0][:kept], utterances[0][kept:]]
        chosen = {1} if most else set()
    else:
        chosen = held_out_utterances(speech, share, seed=seed)
    held_out = _joined([items for place, items in enumerate(utterances) if place in chosen])
    learnt = _joined([items for place, items in enumerate(utterances) if place not in chosen])
    return Division(learnt, held_out, int(counts[learnt].sum()), int(counts[held_out].sum()))


def held_out_utterances(speech: SpeakerFrames | SpeakerUtterances, share: float, *, seed: int) -> set[int]:
    """Places, among the utterances that have targets, of those that `divide` holds out as a whole."""
    utterances = _with_targets(speech)
    if share <= 0 or len(utterances) < 2:
        return set()
    counts = _targets_of_items(speech)
    return _chosen([int(counts[items].sum()) for items in utterances], share, seed)


def _with_targets(speech: SpeakerFrames | SpeakerUtterances) -> list[Tensor]:
    """Numbers of the items of each utterance that has any."""
    return [items for items in _utterances(speech) if len(items)]


def _chosen(sizes: Sequence[int], share: float, seed: int) -> set[int]:
    """Utterances in random order, each taken if that brings their targets nearer to the share; at least one."""
    wanted, taken = share * sum(sizes), 0
    chosen: set[int] = set()
    generator = torch.Generator().manual_seed(seed)
    for place in torch.randperm(len(sizes), generator=generator).tolist():
        if abs(taken + sizes[place] - wanted) < abs(taken - wanted):
            chosen.add(place)
            taken += sizes[place]
    return chosen or {min(range(len(sizes)), key=sizes.__getitem__)}


def _utterances(speech: SpeakerFrames | SpeakerUtterances) -> Iterator[Tensor]:
    """Numbers of the items of each utterance."""
    if isinstance(speech, SpeakerFrames):
        frames = torch.arange(speech.frames.num_frames) if speech.numbers is None else speech.numbers
        inner = torch.searchsorted(frames.contiguous(), speech.frames.offsets[1:-1])
        yield from torch.tensor_split(torch.arange(len(frames)), inner)
        return
    begins = [place for place, piece in enumerate(speech.pieces) if not piece.skip]
    yield from torch.tensor_split(torch.arange(len(speech.pieces)), begins[1:])


def _targets_of_items(speech: SpeakerFrames | SpeakerUtterances) -> Tensor:
    if isinstance(speech, SpeakerFrames):
        return torch.ones(speech.num_frames, dtype=torch.int64)
    return torch.tensor([len(piece.targets) for piece in speech.pieces], dtype=torch.int64)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.zeros(0, dtype=torch.int64)


def _or_infinite(value: float) -> float:
    return value if math.isfinite(value) else math.inf
