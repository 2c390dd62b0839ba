"""Sequence training: a finished model learns, by sMBR, to prefer what was said to what its own lattices also allow."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.lattices.store import read_lattices, write_lattices
from lhuc_asr.errors import AlignmentError
from lhuc_asr.files import read_json, sha256, write_json
from lhuc_asr.hmm.alignment import AlignConfig, AlignmentSet, ForcedAligner
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.progress import track
from lhuc_asr.system.lattice_arcs import silence_states, state_lattice
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.recognise import all_log_likes, decoder_of, recognise_all
from lhuc_asr.system.stages.aligning import note_alignments
from lhuc_asr.system.stages.learning import Learnt, augmentation
from lhuc_asr.system.stages.speakers import seen_as_by
from lhuc_asr.system.stages.starting import finished_model, train_on
from lhuc_asr.system.stages.workplace import Workplace
from lhuc_asr.training.criteria.smbr.objective import Smbr, SmbrConfig, SmbrTarget
from lhuc_asr.training.criteria.smbr_criterion import SmbrCriterion
from lhuc_asr.training.examples.sequence_data import SequenceData
from lhuc_asr.training.tasks.task import Task
from lhuc_asr.training.utterance_task import UtteranceTask

logger = logging.getLogger(__name__)

_REPORT = "report.json"


def learn_from_lattices(place: Workplace) -> Learnt:
    """Align and decode the training speech with the finished model, then train it on.

    Source: Kingsbury 2009, ICASSP; Vesely et al. 2013, Interspeech, section 3: lattices and alignments of the model
    that cross-entropy gave, a few epochs at a small learning rate.
    """
    start = finished_model(place, place.inputs.lexicon)
    place = seen_as_by(place, start)
    references, references_key = _references(place, start)
    lattices_key = _make_lattices(place, start, references, key=references_key)

    def task(network: AcousticNetwork) -> Task[Any]:
        return _task(place, start, references, network)

    return train_on(place, start, task, keys=[lattices_key])


@dataclass(frozen=True, eq=False)
class _Speech(Mapping[str, NDArray[np.float32]]):
    """Everything to learn from and to judge by; features are read one utterance at a time."""

    place: Workplace

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        return self.place.speech.feats[utterance]

    def __iter__(self) -> Iterator[str]:
        yield from self.place.training_ids
        yield from self.place.validation_ids

    def __len__(self) -> int:
        return len(self.place.training_ids) + len(self.place.validation_ids)


def _references(place: Workplace, start: AcousticSystem) -> tuple[AlignmentSet, str]:
    """What was said, aligned by the finished model at the rate of its outputs."""
    directory, feats = place.work / "references", _Speech(place)
    transcripts = place.inputs.manifest.transcripts

    def make(target: Path) -> None:
        aligner = ForcedAligner(start.hmm, start.lexicon, AlignConfig(acoustic_scale=start.decoding.acoustic_scale))
        items = track(all_log_likes(start, feats, num_jobs=place.num_jobs), "aligning", total=len(feats))
        said = {name: transcripts[place.speech.source[name]] for name in feats}
        aligner.align_all(items, said, num_jobs=place.num_jobs).save(target)

    key = place.run_stage(
        directory.name, [start.fingerprint, place.data_key, place.speech.key, start.decoding, list(feats)], make
    )
    references = AlignmentSet.load(directory)
    note_alignments(place, "references", references)
    return references, key


def _make_lattices(place: Workplace, start: AcousticSystem, references: AlignmentSet, *, key: str) -> str:
    """What the finished model might have recognised; stored below ``work/lattices``.

    Raises:
        AlignmentError: more than half of the utterances have no lattice.
    """
    directory = place.work / "lattices"

    def make(target: Path) -> None:
        feats = _Speech(place)
        made: list[Lattice] = []
        found = recognise_all(
            decoder_of(start),
            all_log_likes(start, feats, num_jobs=place.num_jobs),
            num_utterances=len(feats),
            num_jobs=place.num_jobs,
            on_lattice=made.append,
        )
        write_lattices(target, made)
        targets = _targets(start, references, {lattice.utterance: lattice for lattice in made})
        write_json(target / _REPORT, {"failed": dict(found.failed), **_missing(targets)})

    key = place.run_stage(directory.name, [key, sha256(start.graph_path), sha256(start.lm_path)], make)
    report = read_json(directory / _REPORT)
    num_failed, total = len(report["failed"]), len(place.training_ids) + len(place.validation_ids)
    place.facts["lattices"] = {**report, "failed": num_failed}
    logger.info(
        "lattices: %d of %d failed; %.2f %% of the frames of the others lack the reference's state",
        num_failed,
        total,
        100 * report["missing_share"],
    )
    if 2 * num_failed > total:
        example, reason = next(iter(report["failed"].items()))
        raise AlignmentError(f"{num_failed} of {total} utterances have no lattice, such as {example!r}: {reason}")
    return key


def _targets(start: AcousticSystem, references: AlignmentSet, lattices: Mapping[str, Lattice]) -> dict[str, SmbrTarget]:
    """Utterance id -> lattice and reference, for those that have both."""
    paths = references.alignments
    return {
        name: SmbrTarget(state_lattice(lattice, start.hmm), start.hmm.pdfs(paths[name]))
        for name, lattice in lattices.items()
        if name in paths
    }


def _missing(targets: Mapping[str, SmbrTarget]) -> dict[str, Any]:
    """How many frames sMBR alone cannot learn, because no path of the lattice has the reference's state there."""
    num_frames = sum(len(target.reference) for target in targets.values())
    num_missing = sum(target.num_missing for target in targets.values())
    return {"frames": num_frames, "missing_frames": num_missing, "missing_share": num_missing / max(num_frames, 1)}


def _task(place: Workplace, start: AcousticSystem, references: AlignmentSet, network: AcousticNetwork) -> Task[Any]:
    speech, targets = place.speech, _targets(start, references, read_lattices(place.work / "lattices"))

    def part(names: list[str]) -> SequenceData:
        chosen = [name for name in names if name in targets]
        return SequenceData.gather(speech.feats, chosen, num_frames=speech.num_frames)

    smbr = Smbr(start.log_prior, silence_states=silence_states(start.hmm), config=smbr_config(place, start))
    return UtteranceTask(
        part(place.training_ids),
        part(place.validation_ids),
        SmbrCriterion(smbr, targets),
        place.settings.training.sequences,
        seed=place.seed,
        augment=augmentation(place),
        subsampling=network.subsampling,
    )


def smbr_config(place: Workplace, start: AcousticSystem) -> SmbrConfig:
    """With the acoustic scale of the decoder, unless another one is asked for."""
    config = place.settings.criterion.smbr
    if config.acoustic_scale is not None:
        return config
    return replace(config, acoustic_scale=start.decoding.acoustic_scale)
