"""Adaptation to speakers whose speech lies recorded as a whole: first pass, targets and update, second pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lhuc_asr.adaptation.learning import Learning
from lhuc_asr.adaptation.parameters.own import Beginning, OwnParameters
from lhuc_asr.adaptation.parameters.sets import ParameterSet
from lhuc_asr.adaptation.parameters.stored import Stored, StoredParameters
from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
from lhuc_asr.adaptation.run import AdaptationRun
from lhuc_asr.adaptation.speaker_store import SpeakerWork


def adapt_to_whole_speech(run: AdaptationRun) -> Iterator[SpeakerResult | SpeakerFailure]:
    """Every speaker of a run, as soon as nothing is left to do for that speaker."""
    first = run.first_passes()
    learnt: dict[str, Stored] = {}
    for speaker, outcome in _learn(run, first):
        if isinstance(outcome, str):
            yield speaker.failure(outcome, first[speaker.name])
        elif run.second_pass:
            learnt[speaker.name] = outcome
        else:
            yield run.store.result(speaker, outcome, first[speaker.name], None)
    if learnt:
        yield from _recognise_again(run, learnt, first)


def _learn(run: AdaptationRun, first: Mapping[str, SpeakerPass]) -> Iterator[tuple[SpeakerWork, Stored | str]]:
    """What is stored is read, the rest is learnt and stored; or the reason why there is nothing."""
    missing: dict[str, SpeakerWork] = {}
    for speaker in run.speakers:
        if (stored := run.store.learnt(speaker)) is not None and stored.r:
            yield speaker, stored
        else:
            missing[speaker.name] = speaker
    for name, found in Learning(run)(missing, first):
        if isinstance(found, str):
            yield missing[name], found
        else:
            kept, settings = found.targets.kept(), run.ground.settings.plain()
            yield missing[name], run.store.keep(missing[name], found.updated, kept, settings)


def _recognise_again(
    run: AdaptationRun, learnt: Mapping[str, Stored], first: Mapping[str, SpeakerPass]
) -> Iterator[SpeakerResult]:
    speakers = {speaker.name: speaker for speaker in run.speakers if speaker.name in learnt}
    passes = run.recognition(
        {name: speaker.plan.evaluation for name, speaker in speakers.items()},
        {name: _attachable(learnt[name], run.ground.own) for name in speakers},
        description="second pass",
        meter=run.meter("second_pass"),
    )
    for name, result in passes:
        run.store.second_passes.put(name, speakers[name].keys.second_pass, result)
        yield run.store.result(speakers[name], learnt[name], first[name], result)


def _attachable(stored: Stored, own: ParameterSet | None) -> Beginning:
    if isinstance(stored, StoredParameters):
        assert own is not None
        return OwnParameters(own, stored.r)
    return stored.adapter()
