"""Which of a speaker's utterances are learnt from, and which are recognised again and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from lhuc_asr.errors import ConfigError, SpeakerError
from lhuc_asr.units import Seconds


class Protocol(Enum):
    """``two_pass`` adapts on the speech that it scores, as the paper does; ``enrolment`` keeps the two apart."""

    two_pass = "two_pass"
    enrolment = "enrolment"


@dataclass(kw_only=True, slots=True)
class ProtocolConfig:
    """The protocol, and how much enrolment speech there is; at most one of the three amounts may be given.

    Attributes:
        name: of the protocol.
        num_utterances: learn from that many utterances of each speaker, the first by id.
        seconds: learn from the first utterances until they hold that much audio.
        fraction: learn from that share of each speaker's utterances; enrolment without any amount takes one half.
    """

    name: Protocol = Protocol.two_pass
    num_utterances: int | None = None
    seconds: float | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        given = {
            name: value
            for name in ("num_utterances", "seconds", "fraction")
            if (value := getattr(self, name)) is not None
        }
        if len(given) > 1:
            raise ConfigError(f"give one of protocol.num_utterances, .seconds, .fraction, not {len(given)}: {given}")
        if given and self.name is Protocol.two_pass:
            raise ConfigError(f"protocol.{next(iter(given))} is for protocol=enrolment; two_pass takes all utterances")
        for name, value in given.items():
            if value <= 0:
                raise ConfigError(f"protocol.{name} must be positive, got {value}")
        if self.fraction is not None and self.fraction >= 1:
            raise ConfigError(
                f"protocol.fraction must be below 1 so that something is left to score, got {self.fraction}"
            )


@dataclass(frozen=True, slots=True)
class SpeakerPlan:
    """One speaker's utterances, in the order of their ids.

    Attributes:
        speaker: who.
        adaptation: ids to learn from.
        evaluation: ids to recognise again; the same ones in ``two_pass``.
    """

    speaker: str
    adaptation: tuple[str, ...]
    evaluation: tuple[str, ...]

    @property
    def utterances(self) -> tuple[str, ...]:
        """Every id, once, in order."""
        return tuple(sorted({*self.adaptation, *self.evaluation}))


def plan_speaker(
    speaker: str, utterances: Sequence[str], durations: Mapping[str, Seconds], config: ProtocolConfig
) -> SpeakerPlan:
    """Divide one speaker's utterances as the protocol says.

    Args:
        speaker: who.
        utterances: ids of the speaker's utterances.
        durations: id -> seconds of audio; asked only for ``protocol.seconds``.
        config: the protocol.

    Raises:
        SpeakerError: there is no utterance, or enrolment would leave none to score.
    """
    ordered = tuple(sorted(utterances))
    if not ordered:
        raise SpeakerError(f"speaker {speaker!r} has no utterances")
    if config.name is Protocol.two_pass:
        return SpeakerPlan(speaker, ordered, ordered)
    count = _num_enrolment(ordered, durations, config)
    if count >= len(ordered):
        raise SpeakerError(
            f"speaker {speaker!r} has {len(ordered)} utterances and enrolment takes {count}: none is left to score"
        )
    return SpeakerPlan(speaker, ordered[:count], ordered[count:])


def _num_enrolment(ordered: Sequence[str], durations: Mapping[str, Seconds], config: ProtocolConfig) -> int:
    if config.num_utterances is not None:
        return config.num_utterances
    if config.seconds is None:
        return max(1, round(len(ordered) * (config.fraction or 0.5)))
    total = 0.0
    for count, utterance in enumerate(ordered, start=1):
        total += durations[utterance]
        if total >= config.seconds:
            return count
    return len(ordered)
