"""What every stage needs: the speech, the settings, a place for results, and what was found on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lhuc_asr.data.splits import HeldOut, hold_out_speakers
from lhuc_asr.features.cmvn import NormalisedFeatures
from lhuc_asr.features.fmllr import SpeakerTransforms
from lhuc_asr.features.projection import FrameProjection
from lhuc_asr.system.build_settings import BuildInputs, BuildSettings
from lhuc_asr.system.corpus import corpus_feats, source_key
from lhuc_asr.system.stage import run_once
from lhuc_asr.system.training_speech import TrainingSpeech, training_feats


@dataclass(frozen=True, eq=False, kw_only=True)
class Workplace:
    """Where a model is built.

    Attributes:
        inputs: speech and words.
        settings: all of them.
        work: every stage has a directory below this one.
        seed: where all random choices begin.
        num_jobs: processes.
        facts: what the stages found, for ``build.json``.
        stages: names of those that this build went through; below ``work`` there may lie others, of other settings.
        projection: through which all stages see the features; None before it is known, and for models of features as
            they are.
        transforms: of the training speakers, through which all stages see the features; None before they are known, and
            for models of features as they are.
    """

    inputs: BuildInputs
    settings: BuildSettings
    work: Path
    seed: int = 0
    num_jobs: int = 1
    facts: dict[str, Any] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    projection: FrameProjection | None = None
    transforms: SpeakerTransforms | None = None

    def run_stage(self, name: str, inputs: Any, make: Callable[[Path], None], **options: Any) -> str:
        """Run the stage of that name once (`lhuc_asr.system.stage.run_once`, whose options these are); its key."""
        self.stages.append(name)
        return run_once(self.work / name, inputs, make, **options)

    def projected(self, projection: FrameProjection) -> Workplace:
        """The same place, where all features are projected, and the GMM sees those of the network."""
        return replace(self, projection=projection)

    def seen_through(self, transforms: SpeakerTransforms) -> Workplace:
        """The same place, where every speaker's features are transformed."""
        return replace(self, transforms=transforms)

    @cached_property
    def data_key(self) -> dict[str, Any]:
        """Changes when speech, transcripts or speakers do."""
        manifest = self.inputs.manifest
        return {
            "audio": source_key(manifest),
            "transcripts": manifest.transcripts,
            "speakers": manifest.speaker_of,
        }

    @cached_property
    def words_key(self) -> dict[str, Any]:
        """Changes when the lexicon does."""
        lexicon = self.inputs.lexicon
        return {word: lexicon.pronunciations_of(word) for word in lexicon.words}

    @cached_property
    def gmm_feats(self) -> NormalisedFeatures:
        """What the GMM sees of the original speech."""
        if self.projection is not None:
            feats = self.unprojected_feats.projected(self.projection)
        else:
            manifest, config = self.inputs.manifest, self.settings.gmm_features
            feats = corpus_feats(manifest, config, self.work / "gmm_features", num_jobs=self.num_jobs)
        return feats if self.transforms is None else feats.seen_through(self.transforms)

    @cached_property
    def unprojected_feats(self) -> NormalisedFeatures:
        """What is projected of the original speech: the features of the network, before any projection."""
        originals, raw = self.speech.as_recorded(self.inputs.manifest), self.speech.feats.raw
        return NormalisedFeatures(raw, originals.speaker_of, self.settings.features.cmvn)

    @cached_property
    def speech(self) -> TrainingSpeech:
        """What the network sees: the original speech and what was made from it."""
        speech = training_feats(
            self.inputs.manifest,
            self.settings.features,
            self.settings.perturbation,
            self.work / "features",
            seed=self.seed,
            num_jobs=self.num_jobs,
        )
        if self.projection is not None:
            speech = speech.projected(self.projection)
        return speech if self.transforms is None else speech.seen_through(self.transforms)

    @property
    def feat_dim(self) -> int:
        """Values per frame that the network sees."""
        return self.settings.features.dim if self.projection is None else self.projection.dim

    @cached_property
    def parts(self) -> HeldOut:
        """Speakers to learn from, and speakers who steer the schedule."""
        return hold_out_speakers(self.inputs.manifest, fraction=self.settings.build.valid_fraction, seed=self.seed)

    @cached_property
    def training_ids(self) -> list[str]:
        """Utterances to learn from, as they are and perturbed."""
        return [utterance.id for utterance in self.speech.made_from(self.parts.kept)]

    @cached_property
    def validation_ids(self) -> list[str]:
        """Utterances of the held-out speakers, as they are."""
        return [utterance.id for utterance in self.speech.as_recorded(self.parts.held_out)]
