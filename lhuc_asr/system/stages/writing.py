"""The last stage: language model, decoding graph, and the model directory with everything in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lhuc_asr.errors import ModelError
from lhuc_asr.files import sha256, write_json
from lhuc_asr.lang.arpa import ArpaModel, read_arpa
from lhuc_asr.lang.kneser_ney import estimate_ngram
from lhuc_asr.system.model_directory import SystemParts, load_system, write_system
from lhuc_asr.system.stage import run_once
from lhuc_asr.system.stages.learning import Learnt
from lhuc_asr.system.stages.workplace import Workplace

REPORT = "build.json"


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
        )
        write_system(directory, parts)
        write_json(directory / REPORT, _report(place, lm))

    text = inputs.sentences if inputs.arpa is None else sha256(inputs.arpa)
    run_once(
        place.work / "model",
        [learnt.key, text, settings.lm, settings.graph, learnt.decoding or settings.decoding],
        make,
        is_whole=lambda: _is_whole(directory),
    )


def language_model(place: Workplace) -> ArpaModel:
    """The one that was given, or one estimated from the text."""
    inputs = place.inputs
    if inputs.arpa is not None:
        return read_arpa(inputs.arpa)
    text = inputs.sentences or tuple(inputs.manifest.transcripts.values())
    sentences = [sentence.split() for sentence in text]
    return estimate_ngram(sentences, order=place.settings.lm.order, vocabulary=inputs.lexicon.words)


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
