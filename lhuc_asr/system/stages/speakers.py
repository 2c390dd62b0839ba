"""Transforms of the training speakers, before the network learns; later stages see the features through them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lhuc_asr.features.fmllr import SpeakerTransforms
from lhuc_asr.hmm.alignment import AlignmentSet
from lhuc_asr.hmm.gmm_system import GmmSystem
from lhuc_asr.hmm.gmm_training import Corpus
from lhuc_asr.hmm.speaker_adaptive import SpeakerAdaptiveGmm, train_speaker_adaptive, transforms_of_aligned
from lhuc_asr.hmm.stretching import stretch_all
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.stages.aligning import GMM, AlignedSpeech, note_alignments
from lhuc_asr.system.stages.projecting import LDA
from lhuc_asr.system.stages.workplace import Workplace
from lhuc_asr.system.transforming import estimate_transforms

FMLLR = "fmllr"
"""Stage of speaker-adaptive training of the GMM."""


@dataclass(frozen=True, eq=False)
class SpeakersKnown:
    """What is known once there is a transform of every training speaker.

    Attributes:
        place: sees the features through these transforms.
        aligned: by the mixtures of transformed features.
        gmm: estimates transforms of speakers to come.
    """

    place: Workplace
    aligned: AlignedSpeech
    gmm: SpeakerAdaptiveGmm


def adapt_gmm_to_speakers(place: Workplace, aligned: AlignedSpeech) -> SpeakersKnown:
    """Train the GMM on transformed features; what it gives lies below ``work/fmllr``."""
    directory, config = place.work / FMLLR, place.settings.fmllr

    def make(target: Path) -> None:
        begin, manifest = GmmSystem.load(place.work / (LDA if place.projection else GMM)), place.inputs.manifest
        feats = {name: place.gmm_feats[name] for name in place.gmm_feats}
        corpus = Corpus(feats, manifest.transcripts, place.inputs.lexicon, place.num_jobs)
        done = train_speaker_adaptive(begin, corpus, manifest.speaker_of, config, place.settings.gmm.align)
        done.model.save(target)
        done.alignments.save(target)
        done.transforms.save(target)

    key = place.run_stage(directory.name, [aligned.key, config], make)
    gmm, alignments = SpeakerAdaptiveGmm.load(directory), AlignmentSet.load(directory)
    transforms = SpeakerTransforms.load(directory)
    note_alignments(place, FMLLR, alignments)
    place.facts[FMLLR]["speakers_without_transform"] = len(transforms.unchanged)
    known = AlignedSpeech(alignments, gmm.hmm, gmm.hmm, key)
    if place.settings.perturbation.is_active:
        transforms = transforms.beside(_of_perturbed_speakers(place, known, gmm, transforms))
    return SpeakersKnown(place.seen_through(transforms), known, gmm)


def _of_perturbed_speakers(
    place: Workplace, aligned: AlignedSpeech, gmm: SpeakerAdaptiveGmm, known: SpeakerTransforms
) -> SpeakerTransforms:
    """Of speech at other speeds or in other rooms, whose speakers count as others, aligned as the originals are."""
    directory, config = place.work / "fmllr_perturbed", place.settings.fmllr

    def make(target: Path) -> None:
        speech = place.speech
        speaker_of = {name: who for name, who in speech.manifest.speaker_of.items() if who not in known}
        source = {name: speech.source[name] for name in speaker_of}
        alignments = stretch_all(aligned.alignments, source, speech.num_frames)
        corpus = Corpus(speech.feats, speech.manifest.transcripts, place.inputs.lexicon, place.num_jobs)
        transforms_of_aligned(gmm, corpus, alignments, speaker_of, config).save(target)

    place.run_stage(directory.name, [aligned.key, place.speech.key, config], make)
    return SpeakerTransforms.load(directory)


def seen_as_by(place: Workplace, start: AcousticSystem) -> Workplace:
    """The place as a finished model sees it: through its projection, and through transforms, where it has them.

    Transforms are estimated by its mixtures, from what the training speakers are known to say, as those of speakers to
    come will be from what they are thought to say; ``work/transforms`` holds them.
    """
    if start.projection is not None:
        place = place.projected(start.projection)
    if not start.wants_transforms:
        return place
    directory, config, speech = place.work / "transforms", place.settings.fmllr, place.speech

    def make(target: Path) -> None:
        texts, speaker_of = speech.manifest.transcripts, speech.manifest.speaker_of
        found = estimate_transforms(start, speech.feats, texts, speaker_of, config, num_jobs=place.num_jobs)
        found.save(target)

    place.run_stage(directory.name, [start.fingerprint, place.data_key, speech.key, config], make)
    transforms = SpeakerTransforms.load(directory)
    place.facts["transforms"] = {"speakers_without_transform": len(transforms.unchanged)}
    return place.seen_through(transforms)
