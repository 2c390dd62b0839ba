"""Which of a speaker's utterances are learnt from, and which are recognised again and scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from lhuc_asr.data.manifest import Manifest, Utterance
from lhuc_asr.data.splits import enrolment_split, first_utterances
from lhuc_asr.errors import ConfigError
from lhuc_asr.ranges import require_at_least
from lhuc_asr.units import Seconds


class Protocol(Enum):
    """What is learnt from, and what is scored.

    Attributes:
        two_pass: the speech that is scored is learnt from, as in the paper; with an amount, only so much of it.
        enrolment: the two are kept apart.
        online: every utterance is recognised and scored with what was learnt from those before it, then learnt from.
    """

    two_pass = "two_pass"
    enrolment = "enrolment"
    online = "online"


@dataclass(kw_only=True, slots=True)
class ProtocolConfig:
    """The protocol, and how much speech is learnt from; at most one of the three amounts may be given.

    Attributes:
        name: of the protocol.
        scored: score the last so-manieth part of each speaker's utterances, whatever amount is learnt from: runs with
            different amounts are then scored on the same speech. A speaker who has less than the amount before that
            part is learnt from all of it.
        num_utterances: learn from that many utterances of each speaker, the first by id.
        seconds: learn from the first utterances until they hold that much audio.
        fraction: enrolment; learn from that share of each speaker's utterances. Without any amount it takes one half.
        shuffle: count utterances in an order that is drawn with this seed, not in that of their ids: for speech whose
            ids are sorted by what is said, and for several draws of the same amount.
        num_rounds: recognise what is learnt from again with what was learnt, and learn anew from that, so many times in
            all; with adapt.held_out_share it ends sooner where the objective on held-out speech stops falling.
        forgetting: online; share of what was learnt that is forgotten before each utterance is learnt from.
        reset_every: online; give up what was learnt after so many utterances.
        reset_gap: online; give it up where so many seconds lie between two utterances of one recording, as when
            somebody else has sat down. Between recordings nobody knows the time, so nothing is reset there.
    """

    name: Protocol = Protocol.two_pass
    scored: float | None = None
    num_utterances: int | None = None
    seconds: float | None = None
    fraction: float | None = None
    shuffle: int | None = None
    num_rounds: int = 1
    forgetting: float = 0.0
    reset_every: int | None = None
    reset_gap: float | None = None

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
        self._check_amount(given)
        if self.shuffle is not None and not (given or self.name is Protocol.enrolment):
            raise ConfigError(
                f"protocol.shuffle changes nothing under protocol={self.name.name}, where nothing is chosen: take "
                "protocol=enrolment, or protocol=two_pass with protocol.seconds or .num_utterances"
            )
        for name, value in given.items():
            if value <= 0:
                raise ConfigError(f"protocol.{name} must be positive, got {value}")
        if self.fraction is not None and self.fraction >= 1:
            raise ConfigError(
                f"protocol.fraction must be below 1 so that something is left to score, got {self.fraction}"
            )
        require_at_least(1, self, "protocol", "num_rounds")
        if self.num_rounds > 1 and self.name is Protocol.online:
            raise ConfigError("protocol.num_rounds is for speech that is known as a whole, not for protocol=online")
        self._check_online()

    def _check_amount(self, given: Mapping[str, float]) -> None:
        if given and self.name is Protocol.online:
            raise ConfigError(f"protocol.{next(iter(given))} is not for protocol=online, which learns from everything")
        if self.fraction is not None and self.name is not Protocol.enrolment:
            raise ConfigError(
                f"protocol.fraction is for protocol=enrolment; give {self.name.name} .num_utterances or .seconds"
            )

    def _check_scored(self) -> None:
        if self.name is not Protocol.enrolment:
            raise ConfigError(f"protocol.scored is for protocol=enrolment; {self.name.name} scores all utterances")
        assert self.scored is not None
        if not 0 < self.scored < 1:
            raise ConfigError(f"protocol.scored must be above 0 and below 1, got {self.scored}")
        if self.fraction is not None:
            raise ConfigError(
                "protocol.scored and .fraction are shares of the same utterances; give protocol.scored with .seconds, "
                "with .num_utterances, or alone to learn from all of the rest"
            )

    def _check_online(self) -> None:
        given = {"forgetting": self.forgetting, "reset_every": self.reset_every, "reset_gap": self.reset_gap}
        named = [name for name, value in given.items() if value]
        if named and self.name is not Protocol.online:
            raise ConfigError(f"protocol.{named[0]} is for protocol=online, not {self.name.name}")
        if not 0 <= self.forgetting <= 1:
            raise ConfigError(f"protocol.forgetting must be from 0 to 1, got {self.forgetting}")
        if self.reset_every is not None and self.reset_every < 1:
            raise ConfigError(f"protocol.reset_every must be at least 1, got {self.reset_every}")
        if self.reset_gap is not None and not self.reset_gap > 0:
            raise ConfigError(f"protocol.reset_gap must be positive, got {self.reset_gap}")

    @property
    def enrolment_fraction(self) -> float | None:
        """The share to learn from: one half where no other amount is given."""
        return 0.5 if self.num_utterances is None and self.seconds is None and self.fraction is None else self.fraction


@dataclass(frozen=True, slots=True)
class SpeakerPlan:
    """One speaker's utterances, in the order of their ids; online as they were said, recording by recording.

    Attributes:
        speaker: who.
        adaptation: ids to learn from.
        evaluation: ids to recognise again; all of them in ``two_pass`` and ``online``.
        resets: of ``online``: ids before which everything that was learnt is given up.
        spare: ids that are neither learnt from nor scored; the first pass covers them all the same, so that runs with
            other amounts of speech share it.
    """

    speaker: str
    adaptation: tuple[str, ...]
    evaluation: tuple[str, ...]
    resets: frozenset[str] = frozenset()
    spare: tuple[str, ...] = ()

    @property
    def utterances(self) -> tuple[str, ...]:
        """Every id, once, in order."""
        return tuple(sorted({*self.adaptation, *self.evaluation, *self.spare}))


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
        return SpeakerPlan(speaker, _ids(_amount_of(manifest, config)), _ids(manifest))
    if config.name is Protocol.online:
        spoken = sorted(manifest, key=lambda utterance: (utterance.recording.id, utterance.start, utterance.id))
        order = tuple(utterance.id for utterance in spoken)
        return SpeakerPlan(speaker, order, order, frozenset(_resets(spoken, config)))
    if config.scored is not None:
        split = enrolment_split(manifest, fraction=1 - config.scored, shuffle=config.shuffle)
        first = _ids(_amount_of(split.adaptation, config))
        spare = tuple(name for name in _ids(split.adaptation) if name not in first)
        return SpeakerPlan(speaker, first, _ids(split.evaluation), spare=spare)
    split = enrolment_split(
        manifest,
        num_utterances=config.num_utterances,
        seconds=config.seconds,
        fraction=config.enrolment_fraction,
        shuffle=config.shuffle,
    )
    return SpeakerPlan(speaker, _ids(split.adaptation), _ids(split.evaluation))


def _amount_of(manifest: Manifest, config: ProtocolConfig) -> Manifest:
    """So much as is to be learnt from, all where no amount is given."""
    return first_utterances(
        manifest, num_utterances=config.num_utterances, seconds=config.seconds, shuffle=config.shuffle
    )


def _resets(spoken: Sequence[Utterance], config: ProtocolConfig) -> Iterator[str]:
    """Utterances that begin anew; never the first, where nothing has been learnt."""
    since = 0
    for before, utterance in pairwise(spoken):
        since += 1
        gap = _gap(before, utterance)
        if since == config.reset_every or (config.reset_gap is not None and gap >= config.reset_gap):
            since = 0
            yield utterance.id


def _gap(before: Utterance, utterance: Utterance) -> Seconds:
    """Seconds between two utterances of one recording; 0 where they are not of one, or the end is not known."""
    if before.recording.id != utterance.recording.id or before.end is None:
        return 0.0
    return utterance.start - before.end


def _ids(manifest: Manifest) -> tuple[str, ...]:
    return tuple(sorted(utterance.id for utterance in manifest))
