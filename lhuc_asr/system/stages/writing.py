"""The last stage: language model, decoding graph, and the model directory with everything in it."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

from lhuc_asr.errors import ModelError
from lhuc_asr.files import sha256, write_json
from lhuc_asr.lang.arpa import ArpaModel, read_arpa
from lhuc_asr.lang.kneser_ney import estimate_ngram
from lhuc_asr.lang.mixture import mixture, mixture_weights
from lhuc_asr.system.model_directory import AcousticSystem, SystemParts, load_system, write_system
from lhuc_asr.system.settings import to_plain
from lhuc_asr.system.stages.learning import Learnt
from lhuc_asr.system.stages.workplace import Workplace
from lhuc_asr.system.trained_objective import objective_path, write_objective
from lhuc_asr.units import frames_to_seconds

REPORT = "build.json"
SPEAKERS = "speakers"
"""Folder of the training speakers' profiles."""


def write_model(place: Workplace, learnt: Learnt, directory: Path) -> None:
    """Write the model directory and ``build.json``."""
    inputs, settings = place.inputs, place.settings

    def make(_: Path) -> None:
        lm = learnt.lm or language_model(place)
        parts = SystemParts(
            network=learnt.network,
            log_prior=learnt.log_prior,
            features=settings.features,
            hmm=learnt.hmm,
            lexicon=learnt.lexicon,
            lm=lm,
            graph=learnt.graph(lm),
            decoding=learnt.decoding or settings.decoding,
            projection=learnt.projection,
            speaker_gmm=learnt.speaker_gmm,
        )
        system = write_system(directory, parts)
        _write_speakers(place, learnt, system)
        write_json(directory / REPORT, _report(place, lm))

    text = inputs.sentences if inputs.arpa is None else sha256(inputs.arpa)
    mixed = [inputs.mixed_texts, inputs.weighed_on] if inputs.mixed_texts else []
    place.run_stage(
        "model",
        [learnt.key, text, *mixed, settings.lm, settings.graph, learnt.decoding or settings.decoding],
        make,
        is_whole=lambda: _is_whole(directory),
    )


def _write_speakers(place: Workplace, learnt: Learnt, system: AcousticSystem) -> None:
    """The training speakers' scales, as profiles of this model."""
    scales, sat = learnt.scales, place.settings.sat
    if scales is None or not sat.keep_speakers:
        shutil.rmtree(system.directory / SPEAKERS, ignore_errors=True)  # they are of the model that was here before
        return
    seconds: dict[str, float] = defaultdict(float)
    for name in place.training_ids:
        num_frames = place.speech.num_frames[name]
        seconds[place.speech.manifest.speaker_of[name]] += frames_to_seconds(num_frames, system.features.frame_shift_ms)
    settings = {"sat": to_plain(sat)}
    scales.write_profiles(
        system.directory / SPEAKERS, base_fingerprint=system.fingerprint, seconds=seconds, settings=settings
    )


def keep_objective(place: Workplace, learnt: Learnt, directory: Path) -> None:
    """Write what adaptation needs to know of the training beside the model, where its outputs are scores."""
    make_objective, path = learnt.objective, objective_path(directory)
    if make_objective is None:
        path.unlink(missing_ok=True)
        return
    system = load_system(directory)

    def make(_: Path) -> None:
        if (objective := make_objective()) is not None:
            write_objective(directory, objective, fingerprint=system.fingerprint)

    place.run_stage("objective", [learnt.key, system.fingerprint], make, is_whole=path.is_file)


def language_model(place: Workplace) -> ArpaModel:
    """The one that was given, or one estimated from the text, or a mixture of those of several texts."""
    inputs, order = place.inputs, place.settings.lm.order
    if inputs.arpa is not None:
        return read_arpa(inputs.arpa)
    texts = (inputs.sentences or tuple(inputs.manifest.transcripts.values()), *inputs.mixed_texts)
    models = [estimate_ngram(map(str.split, text), order=order, vocabulary=inputs.lexicon.words) for text in texts]
    if len(models) == 1:
        return models[0]
    weights = mixture_weights(models, map(str.split, inputs.weighed_on))
    place.facts["lm_weights"] = [round(weight, 5) for weight in weights]
    return mixture(models, weights)


def _report(place: Workplace, lm: ArpaModel) -> dict[str, Any]:
    """What the stages gave, for people and programs."""
    inputs = place.inputs
    text = [sentence.split() for sentence in inputs.manifest.transcripts.values()]
    return {
        **place.facts,
        "training_utterances": len(inputs.manifest),
        "training_speakers": len(inputs.manifest.speakers),
        "oov": str(inputs.lexicon.oov_report(inputs.manifest.transcripts.values())),
        "lm_order": lm.order,
        "training_text_perplexity": str(lm.perplexity(text)),
    }


def _is_whole(directory: Path) -> bool:
    try:
        load_system(directory)
    except ModelError:
        return False
    return (directory / REPORT).is_file()
