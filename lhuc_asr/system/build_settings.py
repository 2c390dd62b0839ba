"""What a model is built from, and all settings that lead to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lhuc_asr.data.manifest import Manifest
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.augmentation import AugmentationConfig
from lhuc_asr.features.perturbation import PerturbationConfig
from lhuc_asr.features.pipeline import FeatureConfig
from lhuc_asr.hmm.chain import ChainConfig
from lhuc_asr.hmm.gmm_system import GmmConfig
from lhuc_asr.hmm.graphs.graph import GraphConfig
from lhuc_asr.hmm.mixtures.fmllr import FmllrConfig
from lhuc_asr.hmm.mixtures.lda import LdaConfig
from lhuc_asr.lang.kneser_ney import LmConfig
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.lhuc.sat import SatConfig
from lhuc_asr.models.network import NetworkConfig, NetworkKind
from lhuc_asr.ranges import require_at_least
from lhuc_asr.training.criteria.criterion import CriterionConfig, CriterionKind
from lhuc_asr.training.loop import TrainingConfig


@dataclass(kw_only=True, slots=True)
class BuildConfig:
    """How the stages follow each other.

    Attributes:
        num_realignments: how often the network aligns the speech anew and another one is trained on that.
        valid_fraction: share of the speakers that are held out of training to steer it.
    """

    num_realignments: int = 0
    valid_fraction: float = 0.05

    def __post_init__(self) -> None:
        require_at_least(0, self, "build", "num_realignments")
        if not 0 < self.valid_fraction < 1:
            raise ConfigError(f"build.valid_fraction must lie between 0 and 1, got {self.valid_fraction}")


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """All settings that lead to a speaker-independent model.

    Attributes:
        features: what the network sees.
        gmm_features: what the GMM sees that makes the first alignments.
        lm: of the language model, where none is given.
        gmm: of the flat start and the tied states.
        lda: of the projection of features.
        fmllr: of the speakers' transforms.
        graph: of the decoding graph.
        chain: of the tied states of networks with fewer outputs than frames, or trained with LF-MMI.
        model: of the network.
        criterion: what it is judged by.
        training: of its training.
        sat: of the training speakers' scales, where it is speaker-adaptive.
        perturbation: of the speech that it is trained on.
        augmentation: of its training data.
        decoding: of the search; tuned afterwards.
        build: how the stages follow each other.
    """

    features: FeatureConfig
    gmm_features: FeatureConfig
    lm: LmConfig
    gmm: GmmConfig
    lda: LdaConfig
    fmllr: FmllrConfig
    graph: GraphConfig
    chain: ChainConfig
    model: NetworkConfig
    criterion: CriterionConfig
    training: TrainingConfig
    sat: SatConfig
    perturbation: PerturbationConfig
    augmentation: AugmentationConfig
    decoding: DecodingConfig
    build: BuildConfig

    def __post_init__(self) -> None:
        self._check_start()
        kind = self.criterion.kind
        if self.build.num_realignments and (self.has_chain or kind is not CriterionKind.cross_entropy):
            raise ConfigError(
                "build.num_realignments needs an output for every frame and criterion=cross_entropy; "
                f"found {kind.name} and a network that sub-samples by {self.model.outputs_every}"
            )

        self._check_projection()
        self._check_transforms()

    def _check_start(self) -> None:
        start, kind = self.criterion.start, self.criterion.kind
        if kind is CriterionKind.smbr and not start:
            raise ConfigError("criterion.start names the model directory that criterion=smbr begins with; got none")
        if start and self.build.num_realignments:
            raise ConfigError(
                "build.num_realignments trains networks from random weights: leave it or criterion.start out"
            )

    def _check_projection(self) -> None:
        lda, num_passes = self.lda, self.gmm.triphone_iterations
        if not lda.is_used:
            return
        if self.features.delta_order:
            raise ConfigError(
                "lda.dim projects frames with their neighbours, of which derivatives are sums: features.delta_order "
                f"must be 0 (features=mfcc_static), got {self.features.delta_order}"
            )
        window = (2 * lda.context + 1) * self.features.dim
        if lda.dim > window:
            raise ConfigError(
                f"lda.dim must be at most {window}, the values of {2 * lda.context + 1} frames (lda.context) of "
                f"{self.features.dim} features; got {lda.dim}"
            )
        if not self.criterion.start and any(number >= num_passes for number in lda.mllt_passes):
            raise ConfigError(
                f"lda.mllt_passes must lie below gmm.triphone_iterations, which is {num_passes}; got {lda.mllt_passes}"
            )
        if self.model.kind in {NetworkKind.cnn, NetworkKind.maxout_cnn}:
            raise ConfigError(
                f"model={self.model.kind.name} convolves over neighbouring frequencies, of which lda.dim leaves none: "
                "choose another network"
            )
        if self.augmentation.is_active and self.augmentation.wants_bins:
            raise ConfigError(
                "augmentation.warp and augmentation.num_freq_masks change mel bins, which lda.dim projects: leave one "
                "out; augmentation=time_masks suits projected features"
            )
        if self.criterion.kind is CriterionKind.ctc:
            raise ConfigError("lda.dim needs tied states, which criterion=ctc does without: leave one out")

    def _check_transforms(self) -> None:
        if not self.fmllr.is_used:
            return
        if not (self.lda.is_used or self.features.equals(self.gmm_features)):
            raise ConfigError(
                "fmllr.sat_rounds transforms what the GMM sees, so the network must see the same: features and "
                f"gmm_features differ ({self.features.kind.name} of {self.features.dim} values, "
                f"{self.gmm_features.kind.name} of {self.gmm_features.dim}); features=mfcc fits the defaults"
            )
        if self.criterion.kind is CriterionKind.ctc:
            raise ConfigError("fmllr.sat_rounds needs tied states, which criterion=ctc does without: leave one out")

    @property
    def has_chain(self) -> bool:
        """Whether phones have one state, as outputs for every third frame, and LF-MMI, ask for."""
        return self.criterion.kind is CriterionKind.lfmmi or self.model.outputs_every > 1


@dataclass(frozen=True, kw_only=True)
class BuildInputs:
    """What a model is built from.

    Attributes:
        manifest: transcribed speech of many speakers.
        lexicon: pronunciations of its words, and of all others that shall be recognised.
        sentences: text for the language model; None takes the transcripts.
        mixed_texts: other texts, whose language models are mixed with that one.
        weighed_on: the sentences that decide with which weights; none of them may be in a text.
        arpa: a language model that is used as it is, instead of estimating one.
    """

    manifest: Manifest
    lexicon: Lexicon
    sentences: tuple[str, ...] | None = None
    mixed_texts: tuple[tuple[str, ...], ...] = ()
    weighed_on: tuple[str, ...] = ()
    arpa: Path | None = None
