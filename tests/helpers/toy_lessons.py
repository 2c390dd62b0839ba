"""Lessons of toy utterances."""

from __future__ import annotations

from typing import Any

from helpers.toy_utterances import ALIGNER, ToyUtterances, toy_utterances
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.system.lessons import Lessons
from lhuc_asr.system.training_speech import TrainingSpeech

SPEECH = toy_utterances(8, num_phones=(3, 9))


def lessons(hmm: HmmModel = ALIGNER, speech: ToyUtterances = SPEECH) -> Lessons:
    """The last two utterances are held out."""
    everything: Any = TrainingSpeech(
        manifest=Manifest(()),
        feats=speech.feats,  # type: ignore[arg-type]
        source={name: name for name in speech.names},
        speed=dict.fromkeys(speech.names, 1.0),
        num_frames={name: len(matrix) for name, matrix in speech.feats.items()},
        key="",
    )
    return Lessons(
        speech=everything,
        alignments=speech.alignments,
        aligner=ALIGNER,
        hmm=hmm,
        training=speech.names[:-2],
        validation=speech.names[-2:],
    )
