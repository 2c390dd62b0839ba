"""Which tied state every frame of the training speech belongs to, from the work of a finished model or made anew."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.data.manifest import Manifest
from lhuc_asr.errors import AlignmentError
from lhuc_asr.files import sha256
from lhuc_asr.hmm.alignment import AlignConfig, AlignmentSet, ForcedAligner
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.stretching import stretch_all
from lhuc_asr.progress import track
from lhuc_asr.system.corpus import corpus_feats, source_key
from lhuc_asr.system.lessons import tied_states
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.recognise import all_log_likes
from lhuc_asr.system.stage import run_once
from lhuc_asr.system.training_speech import TrainingSpeech

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AlignedSpeech:
    """Transcribed speech, aligned.

    Attributes:
        alignments: utterance -> (T,) transition ids, of the originals.
        aligner: the model whose transition ids they are.
    """

    alignments: AlignmentSet
    aligner: HmmModel

    def states(self, speech: TrainingSpeech, hmm: HmmModel) -> dict[str, NDArray[np.int32]]:
        """Utterance -> (T,) tied states of ``hmm``, also of what was made from the originals at other speeds."""
        carried = stretch_all(self.alignments, speech.source, speech.num_frames)
        return {name: tied_states(path, self.aligner, hmm) for name, path in carried.alignments.items()}


def aligned_speech(system: AcousticSystem, manifest: Manifest, directory: Path, *, num_jobs: int = 1) -> AlignedSpeech:
    """The alignments that the model learnt from where these are at hand, else the model's own.

    Args:
        system: the model.
        manifest: transcribed speech.
        directory: where features and alignments are kept that have to be made.
        num_jobs: processes.

    Raises:
        AlignmentError: not one utterance can be aligned.
    """
    found = _of_training(system, manifest)
    if found is None:
        found = _by_the_model(system, manifest, directory, num_jobs=num_jobs)
    known = {name: path for name, path in found.alignments.alignments.items() if name in manifest.speaker_of}
    if not known:
        example = next((f", such as {u!r}: {reason}" for u, reason in found.alignments.failed.items()), "")
        raise AlignmentError(f"not one of {len(manifest)} utterances can be aligned{example}")
    if len(known) < len(manifest):
        logger.warning("%d of %d utterances are not aligned and left out", len(manifest) - len(known), len(manifest))
    return found


def _of_training(system: AcousticSystem, manifest: Manifest) -> AlignedSpeech | None:
    """What the GMM gave when the model was trained, if it was on all of this speech."""
    directory = system.directory / "work" / "gmm"
    if not (directory / "alignments.json").is_file() or not (directory / "hmm.json").is_file():
        return None
    alignments = AlignmentSet.load(directory)
    if any(name not in alignments.alignments and name not in alignments.failed for name in manifest.speaker_of):
        return None
    logger.info("the alignments of the model's own training are used: %s", directory)
    is_the_same = sha256(directory / "hmm.json") == sha256(system.directory / "hmm.json")
    return AlignedSpeech(alignments, system.hmm if is_the_same else HmmModel.load(directory / "hmm.json"))


def _by_the_model(system: AcousticSystem, manifest: Manifest, directory: Path, *, num_jobs: int) -> AlignedSpeech:
    transcripts: Mapping[str, str] = manifest.transcripts

    def make(target: Path) -> None:
        feats = corpus_feats(manifest, system.features, directory / "originals", num_jobs=num_jobs)
        config = AlignConfig(acoustic_scale=system.decoding.acoustic_scale)
        log_likes = track(all_log_likes(system, feats, num_jobs=num_jobs), "aligning", total=len(feats))
        ForcedAligner(system.hmm, system.lexicon, config).align_all(log_likes, transcripts, num_jobs=num_jobs).save(
            target
        )

    keys = [system.fingerprint, source_key(manifest), transcripts, system.decoding.acoustic_scale]
    run_once(directory / "alignments", keys, make)
    return AlignedSpeech(AlignmentSet.load(directory / "alignments"), system.hmm)
