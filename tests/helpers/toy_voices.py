"""Speakers whose filterbanks differ in height and in how far they swing, as training speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.features.cmvn import CmvnMode, NormalisedFeatures
from lhuc_asr.features.fbank import FbankConfig
from lhuc_asr.features.pipeline import FeatureConfig
from lhuc_asr.features.store import write_store
from lhuc_asr.system.training_speech import TrainingSpeech

DIM = 8
FEATURES = FeatureConfig(sampling_rate=8000, fbank=FbankConfig(num_mel_bins=DIM))


def toy_feats(seed: int, num_frames: int, *, dim: int = DIM) -> NDArray[np.float32]:
    """(T, dim) of one speaker: a height and a swing of every filter, the speaker's own."""
    rng = np.random.default_rng(seed)
    height, swing = rng.normal(size=dim), np.exp(0.3 * rng.normal(size=dim))
    frames = np.random.default_rng([seed, num_frames]).normal(size=(num_frames, dim))
    return (height + swing * frames).astype(np.float32)


def toy_speech(
    directory: Path, *, num_speakers: int = 4, num_utterances: int = 3, mode: CmvnMode = CmvnMode.speaker
) -> TrainingSpeech:
    """Training speech on disk."""
    utterances, feats = [], {}
    for speaker in range(num_speakers):
        for number in range(num_utterances):
            name = f"s{speaker}-{number}"
            utterances.append(Utterance(name, Recording(name, f"{name}.wav"), f"s{speaker}", transcript="A"))
            feats[name] = toy_feats(speaker, 30 + 5 * number)
    manifest = Manifest(tuple(utterances))
    store = write_store(directory, feats.items())
    return TrainingSpeech(
        manifest=manifest,
        feats=NormalisedFeatures(store, manifest.speaker_of, mode),
        source={name: name for name in feats},
        speed=dict.fromkeys(feats, 1.0),
        num_frames={name: len(matrix) for name, matrix in feats.items()},
        key="toy",
    )
