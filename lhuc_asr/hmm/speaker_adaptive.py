"""A GMM for transformed features: speaker-adaptive training, and the transforms of new speakers.

Training estimates a transform of every speaker for the mixtures as they stand, then fits the mixtures to the
transformed frames, and so on. For new speech, what was said comes from a first pass: its words are aligned by the
mixtures of untransformed features, transforms are estimated for the others, and then once more on alignments of the
transformed frames.

Source: Gales 1998, Computer Speech and Language 12, section 4 (adaptive training by constrained transforms).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.features.fmllr import SpeakerTransform, SpeakerTransforms
from lhuc_asr.hmm.alignment import AlignConfig, AlignmentSet
from lhuc_asr.hmm.gmm_system import GmmSystem
from lhuc_asr.hmm.gmm_training import Corpus, GmmTrainer
from lhuc_asr.hmm.mixtures.fmllr import FmllrConfig, estimate_on_frames
from lhuc_asr.hmm.mixtures.gmm import Gmm
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.parallel import map_in_processes

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SpeakerAdaptiveGmm:
    """The two GMMs that transforms of new speakers need; their tied states are the same.

    Attributes:
        hmm: phones, tree and transitions.
        unadapted: mixtures of features as they are.
        adapted: mixtures of transformed features.
    """

    hmm: HmmModel
    unadapted: Gmm
    adapted: Gmm

    def save(self, directory: Path) -> None:
        """Write ``hmm.json``, ``unadapted.safetensors`` and ``adapted.safetensors``."""
        self.hmm.save(directory / "hmm.json")
        self.unadapted.save(directory / "unadapted.safetensors")
        self.adapted.save(directory / "adapted.safetensors")

    @staticmethod
    def load(directory: Path) -> SpeakerAdaptiveGmm:
        """Read what ``save`` wrote.

        Raises:
            ModelError: a file is missing or damaged.
        """
        mixtures = (Gmm.load(directory / f"{name}.safetensors") for name in ("unadapted", "adapted"))
        return SpeakerAdaptiveGmm(HmmModel.load(directory / "hmm.json"), *mixtures)


@dataclass(frozen=True, eq=False)
class SpeakerAdaptiveTraining:
    """What speaker-adaptive training gave.

    Attributes:
        model: the mixtures, for speakers to come.
        alignments: of the training speech, by the mixtures of transformed features.
        transforms: of the training speakers.
    """

    model: SpeakerAdaptiveGmm
    alignments: AlignmentSet
    transforms: SpeakerTransforms


def train_speaker_adaptive(
    begin: GmmSystem,
    corpus: Corpus,
    speaker_of: Mapping[str, str],
    config: FmllrConfig,
    align: AlignConfig,
) -> SpeakerAdaptiveTraining:
    """Fit the mixtures of a GMM to transformed features; tied states and number of Gaussians stay.

    Args:
        begin: a GMM of untransformed features, with its alignments.
        corpus: the same training speech, untransformed.
        speaker_of: utterance -> speaker.
        config: rounds and passes.
        align: beams and scales.
    """
    trainer = GmmTrainer(corpus, begin.hmm, begin.gmm, align)
    trainer.alignments = begin.alignments
    transforms = SpeakerTransforms({})

    def transform_again() -> None:
        nonlocal transforms
        transforms = _transforms_for(trainer, corpus, speaker_of, config, transforms)
        trainer.corpus = corpus.seen_through(transforms, speaker_of)

    for number in range(config.sat_rounds):
        transform_again()
        for _ in range(config.sat_passes):
            trainer.fit()
        trainer.realign()
        _LOG.info("speaker-adaptive round %d: %.3f nats a frame", number + 1, trainer.alignments.log_like_per_frame)
    transform_again()
    failed = begin.alignments.failed | trainer.alignments.failed
    done = AlignmentSet(trainer.alignments.alignments, failed, trainer.alignments.log_like_per_frame)
    return SpeakerAdaptiveTraining(SpeakerAdaptiveGmm(trainer.hmm, begin.gmm, trainer.gmm), done, transforms)


def transforms_of_speech(
    model: SpeakerAdaptiveGmm,
    corpus: Corpus,
    speaker_of: Mapping[str, str],
    config: FmllrConfig,
    align: AlignConfig | None = None,
) -> SpeakerTransforms:
    """Transforms of new speakers, from what they say or are thought to say.

    Args:
        model: the mixtures.
        corpus: features as they are, and words, of the utterances that transforms are estimated on.
        speaker_of: utterance -> speaker, of everybody who needs a transform; with too little speech in ``corpus``, or
            none that can be aligned, a speaker gets the identity, and the reason is told.
        config: how transforms are estimated.
        align: beams and scales.
    """
    trainer = GmmTrainer(corpus, model.hmm, model.unadapted, align or AlignConfig())
    transforms = SpeakerTransforms({})
    for _ in range(config.num_estimates):
        trainer.realign()
        trainer.gmm = model.adapted
        transforms = _transforms_for(trainer, corpus, speaker_of, config, transforms)
        trainer.corpus = corpus.seen_through(transforms, speaker_of)
    return transforms


def transforms_of_aligned(
    model: SpeakerAdaptiveGmm,
    corpus: Corpus,
    alignments: AlignmentSet,
    speaker_of: Mapping[str, str],
    config: FmllrConfig,
) -> SpeakerTransforms:
    """Transforms of speakers whose speech is aligned already, such as that of speech made from other speech.

    Args:
        model: the mixtures.
        corpus: features as they are of the aligned utterances; they may lie on disk.
        alignments: of these utterances, by ``model.hmm``.
        speaker_of: utterance -> speaker, as `transforms_of_speech` takes it.
        config: how transforms are estimated.
    """
    trainer = GmmTrainer(corpus, model.hmm, model.adapted, AlignConfig())
    trainer.alignments = alignments
    return _transforms_for(trainer, corpus, speaker_of, config, {})


def _transforms_for(
    trainer: GmmTrainer,
    corpus: Corpus,
    speaker_of: Mapping[str, str],
    config: FmllrConfig,
    begin: Mapping[str, SpeakerTransform],
) -> SpeakerTransforms:
    """Everybody's transform for the trainer's mixtures and alignments; untransformed features in ``corpus``."""
    alignments, gmm = trainer.alignments.alignments, trainer.gmm
    own: dict[str, list[str]] = defaultdict(list)
    for utterance in alignments:
        own[speaker_of[utterance]].append(utterance)

    def estimate(speaker: str) -> _Outcome:
        feats = [corpus.feats[utterance] for utterance in own[speaker]]
        pdfs = [trainer.hmm.pdfs(alignments[utterance]) for utterance in own[speaker]]
        return _estimate_one(gmm, feats, pdfs, config, begin.get(speaker))

    speakers = list(dict.fromkeys(speaker_of.values()))
    found = dict(zip(speakers, map_in_processes(estimate, speakers, num_jobs=corpus.num_jobs), strict=True))
    unchanged = {speaker: one.reason for speaker, one in found.items() if one.reason}
    for speaker, reason in unchanged.items():
        _LOG.warning("speaker %r keeps the features as they are: %s", speaker, reason)
    return SpeakerTransforms(
        {speaker: one.transform for speaker, one in found.items()},
        {speaker: one.num_frames for speaker, one in found.items()},
        unchanged,
    )


@dataclass(frozen=True, eq=False)
class _Outcome:
    """A speaker's transform, or the identity and the reason for it."""

    transform: SpeakerTransform
    num_frames: int
    reason: str = ""


def _estimate_one(
    gmm: Gmm,
    feats: list[NDArray[np.float32]],
    pdfs: list[NDArray[np.int32]],
    config: FmllrConfig,
    begin: SpeakerTransform | None,
) -> _Outcome:
    num_frames, identity = sum(map(len, feats)), SpeakerTransform.identity(gmm.feat_dim)
    if num_frames < config.min_frames:
        return _Outcome(identity, num_frames, f"{num_frames} aligned frames, {config.min_frames} needed")
    try:
        transform = estimate_on_frames(gmm, np.concatenate(feats), np.concatenate(pdfs), config, begin)
    except np.linalg.LinAlgError:
        return _Outcome(identity, num_frames, f"{num_frames} frames do not determine a transform")
    return _Outcome(transform, num_frames)
