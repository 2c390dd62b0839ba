"""The speech that a model learns from: a corpus as it is, or made larger by other speeds, rooms, noises and voices."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lhuc_asr.data.audio import Samples
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.errors import DataError
from lhuc_asr.features.cmvn import NormalisedFeatures
from lhuc_asr.features.extraction import extract_by
from lhuc_asr.features.fmllr import SpeakerTransforms
from lhuc_asr.features.perturbation import PerturbationConfig, PerturbedCorpus
from lhuc_asr.features.pipeline import FeatureConfig
from lhuc_asr.features.projection import FrameProjection
from lhuc_asr.features.store import FeatureStore
from lhuc_asr.system.corpus import corpus_feats, read_samples, source_key
from lhuc_asr.training.processes.distributed import first_alone


@dataclass(frozen=True, eq=False)
class TrainingSpeech:
    """A corpus to learn from, with features on disk.

    Attributes:
        manifest: its utterances; speakers are those of the originals with a prefix for speed and copy.
        feats: utterance id -> (T, F) features, normalised for each of these speakers.
        source: utterance id -> id of the original that it was made from; an original leads to itself.
        speed: utterance id -> how much faster it is than its original.
        num_frames: utterance id -> T.
        key: a text that changes when the features do.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from lhuc_asr.data.audio import write_audio
        >>> from lhuc_asr.data.manifest import Recording, Utterance
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_audio(Path(folder, "a.wav"), np.full(9000, 0.1, dtype=np.float32), 16000)
        ...     anna = Utterance("anna-1", Recording("a", str(Path(folder, "a.wav"))), "anna")
        ...     speeds = PerturbationConfig(speeds=[0.9, 1.0])
        ...     speech = training_feats(Manifest((anna,)), FeatureConfig(), speeds, Path(folder, "feats"))
        >>> speech.source, speech.num_frames
        ({'anna-1': 'anna-1', 'sp0.9-anna-1': 'anna-1'}, {'anna-1': 56, 'sp0.9-anna-1': 63})
    """

    manifest: Manifest
    feats: NormalisedFeatures
    source: Mapping[str, str]
    speed: Mapping[str, float]
    num_frames: Mapping[str, int]
    key: str

    def made_from(self, part: Manifest) -> Manifest:
        """Everything that was made from a part of the original corpus, so that no voice of it is left behind."""
        originals = {utterance.id for utterance in part}
        return self.manifest.where(lambda utterance: self.source[utterance.id] in originals)

    def projected(self, projection: FrameProjection) -> TrainingSpeech:
        """The same speech, its features projected."""
        return replace(self, feats=self.feats.projected(projection), key=_digest(self.key, projection.sha256))

    def seen_through(self, transforms: SpeakerTransforms) -> TrainingSpeech:
        """The same speech, every speaker's features seen through the speaker's transform."""
        return replace(self, feats=self.feats.seen_through(transforms), key=_digest(self.key, transforms.sha256))

    def as_recorded(self, part: Manifest) -> Manifest:
        """A part of the original corpus without anything that was made from it, for validation.

        Raises:
            DataError: the settings keep no utterance as it was recorded.
        """
        found = self.made_from(part).where(lambda utterance: self.source[utterance.id] == utterance.id)
        if len(found) < len(part):
            raise DataError(
                f"{len(part) - len(found)} of {len(part)} utterances are not kept as they were recorded: "
                "perturbation.speeds must hold 1.0, and perturbation.keep_plain be true"
            )
        return found


def training_feats(
    manifest: Manifest,
    config: FeatureConfig,
    perturbation: PerturbationConfig,
    directory: Path,
    *,
    seed: int = 0,
    num_jobs: int = 1,
) -> TrainingSpeech:
    """Features of a corpus that may be perturbed, computed where that was not done before.

    Utterances are read, changed and written one by one, so memory does not grow with the corpus. Where the settings
    change nothing, this is `corpus_feats`.

    Args:
        manifest: the original speech.
        config: which features; the mode of normalisation is part of it.
        perturbation: what is made of the speech.
        directory: where the features are stored; of one choice of settings at a time.
        seed: of everything random.
        num_jobs: processes.

    Raises:
        AudioError: a recording cannot be read, or its sampling rate is below that of the features.
        DataError: an utterance is too short for one frame, the corpus was perturbed before, a folder holds no sound
            files, or nobody can babble.
    """
    if not perturbation.is_active:
        return _plain_speech(manifest, config, directory, num_jobs=num_jobs)
    utterance_of = {utterance.id: utterance for utterance in manifest}

    def read(utterance: str) -> Samples:
        return read_samples(utterance_of[utterance], config.sampling_rate)

    corpus = PerturbedCorpus(manifest, read, perturbation, sampling_rate=config.sampling_rate, seed=seed)
    return _perturbed_speech(corpus, config, directory, num_jobs=num_jobs)


def _plain_speech(manifest: Manifest, config: FeatureConfig, directory: Path, *, num_jobs: int) -> TrainingSpeech:
    feats = corpus_feats(manifest, config, directory, num_jobs=num_jobs)
    store = FeatureStore(directory)
    return TrainingSpeech(
        manifest=manifest,
        feats=feats,
        source={name: name for name in feats},
        speed=dict.fromkeys(feats, 1.0),
        num_frames={name: store.num_frames(name) for name in feats},
        key=_digest(repr(config), _described(manifest)),
    )


def _perturbed_speech(
    corpus: PerturbedCorpus, config: FeatureConfig, directory: Path, *, num_jobs: int
) -> TrainingSpeech:
    names, described = [utterance.id for utterance in corpus.manifest], f"{_described(corpus.manifest)}\n{corpus.key}"
    with first_alone():
        store = extract_by(
            lambda utterance: corpus.feats(utterance, config),
            names,
            config,
            directory,
            source_key=described,
            num_jobs=num_jobs,
        )
    return TrainingSpeech(
        manifest=corpus.manifest,
        feats=NormalisedFeatures(store, corpus.manifest.speaker_of, config.cmvn),
        source={name: corpus.perturbed[name].source for name in names},
        speed={name: corpus.perturbed[name].speed for name in names},
        num_frames={name: store.num_frames(name) for name in names},
        key=_digest(repr(config), described),
    )


def _described(manifest: Manifest) -> str:
    """Who says what from where: a babble depends on the speakers, and so does normalisation."""
    speakers = "\n".join(f"{utterance.id} {utterance.speaker}" for utterance in manifest)
    return f"{speakers}\n{source_key(manifest)}"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
