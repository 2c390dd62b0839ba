"""Which state every frame belongs to, for training that begins with a finished model: kept from then, or made anew."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.files import sha256
from lhuc_asr.hmm.alignment import Alignment, AlignmentSet
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.stages.aligning import GMM, AlignedSpeech, align_by_network, note_alignments
from lhuc_asr.system.stages.projecting import LDA
from lhuc_asr.system.stages.speakers import FMLLR
from lhuc_asr.system.stages.starting import key_of
from lhuc_asr.system.stages.workplace import Workplace

logger = logging.getLogger(__name__)

_STAGE = "start"


@dataclass(frozen=True, eq=False)
class _Kept:
    """Alignments of the training speech, and the model whose transition ids they are."""

    alignments: AlignmentSet
    aligner: HmmModel


def aligned_with(place: Workplace, start: AcousticSystem) -> AlignedSpeech:
    """The training speech, frame by frame, in the tied states of a finished model.

    What the finished model learnt from is kept where it still lies in its ``work``, belongs to the same speech and says
    the same words; otherwise its network aligns the speech. The log tells which, and ``work/start`` holds the result.

    Raises:
        ConfigError: nothing is kept, and a network with fewer outputs than frames, or of scores, cannot align frames.
        AlignmentError: more than half of the utterances could not be aligned.
    """
    directory, is_chain = place.work / _STAGE, place.settings.has_chain

    def make(target: Path) -> None:
        found = _kept(place, start, is_chain=is_chain) or _anew(place, start, is_chain=is_chain)
        found.alignments.save(target)
        found.aligner.save(target / "hmm.json")

    key = place.run_stage(_STAGE, [*key_of(start), place.data_key, place.speech.key], make)
    alignments, aligner = AlignmentSet.load(directory), HmmModel.load(directory / "hmm.json")
    note_alignments(place, _STAGE, alignments)
    return AlignedSpeech(alignments, aligner, start.hmm if is_chain else aligner, key)


def _kept(place: Workplace, start: AcousticSystem, *, is_chain: bool) -> _Kept | None:
    """The newest alignments below the finished model that fit, if there are any."""
    for directory in filter(Path.is_dir, _directories(start)):
        hmm = _hmm_of(directory, start)
        try:
            found = _Kept(AlignmentSet.load(directory), HmmModel.load(hmm))
        except ModelError as error:
            reason: str | None = str(error)
        else:
            same = is_chain or sha256(hmm) == sha256(start.directory / "hmm.json")
            reason = _other_speech(place, found) if same else "they are of other tied states"
        if reason is None:
            logger.info("the alignments in '%s' are kept", directory)
            return replace(found, alignments=_part(found.alignments, place.inputs.manifest.transcripts))
        logger.info("the alignments in '%s' are not kept: %s", directory, reason)
    return None


def _directories(start: AcousticSystem) -> Iterator[Path]:
    work = start.directory / "work"
    yield work / _STAGE
    yield from sorted(work.glob("alignments-*"), reverse=True)
    yield _last_gmm(start)


def _last_gmm(start: AcousticSystem) -> Path:
    """The stage of the GMM whose alignments the finished model first learnt from; others may lie beside it."""
    if start.wants_transforms:
        return start.directory / "work" / FMLLR
    return start.directory / "work" / (GMM if start.projection is None else LDA)


def _hmm_of(directory: Path, start: AcousticSystem) -> Path:
    """The file of the model whose transition ids alignments have: their own, or that of the GMM before them."""
    own = directory / "hmm.json"
    return own if own.is_file() else _last_gmm(start) / "hmm.json"


def _other_speech(place: Workplace, found: _Kept) -> str | None:
    """Why alignments are not those of the training speech; None where they are."""
    paths, lexicon = found.alignments.alignments, place.inputs.lexicon
    for name, transcript in place.inputs.manifest.transcripts.items():
        if name not in paths and name not in found.alignments.failed:
            return f"they lack utterance {name!r}"
        if name in paths and len(paths[name]) != place.speech.num_frames.get(name):
            return f"utterance {name!r} has another number of frames"
        if name in paths and not _says(paths[name], found.aligner, transcript, lexicon):
            return f"utterance {name!r} says something else"
    return None


def _part(found: AlignmentSet, names: Container[str]) -> AlignmentSet:
    """Of some utterances alone; a start may have learnt from more speech."""
    alignments = {name: path for name, path in found.alignments.items() if name in names}
    failed = {name: reason for name, reason in found.failed.items() if name in names}
    return replace(found, alignments=alignments, failed=failed)


def _says(path: Alignment, aligner: HmmModel, transcript: str, lexicon: Lexicon) -> bool:
    """Whether the phones of an alignment spell the words, with silence wherever it may be."""
    ids = aligner.phones_of(path)[aligner.phone_starts(path)]
    phones = [phone for phone in np.take(aligner.phones, ids - 1).tolist() if phone != lexicon.silence]
    ends = {0}
    for word in transcript.split():
        spelt = [list(one) for one in lexicon.pronunciations_of(word)]
        ends = {end + len(one) for end in ends for one in spelt if phones[end : end + len(one)] == one}
    return len(phones) in ends


def _anew(place: Workplace, start: AcousticSystem, *, is_chain: bool) -> _Kept:
    if is_chain:
        raise ConfigError(
            f"criterion.start '{start.directory}' has no alignments of this speech in its 'work', and its network "
            "cannot align every frame (it sub-samples, or has one state a phone): keep its 'work', and give the same "
            "--data"
        )
    logger.info("the network of '%s' aligns the speech", start.directory)
    return _Kept(align_by_network(place, start.hmm, start.network, start.log_prior, title="aligning"), start.hmm)
