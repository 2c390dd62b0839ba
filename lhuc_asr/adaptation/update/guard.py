"""Whether a speaker's scales may be used, judged from what is recognised with them, without references.

The scales recognise speech of the speaker again, where some is held out that speech, and what they do to the words is
compared with the first pass. Scales that ran away, or collapsed into silence or into one word, are stopped that way;
whether a few words became better or worse cannot be told by it. So the guard is for safety, not for gain: leave it off
where somebody reads transcripts of the speaker anyway.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lhuc_asr.adaptation.targets.agreement import share_changed
from lhuc_asr.adaptation.update.held_out import Verdict
from lhuc_asr.decoding.words.hypothesis import Hypothesis
from lhuc_asr.errors import ConfigError
from lhuc_asr.ranges import require_at_least

_TEST = "decoding of the speaker's speech"


@dataclass(kw_only=True, slots=True)
class GuardConfig:
    """Which changes scales may bring; a limit of ``inf`` tests nothing.

    Attributes:
        enabled: judge at all; recognition of the speech that is held out, or of all speech that was learnt from, is
            then done once more for each strength that is tried.
        max_changed: words that differ from the first pass, per word of the first pass.
        max_length_change: more or fewer words, per word of the first pass.
        max_entropy_change: nats per frame by which the network may become surer, or less sure.
        max_cost_rise: nats per frame by which the best path's cost may rise.
        shrink: strengths that are tried in turn where the whole scales fail, each below 1: r becomes so small a part
            of its way from the prior's mean, from the start that was predicted, or from the identity. When all fail,
            the speaker falls back to what the first pass was made with: the start, or the identity.
    """

    enabled: bool = False
    max_changed: float = 0.3
    max_length_change: float = 0.2
    max_entropy_change: float = 0.5
    max_cost_rise: float = 0.01
    shrink: list[float] = field(default_factory=lambda: [0.5, 0.25])

    def __post_init__(self) -> None:
        changes = ("max_changed", "max_length_change", "max_entropy_change", "max_cost_rise")
        require_at_least(0, self, "guard", *changes)
        if not all(0 < strength < 1 for strength in self.shrink):
            raise ConfigError(f"guard.shrink must lie between 0 and 1, got {self.shrink}")
        if any(later >= earlier for earlier, later in zip(self.shrink, self.shrink[1:], strict=False)):
            raise ConfigError(f"guard.shrink must fall from one strength to the next, got {self.shrink}")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What scales of one strength did to the speech that they were tried on.

    Attributes:
        strength: 1 is the whole scales.
        changed: words that differ from the first pass, per word of it.
        length_change: more words than the first pass, per word of it; below 0 there are fewer.
        entropy_change: mean entropy of the network per frame, in nats, against the first pass.
        cost_change: cost of the best path per frame, in nats, against the first pass.
        failed: tests that it failed.
    """

    strength: float
    changed: float
    length_change: float
    entropy_change: float
    cost_change: float
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GuardReport:
    """The verdict on one speaker's scales.

    Attributes:
        trials: in the order in which they were made; none where held-out speech had refused the scales before.
        strength: that is used; 0 is what the first pass was made with.
        num_utterances: on which they were tried.
        held_out: whether these were not learnt from.
    """

    trials: tuple[Trial, ...]
    strength: float
    num_utterances: int
    held_out: bool

    @property
    def verdict(self) -> Verdict:
        """Whether scales are used."""
        if self.strength == 1:
            return Verdict.accepted
        return Verdict.shrunk if self.strength else Verdict.fell_back

    def __str__(self) -> str:
        if not self.trials:
            return "guard: fell back before"
        speech = f"{self.num_utterances} utterances" + " held out" * self.held_out
        failed = f" ({', '.join(self.trials[0].failed)})" if self.trials[0].failed else ""
        to = f" to {self.strength:g}" if self.verdict is Verdict.shrunk else ""
        return f"guard: {self.verdict.value}{to}{failed} on {speech}"

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "test": _TEST,
            "verdict": self.verdict.value,
            "strength": self.strength,
            "num_utterances": self.num_utterances,
            "on_held_out_speech": self.held_out,
            "trials": [{**asdict(trial), "failed": list(trial.failed)} for trial in self.trials],
        }

    @staticmethod
    def from_plain(plain: Any) -> GuardReport | None:
        """What `plain` gave; None where it is something else."""
        if not isinstance(plain, dict) or plain.get("test") != _TEST:
            return None
        return GuardReport(
            trials=tuple(Trial(**{**trial, "failed": tuple(trial["failed"])}) for trial in plain["trials"]),
            strength=plain["strength"],
            num_utterances=plain["num_utterances"],
            held_out=plain["on_held_out_speech"],
        )


def tried(
    first: Mapping[str, Hypothesis],
    adapted: Mapping[str, Hypothesis],
    *,
    strength: float,
    entropy_change: float,
    config: GuardConfig,
) -> Trial:
    """Compare what scales recognise with the first pass.

    Args:
        first: utterance id -> first pass of the speech that is tried on.
        adapted: the same with the scales; an utterance that is absent has no words.
        strength: of the scales.
        entropy_change: of the network per frame, in nats.
        config: the limits.
    """
    known = {name: adapted[name] for name in first if name in adapted}
    num_words, num_others = (sum(len(found.words) for found in own.values()) for own in (first, known))
    measured = {
        "changed": share_changed(first, known),
        "length_change": (num_others - num_words) / max(1, num_words),
        "entropy_change": entropy_change,
        "cost_change": _cost_change(first, adapted),
    }
    return Trial(strength=strength, **measured, failed=tuple(_failures(measured, config)))


def _failures(measured: Mapping[str, float], config: GuardConfig) -> Sequence[str]:
    limits = {
        "words changed": (measured["changed"], config.max_changed),
        "length": (abs(measured["length_change"]), config.max_length_change),
        "entropy": (abs(measured["entropy_change"]), config.max_entropy_change),
        "cost": (measured["cost_change"], config.max_cost_rise),
    }
    return [name for name, (found, limit) in limits.items() if math.isnan(found) or found > limit]


def _cost_change(first: Mapping[str, Hypothesis], adapted: Mapping[str, Hypothesis]) -> float:
    """Of the utterances that have a path in both, per frame."""
    both = [(own, adapted[name]) for name, own in first.items() if name in adapted]
    num_frames = sum(len(own.transition_ids) for own, _ in both)
    return sum(_cost(other) - _cost(own) for own, other in both) / max(1, num_frames)


def _cost(hypothesis: Hypothesis) -> float:
    return hypothesis.graph_cost + hypothesis.acoustic_cost
