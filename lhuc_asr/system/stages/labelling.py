"""Networks that learn to write the phones, characters or word pieces of transcripts, by CTC: no GMM, no alignments."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.decoding.ctc_graph import build_ctc_graph, ctc_hmm, spelt
from lhuc_asr.errors import AlignmentError, ConfigError, DataError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.lang.pieces import WordPieces
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.stages.learning import Learnt, augmentation, train_network
from lhuc_asr.system.stages.starting import finished_model, key_of, train_on
from lhuc_asr.system.stages.workplace import Workplace
from lhuc_asr.training.criteria.ctc import (
    SPACE,
    CtcLabels,
    CtcUnits,
    character_labels,
    frames_needed,
    phone_labels,
    piece_labels,
)
from lhuc_asr.training.criteria.ctc_criterion import Ctc
from lhuc_asr.training.examples.sequence_data import SequenceData
from lhuc_asr.training.tasks.task import Task
from lhuc_asr.training.utterance_task import UtteranceTask

logger = logging.getLogger(__name__)


def learn_labels(place: Workplace) -> Learnt:
    """Train on transcripts alone; the graph spells words with the network's labels."""
    labels, lexicon = _spelling(place)
    hmm = ctc_hmm(labels.symbols, lexicon.silence)
    encoded = _encoded(place, labels)

    def task(network: AcousticNetwork) -> Task[Any]:
        return _task(place, encoded, network)

    keys = [place.data_key, place.words_key, list(labels.symbols)]
    if place.settings.criterion.start:
        start = finished_model(place, lexicon)
        _require_labels(start, hmm)
        return train_on(place, start, task, keys=[*keys, *key_of(start)])
    trained = train_network(place, hmm.num_pdfs, task, keys=keys)
    return Learnt(
        network=trained.network,
        log_prior=torch.zeros(hmm.num_pdfs),
        hmm=hmm,
        lexicon=lexicon,
        graph=lambda lm: build_ctc_graph(hmm, lexicon, lm),
        key=trained.key,
        scales=trained.scales,
    )


def _require_labels(start: AcousticSystem, hmm: HmmModel) -> None:
    there, here = start.hmm.phones, hmm.phones
    if there != here:
        other = sorted({*there} ^ {*here})
        raise ConfigError(
            f"criterion.start '{start.directory}' writes other labels than this speech and criterion.ctc ask for: "
            f"{len(there)} there, {len(here)} here, differing in {', '.join(map(repr, other[:3]))}"
        )


def _spelling(place: Workplace) -> tuple[CtcLabels, Lexicon]:
    """What the network writes, and the words in its labels."""
    transcripts, lexicon = place.inputs.manifest.transcripts.values(), place.inputs.lexicon
    config = place.settings.criterion.ctc
    if config.units is CtcUnits.characters:
        labels = character_labels(transcripts)
        return labels, spelt(lexicon, labels.symbols, space=SPACE)
    if config.units is CtcUnits.pieces:
        pieces = WordPieces.learn(transcripts, config.num_pieces)
        return piece_labels(pieces), pieces.lexicon(lexicon)
    return phone_labels(lexicon), lexicon


def _encoded(place: Workplace, labels: CtcLabels) -> dict[str, Tensor]:
    """Utterance id -> (L,) labels; what cannot be written within its outputs is left out and told.

    Raises:
        AlignmentError: these are more than half of the utterances.
    """
    speech, every = place.speech, place.settings.model.outputs_every
    transcripts = place.inputs.manifest.transcripts
    found: dict[str, Tensor] = {}
    failed: dict[str, str] = {}
    for name in (*place.training_ids, *place.validation_ids):
        try:
            one = labels.encode(transcripts[speech.source[name]])
        except DataError as error:
            failed[name] = str(error)
            continue
        num_outputs = -(-speech.num_frames[name] // every)
        if num_outputs < frames_needed(one):
            failed[name] = f"{num_outputs} outputs of the network, {frames_needed(one)} needed"
        else:
            found[name] = one
    _note(place, failed, len(found), len(labels.symbols))
    return found


def _note(place: Workplace, failed: Mapping[str, str], num_found: int, num_symbols: int) -> None:
    total = len(failed) + num_found
    share = len(failed) / max(total, 1)
    place.facts["ctc"] = {"outputs": num_symbols, "left_out": len(failed), "left_out_share": round(share, 5)}
    if failed:
        example, reason = next(iter(failed.items()))
        told = f"{len(failed)} of {total} utterances cannot be learnt from, such as {example!r}: {reason}"
        if share > 0.5:
            raise AlignmentError(told)
        logger.warning("%s; they are left out", told)


def _task(place: Workplace, labels: Mapping[str, Tensor], network: AcousticNetwork) -> Task[Any]:
    speech = place.speech

    def part(names: list[str]) -> SequenceData:
        chosen = [name for name in names if name in labels]
        return SequenceData.gather(speech.feats, chosen, num_frames=speech.num_frames)

    return UtteranceTask(
        part(place.training_ids),
        part(place.validation_ids),
        Ctc(labels),
        place.settings.training.sequences,
        seed=place.seed,
        augment=augmentation(place),
        subsampling=network.subsampling,
    )
