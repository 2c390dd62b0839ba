"""Which of a speaker's utterances are learnt from, and which are recognised again and scored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lhuc_asr.data.manifest import Manifest
from lhuc_asr.data.splits import enrolment_split, first_utterances
from lhuc_asr.errors import ConfigError


class Protocol(Enum):
    """``two_pass`` adapts on the speech that it scores, as the paper does; ``enrolment`` keeps the two apart."""

    two_pass = "two_pass"
    enrolment = "enrolment"


@dataclass(kw_only=True, slots=True)
class ProtocolConfig:
    """The protocol, and how much enrolment speech there is; at most one of the three amounts may be given.

    Attributes:
        name: of the protocol.
        scored: score the last so-manieth part of each speaker's utterances, whatever amount is learnt from: runs with
            different amounts are then scored on the same speech. A speaker who has less than the amount before that
            part is learnt from all of it.
        num_utterances: learn from that many utterances of each speaker, the first by id.
        seconds: learn from the first utterances until they hold that much audio.
        fraction: learn from that share of each speaker's utterances; enrolment without any amount takes one half.
    """

    name: Protocol = Protocol.two_pass
    scored: float | None = None
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
        if self.scored is not None:
            self._check_scored()
        if given and self.name is Protocol.two_pass:
            raise ConfigError(f"protocol.{next(iter(given))} is for protocol=enrolment; two_pass takes all utterances")
        for name, value in given.items():
            if value <= 0:
                raise ConfigError(f"protocol.{name} must be positive, got {value}")
        if self.fraction is not None and self.fraction >= 1:
            raise ConfigError(
                f"protocol.fraction must be below 1 so that something is left to score, got {self.fraction}"
            )

    def _check_scored(self) -> None:
        if self.name is Protocol.two_pass:
            raise ConfigError("protocol.scored is for protocol=enrolment; two_pass scores all utterances")
        assert self.scored is not None
        if not 0 < self.scored < 1:
            raise ConfigError(f"protocol.scored must be above 0 and below 1, got {self.scored}")
        if self.fraction is not None:
            raise ConfigError(
                "protocol.scored and .fraction are shares of the same utterances; give protocol.scored with .seconds, "
                "with .num_utterances, or alone to learn from all of the rest"
            )

    @property
    def enrolment_fraction(self) -> float | None:
        """The share to learn from: one half where no other amount is given."""
        return 0.5 if self.num_utterances is None and self.seconds is None and self.fraction is None else self.fraction


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


def plan_speaker(speaker: str, manifest: Manifest, config: ProtocolConfig) -> SpeakerPlan:
    """Divide one speaker's utterances as the protocol says.

    Args:
        speaker: who.
        manifest: the speaker's utterances and nobody else's.
        config: the protocol.

    Raises:
        SpeakerError: enrolment would leave nothing to score.
        AudioError: ``protocol.seconds`` needs the length of a recording that cannot be read.
    """
    if config.name is Protocol.two_pass:
        return SpeakerPlan(speaker, _ids(manifest), _ids(manifest))
    if config.scored is not None:
        split = enrolment_split(manifest, fraction=1 - config.scored)
        first = first_utterances(split.adaptation, num_utterances=config.num_utterances, seconds=config.seconds)
        return SpeakerPlan(speaker, _ids(first), _ids(split.evaluation))
    split = enrolment_split(
        manifest, num_utterances=config.num_utterances, seconds=config.seconds, fraction=config.enrolment_fraction
    )
    return SpeakerPlan(speaker, _ids(split.adaptation), _ids(split.evaluation))


def _ids(manifest: Manifest) -> tuple[str, ...]:
    return tuple(sorted(utterance.id for utterance in manifest))
