"""Speakers' transforms for a model that learnt from transformed features: what was said, estimation, application."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.data.kaldi_tables import read_rows
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.errors import DataError, ModelError
from lhuc_asr.features.cmvn import NormalisedFeatures
from lhuc_asr.features.fmllr import SpeakerTransforms
from lhuc_asr.hmm.gmm_training import Corpus
from lhuc_asr.hmm.mixtures.fmllr import FmllrConfig
from lhuc_asr.hmm.speaker_adaptive import SpeakerAdaptiveGmm, transforms_of_speech
from lhuc_asr.parallel import one_thread
from lhuc_asr.system.corpus import corpus_feats, source_key
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.recognise import Recognised, decoder_of, recognise_all
from lhuc_asr.system.stage import run_once

Feats = Mapping[str, NDArray[np.float32]]

GMM_SCALE = 0.1
"""Acoustic scale of the first pass by mixtures, the usual one."""


def read_words(path: Path) -> dict[str, str]:
    """Utterance id -> words, of a directory of ``lhuc-decode`` or of a text file.

    Raises:
        DataError: the file cannot be read.
    """
    return {row.id: row.value for row in read_rows(path / "text" if path.is_dir() else path)}


def recognise_by_gmm(system: AcousticSystem, gmm: SpeakerAdaptiveGmm, feats: Feats, *, num_jobs: int = 1) -> Recognised:
    """The first pass without any transform: the mixtures of untransformed features search the model's own graph.

    Raises:
        ModelError: the network has other tied states than the mixtures, as those of LF-MMI have.
    """
    if gmm.hmm.num_pdfs != system.hmm.num_pdfs or gmm.hmm.tree.roots != system.hmm.tree.roots:
        raise ModelError(
            f"the graph of '{system.directory}' is made of other tied states than its GMM has, so the GMM cannot "
            "recognise anything; give what another model recognised (--text DIR)"
        )

    def log_likes() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for utterance, matrix in feats.items():
            with one_thread(when=num_jobs > 1):
                values = gmm.unadapted.log_likes(matrix)
            yield utterance, values

    search = replace(system.decoding, acoustic_scale=GMM_SCALE)
    decoder = decoder_of(system.searching_with(search))
    return recognise_all(decoder, log_likes(), num_utterances=len(feats), num_jobs=num_jobs)


def estimate_transforms(
    system: AcousticSystem,
    feats: Feats,
    texts: Mapping[str, str],
    speaker_of: Mapping[str, str],
    config: FmllrConfig,
    *,
    num_jobs: int = 1,
) -> SpeakerTransforms:
    """Everybody's transform.

    Args:
        system: a model that wants transforms.
        feats: utterance id -> (T, F), normalised, of all utterances that are learnt from.
        texts: utterance id -> what is thought to be said; utterances without words are not learnt from.
        speaker_of: utterance id -> speaker, of everybody who shall have a transform.
        config: how transforms are estimated.
        num_jobs: processes.

    Raises:
        DataError: no utterance has words.
    """
    heard = {utterance: feats[utterance] for utterance in feats if texts.get(utterance)}
    if not heard:
        raise DataError(f"none of the {len(feats)} utterances has words, so no speaker's transform can be estimated")
    corpus = Corpus(heard, texts, system.lexicon, num_jobs)
    transforms = transforms_of_speech(system.speaker_gmm(), corpus, speaker_of, config)
    return replace(transforms, model=system.fingerprint)


def require_own(system: AcousticSystem, transforms: SpeakerTransforms) -> None:
    """Refuse transforms that were estimated for another model.

    Raises:
        DataError: they were.
    """
    if transforms.model != system.fingerprint:
        raise DataError(
            f"the transforms were estimated for a model with fingerprint {transforms.model[:16]!r}, "
            f"'{system.directory}' has {system.fingerprint[:16]!r}: estimate them with lhuc-fmllr --model of this one"
        )


def seen_feats(
    system: AcousticSystem,
    manifest: Manifest,
    config: FmllrConfig,
    work: Path,
    *,
    name: str,
    words: Mapping[str, str] | None = None,
    num_jobs: int = 1,
) -> NormalisedFeatures:
    """Features of a corpus as the network wants them, with transforms of its speakers if it wants any.

    Args:
        system: the model.
        manifest: the speech.
        config: how transforms are estimated.
        work: features lie in ``<name>_features`` below it, transforms in ``<name>_transforms``.
        name: of the corpus.
        words: utterance id -> what is thought to be said, for the transforms; None lets the GMM recognise it.
        num_jobs: processes.

    Raises:
        ModelError: the GMM cannot recognise anything (`recognise_by_gmm`).
        DataError: no utterance has words.
    """
    stored = corpus_feats(manifest, system.features, work / f"{name}_features", num_jobs=num_jobs)
    feats = stored.projected(system.projection)
    if not system.wants_transforms:
        return feats

    def make(target: Path) -> None:
        said = _said(system, feats, num_jobs=num_jobs) if words is None else words
        estimate_transforms(system, feats, said, manifest.speaker_of, config, num_jobs=num_jobs).save(target)

    directory = work / f"{name}_transforms"
    inputs = [system.fingerprint, config, source_key(manifest), manifest.speaker_of]
    run_once(directory, inputs if words is None else [*inputs, words], make)
    return feats.seen_through(SpeakerTransforms.load(directory))


def _said(system: AcousticSystem, feats: Feats, *, num_jobs: int) -> dict[str, str]:
    """What the GMM recognises."""
    found = recognise_by_gmm(system, system.speaker_gmm(), feats, num_jobs=num_jobs)
    return {utterance: hypothesis.text for utterance, hypothesis in found.hypotheses.items()}
