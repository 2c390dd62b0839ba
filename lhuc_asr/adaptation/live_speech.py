"""Online adaptation to many speakers side by side; each one's second pass is what was recognised on the way."""

from __future__ import annotations

from collections.abc import Iterator

from lhuc_asr.adaptation.objectives.lower_part import device_of
from lhuc_asr.adaptation.online import OnlineAdaptation, OnlineRun
from lhuc_asr.adaptation.parameters.stored import Stored
from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
from lhuc_asr.adaptation.run import AdaptationRun
from lhuc_asr.adaptation.speaker_store import SpeakerWork
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.progress import track


def adapt_to_live_speech(run: AdaptationRun) -> Iterator[SpeakerResult | SpeakerFailure]:
    """Every speaker of a run, in the order given."""
    first = run.first_passes()
    plans = [speaker.plan for speaker in run.speakers]
    make = run.source.maker(plans, first)
    ground, recognition = run.ground, run.recognition
    adapt = OnlineAdaptation(
        ground.system,
        ground.sites,
        ground.settings,
        recognition.decoder,
        make,
        recognition.feats,
        run.expected,
        ground.criterion,
    )
    learning, search = run.meter("update"), run.meter("second_pass")
    shift = ground.system.output_shift_ms
    num_jobs = recognition.num_jobs if device_of(ground.system.network).type == "cpu" else 1
    runs = track(map_in_processes(adapt, plans, num_jobs=num_jobs), "online", total=len(plans), unit="speaker")
    for speaker, course in zip(run.speakers, runs, strict=True):
        if isinstance(course, str):
            yield speaker.failure(course, first[speaker.name])
            continue
        num_frames = sum(len(own.transition_ids) for own in course.recognised.hypotheses.values())
        search.add(num_frames=num_frames, cpu=course.search, frame_shift_ms=shift)
        learning.add(num_frames=num_frames, cpu=course.updated.cpu, frame_shift_ms=shift)
        stored = _store(run, speaker, course)
        second = course.recognised if run.second_pass else None
        yield run.store.result(speaker, stored, first[speaker.name], second)


def _store(run: AdaptationRun, speaker: SpeakerWork, course: OnlineRun) -> Stored:
    """Words and scales, with the utterances that led to them."""
    run.store.second_passes.put(speaker.name, speaker.keys.second_pass, course.recognised)
    settings = {**run.ground.settings.plain(), "online": [step.plain() for step in course.steps]}
    return run.store.keep(speaker, course.updated, course.kept, settings)
