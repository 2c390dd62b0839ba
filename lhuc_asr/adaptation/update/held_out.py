"""Speech that a speaker is judged by and not learnt from, so that learning stops without references."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.objectives.utterances import SpeakerUtterances
from lhuc_asr.errors import ConfigError
from lhuc_asr.ranges import require_at_least, require_finite


@dataclass(kw_only=True)
class HeldOutConfig:
    """How much speech is held out, and what is concluded from it; without slots, to be one base of several.

    Attributes:
        held_out_share: of a speaker's frames, in whole utterances, from 0 (nothing is held out, every sweep is done and
            the last one counts) to 0.5. After every sweep the objective is measured on them, and the scales of the
            best sweep are kept; if the model without scales is best, the speaker's scales are the identity.
        held_out_gain: the best sweep must be better than no scales by more than that, in nats a target.
        patience: learning stops when the objective has not improved for so many sweeps.

    When not to use it: with some seconds of speech, for what is held out is not learnt from, and one utterance then
    decides. Nor does it tell wrong words: held-out targets come from the same first pass.
    """

    held_out_share: float = 0.0
    held_out_gain: float = 0.0
    patience: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share <= 0.5:
            raise ConfigError(f"adapt.held_out_share must be from 0 to 0.5, got {self.held_out_share}")
        require_at_least(0, self, "adapt", "held_out_gain")
        require_finite(self, "adapt", "held_out_gain")
        require_at_least(1, self, "adapt", "patience")


class Verdict(Enum):
    """Whether a speaker's scales are used: ``accepted``, ``shrunk``, ``fell_back``, ``not_judged``.

    ``fell_back`` is to the identity; under a guard to the scales that the first pass was made with, if it had any.
    """

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
        utterances_learnt: ids of the utterances that are learnt from, be it in part.
        utterances_held_out: ids of those that are held out as a whole.
    """

    learnt: Tensor
    held_out: Tensor
    num_learnt: int
    num_held_out: int
    utterances_learnt: tuple[str, ...] = ()
    utterances_held_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Part:
    """An utterance, or a part of one: its id, the numbers of its items, and their targets."""

    utterance: str
    items: Tensor
    num_targets: int


def divide(speech: SpeakerFrames | SpeakerUtterances, share: float, *, seed: int) -> Division:
    """Hold out whole utterances, chosen at random, whose targets come as near to a share as they can.

    A single utterance that is learnt from frame by frame is divided, and its end held out; one that must be whole is
    not, and nothing is held out.

    Args:
        speech: of one speaker.
        share: of the targets, 0 to 0.5.
        seed: of the choice.
    """
    utterances = [part for part in _utterances(speech) if len(part.items)]
    if share > 0 and len(utterances) == 1 and isinstance(speech, SpeakerFrames):
        return _divided_within(utterances[0], share)
    chosen = _chosen([part.num_targets for part in utterances], share, seed) if share > 0 else set()
    kept, apart = ([part for n, part in enumerate(utterances) if (n in chosen) is out] for out in (False, True))
    return _division(kept, apart, tuple(part.utterance for part in apart))


def _divided_within(one: _Part, share: float) -> Division:
    """The end of an utterance of frames is held out; a single frame is learnt from."""
    num_frames = len(one.items)
    num_kept = max(1, min(num_frames - 1, round(num_frames * (1 - share))))
    kept, apart = (_Part(one.utterance, items, len(items)) for items in (one.items[:num_kept], one.items[num_kept:]))
    return _division([kept], [apart], ())


def _division(kept: Sequence[_Part], apart: Sequence[_Part], utterances_held_out: tuple[str, ...]) -> Division:
    return Division(
        learnt=_joined([part.items for part in kept]),
        held_out=_joined([part.items for part in apart]),
        num_learnt=sum(part.num_targets for part in kept),
        num_held_out=sum(part.num_targets for part in apart),
        utterances_learnt=tuple(part.utterance for part in kept),
        utterances_held_out=utterances_held_out,
    )


def _chosen(sizes: Sequence[int], share: float, seed: int) -> set[int]:
    """Utterances in random order, each taken if that brings their targets nearer to the share; at least one of two."""
    if len(sizes) < 2:
        return set()
    wanted, taken = share * sum(sizes), 0
    chosen: set[int] = set()
    generator = torch.Generator().manual_seed(seed)
    for place in torch.randperm(len(sizes), generator=generator).tolist():
        if abs(taken + sizes[place] - wanted) < abs(taken - wanted):
            chosen.add(place)
            taken += sizes[place]
    return chosen or {min(range(len(sizes)), key=sizes.__getitem__)}


def _utterances(speech: SpeakerFrames | SpeakerUtterances) -> Iterator[_Part]:
    """Every utterance; of frames also those of which none is learnt from."""
    if isinstance(speech, SpeakerFrames):
        frames = torch.arange(speech.frames.num_frames) if speech.numbers is None else speech.numbers
        inner = torch.searchsorted(frames.contiguous(), speech.frames.offsets[1:-1])
        parts = torch.tensor_split(torch.arange(len(frames)), inner)
        names = speech.utterances or tuple(map(str, range(len(parts))))
        yield from (_Part(name, items, len(items)) for name, items in zip(names, parts, strict=True))
        return
    begin = 0
    for name, group in groupby(speech.pieces, key=lambda piece: piece.utterance):
        pieces = list(group)
        end = begin + len(pieces)
        yield _Part(name, torch.arange(begin, end), sum(len(piece.targets) for piece in pieces))
        begin = end


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.zeros(0, dtype=torch.int64)


def _or_infinite(value: float) -> float:
    return value if math.isfinite(value) else math.inf
