"""The projection of features, found on the alignments of the first GMM; later stages see the features through it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lhuc_asr.hmm.gmm_system import GmmSystem
from lhuc_asr.hmm.gmm_training import Corpus
from lhuc_asr.hmm.projecting import ProjectedGmm, train_projected
from lhuc_asr.hmm.stretching import stretch_all
from lhuc_asr.system.stages.aligning import GMM, AlignedSpeech, note_alignments
from lhuc_asr.system.stages.workplace import Workplace

LDA = "lda"
"""Stage that finds the projection."""


@dataclass(frozen=True, eq=False)
class ProjectionKnown:
    """What is known once there is a projection.

    Attributes:
        place: sees the features through it.
        aligned: by mixtures of projected features.
    """

    place: Workplace
    aligned: AlignedSpeech


def project_features(place: Workplace, aligned: AlignedSpeech) -> ProjectionKnown:
    """Train a GMM of projected features; what it gives lies below ``work/lda``.

    The first GMM may have seen features with another frame shift; its alignments are then stretched.
    """
    directory, settings = place.work / LDA, place.settings

    def make(target: Path) -> None:
        feats, transcripts = place.unprojected_feats, place.inputs.manifest.transcripts
        corpus = Corpus(feats, transcripts, place.inputs.lexicon, place.num_jobs)
        begin = GmmSystem.load(place.work / GMM)
        frames_seen = stretch_all(begin.alignments, {name: name for name in feats}, place.speech.num_frames)
        begin = replace(begin, alignments=frames_seen)
        train_projected(begin, corpus, settings.lda, settings.gmm).save(target)

    key = place.run_stage(LDA, [aligned.key, settings.lda, settings.features], make)
    found = ProjectedGmm.load(directory)
    note_alignments(place, LDA, found.system.alignments)
    hmm = found.system.hmm
    return ProjectionKnown(place.projected(found.projection), AlignedSpeech(found.system.alignments, hmm, hmm, key))
