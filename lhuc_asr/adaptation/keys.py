"""Keys: two pieces of work with the same key would give the same result, so the second need not be done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from lhuc_asr.adaptation.parameters.priors import content_of
from lhuc_asr.adaptation.passes.protocol import Protocol, ProtocolConfig, SpeakerPlan
from lhuc_asr.adaptation.passes.speaker_passes import Feats
from lhuc_asr.adaptation.targets.config import Selection, Supervision
from lhuc_asr.adaptation.targets.criterion import AdaptCriterion
from lhuc_asr.adaptation.targets.other_words import OtherWords
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.guard import GuardConfig
from lhuc_asr.decoding.calibration import Calibration
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.files import sha256
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.settings import canonical, to_plain
from lhuc_asr.tensors import digest


@dataclass(frozen=True, kw_only=True)
class AdaptationSettings:
    """What the user decides about an adaptation.

    Attributes:
        lhuc: which layers are scaled, by which function.
        adapt: how the scales are learnt.
        protocol: what is learnt from and what is scored.
        guard: which scales may be used.
    """

    lhuc: LhucConfig
    adapt: AdaptConfig
    protocol: ProtocolConfig
    guard: GuardConfig = field(default_factory=GuardConfig)

    def __post_init__(self) -> None:
        if self.protocol.num_rounds > 1 and not self.adapt.learns_from_passes:
            raise ConfigError(
                f"protocol.num_rounds learns from what is recognised anew, adapt.supervision="
                f"{self.adapt.supervision.name} from something else; leave it out"
            )
        self._check_guard()
        if self.protocol.name is Protocol.online:
            self._check_online()

    def _check_guard(self) -> None:
        plain = GuardConfig()
        for limit in fields(plain):
            asked = getattr(self.guard, limit.name)
            if not self.guard.enabled and asked != getattr(plain, limit.name):
                raise ConfigError(
                    f"guard.{limit.name}={asked} has no effect: it needs guard.enabled=true, as guard=decoded has it; "
                    "give that, or leave it out"
                )

    def _check_online(self) -> None:
        for name, given in (("guard", self.guard.enabled), ("adapt.held_out_share", self.adapt.held_out_share > 0)):
            if given:
                raise ConfigError(f"{name} judges a speaker's whole speech; leave it out with protocol=online")
        if self.adapt.best_share < 1 and self.adapt.share_of is Selection.utterances:
            raise ConfigError(
                f"adapt.best_share={self.adapt.best_share:g} chooses among a speaker's utterances, and protocol=online "
                "knows one at a time; give adapt.share_of=frames, or adapt.min_confidence in its place"
            )

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {name: to_plain(getattr(self, name)) for name in ("lhuc", "adapt", "protocol", "guard")}


@dataclass(frozen=True)
class SpeakerKeys:
    """Keys of one speaker's three pieces of work.

    Attributes:
        first_pass: model, graph, decoding settings, and the speech of all utterances.
        update: model, settings, the speech that is learnt from, and where its targets come from.
        second_pass: the update, graph, decoding settings, and the speech that is scored.
    """

    first_pass: str
    update: str
    second_pass: str


def search_key(system: AcousticSystem, start: LhucAdapter | None = None) -> str:
    """Key of everything but the speech that decides a first pass.

    Args:
        system: the model.
        start: scales with which it recognises, if there are any before something is learnt.
    """
    began = [start.kind.name, digest(start.r)] if start else []
    return _digest([system.fingerprint, to_plain(system.decoding), sha256(system.graph_path), *began])


def speaker_keys(
    plan: SpeakerPlan,
    feats: Feats,
    transcripts: Mapping[str, str],
    settings: AdaptationSettings,
    search: str,
    *,
    calibration: Calibration | None = None,
    others: Mapping[str, OtherWords] | None = None,
    criterion: AdaptCriterion | None = None,
) -> SpeakerKeys:
    """Keys of a speaker's work; features and priors count by content, so that other ones of the same name are noticed.

    Args:
        plan: the speaker's utterances.
        feats: utterance id -> (T, F) normalised.
        transcripts: utterance id -> words; they count only where targets come from them.
        settings: of the adaptation.
        search: `search_key` of the model, and of the speaker's own start where there is one.
        others: utterance id -> another system's words, where targets come from them.
        calibration: of confidences; it counts only where targets come with confidences of words.
        criterion: what judges the outputs.

    Raises:
        DataError: an utterance has no features.
        ProfileError: a prior cannot be read.
    """
    speech = {utterance: _digest_of_feats(utterance, feats) for utterance in plan.utterances}
    words = _words(plan, settings, transcripts, others or {})
    first_pass = _digest([search, _part(speech, plan.utterances)])
    adapt = {**to_plain(settings.adapt), **content_of(settings.adapt)}
    learnt = [search, to_plain(settings.lhuc), adapt, _part(speech, plan.adaptation), words]
    if settings.adapt.needs_calibration:
        learnt.append(to_plain(calibration or Calibration()))
    if settings.protocol.num_rounds > 1:
        learnt.append(["rounds", settings.protocol.num_rounds])
    if settings.protocol.name is Protocol.online:
        learnt.append(["online", settings.protocol.forgetting, sorted(plan.resets)])
    if settings.guard.enabled:
        learnt.append(to_plain(settings.guard))
    learnt += criterion.identity() if criterion else []
    update = _digest(learnt)
    return SpeakerKeys(first_pass, update, _digest([search, update, _part(speech, plan.evaluation)]))


def _words(
    plan: SpeakerPlan, settings: AdaptationSettings, transcripts: Mapping[str, str], others: Mapping[str, OtherWords]
) -> list[Any] | None:
    """Words that targets come from, where they are not those of the first pass."""
    if settings.adapt.supervision is Supervision.oracle:
        return [transcripts.get(utterance) for utterance in plan.adaptation]
    if settings.adapt.supervision is Supervision.words:
        known = (others.get(utterance) for utterance in plan.adaptation)
        return [[list(own.words), own.confidences and list(own.confidences)] if own else None for own in known]
    return None


def _part(speech: Mapping[str, str], utterances: Iterable[str]) -> list[list[str]]:
    return [[utterance, speech[utterance]] for utterance in utterances]


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _digest_of_feats(utterance: str, feats: Feats) -> str:
    if utterance not in feats:
        raise DataError(f"utterance {utterance!r} has no features")
    values = np.ascontiguousarray(feats[utterance], dtype=np.float32)
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()
