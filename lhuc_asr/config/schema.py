"""All settings of a run, as one dataclass made of every room's own; defaults are written there and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field

from lhuc_asr.adaptation.passes.protocol import ProtocolConfig
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.guard import GuardConfig
from lhuc_asr.conditioning.settings import ConditionConfig
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.decoding.tuning import TuningConfig
from lhuc_asr.features.augmentation import AugmentationConfig
from lhuc_asr.features.environments import EnvironmentConfig
from lhuc_asr.features.perturbation import PerturbationConfig
from lhuc_asr.features.pipeline import FeatureConfig, FeatureKind
from lhuc_asr.hmm.chain import ChainConfig
from lhuc_asr.hmm.gmm_system import GmmConfig
from lhuc_asr.hmm.graphs.graph import GraphConfig
from lhuc_asr.hmm.mixtures.fmllr import FmllrConfig
from lhuc_asr.hmm.mixtures.lda import LdaConfig
from lhuc_asr.lang.kneser_ney import LmConfig
from lhuc_asr.lhuc.sat import SatConfig
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.metalearning.settings import MetalearnConfig
from lhuc_asr.models.dnn import DnnConfig
from lhuc_asr.models.network import NetworkConfig
from lhuc_asr.parallel import num_cores
from lhuc_asr.ranges import require_at_least
from lhuc_asr.ranking.data.synthetic import SyntheticConfig
from lhuc_asr.ranking.data.timed import SplitConfig
from lhuc_asr.ranking.ranker_config import RankerConfig
from lhuc_asr.ranking.training import RankerTrainingConfig
from lhuc_asr.system.build_settings import BuildConfig
from lhuc_asr.training.criteria.criterion import CriterionConfig
from lhuc_asr.training.loop import TrainingConfig


@dataclass(kw_only=True, slots=True)
class RuntimeConfig:
    """What a run may use of the machine, and its random seed.

    Attributes:
        seed: where all random choices begin.
        num_jobs: processes for decoding, features and alignment; 0 is one per core.
        num_threads: threads of torch in this process; 0 is one per core.
    """

    seed: int = 0
    num_jobs: int = 0
    num_threads: int = 0

    def __post_init__(self) -> None:
        require_at_least(0, self, "runtime", "seed", "num_jobs", "num_threads")

    @property
    def jobs(self) -> int:
        """Processes to use, with 0 resolved to the number of cores."""
        return self.num_jobs or num_cores()


def _mfcc_with_deltas() -> FeatureConfig:
    return FeatureConfig(kind=FeatureKind.mfcc, delta_order=2)


@dataclass(kw_only=True, slots=True)
class Config:
    """Everything that can be set, in the order in which speech flows; one group of presets in ``configs/`` for each.

    Attributes:
        features: what the network sees.
        gmm_features: what the GMM sees that makes the first alignments.
        lm: the language model that is estimated from the training text.
        gmm: the flat start, the tied states and their alignment.
        lda: whether features are projected by LDA, and MLLT.
        fmllr: the speakers' transforms of the features, and whether a model is trained on them.
        graph: the decoding graph HCLG.
        chain: the tied states of networks with fewer outputs than frames, or trained with LF-MMI.
        model: kind and shape of the network.
        criterion: what the network is judged by.
        training: how the speaker-independent network learns.
        sat: how it learns together with the scales of its speakers.
        environments: in which simulated environments a corpus is written anew.
        perturbation: what is made of the training speech before its features are taken.
        augmentation: how its training features are varied.
        build: how the stages of training follow each other.
        decoding: how words are searched.
        tuning: which decoding settings are tried on development speech.
        lhuc: what is scaled for a speaker, and by which function.
        condition: how scales are predicted from who is speaking, and how that is learnt.
        metalearn: how it is learnt where adaptation begins, and how long its steps are.
        adapt: how a speaker's scales are learnt.
        protocol: from which of a speaker's utterances, and which are scored.
        guard: which of the learnt scales may be used.
        click_log: the world of a click log that is made up.
        click_split: which impressions of a click log are held out.
        ranker: kind and shape of a ranking model.
        ranker_training: how it learns.
        runtime: the machine and the seed.
    """

    features: FeatureConfig = field(default_factory=FeatureConfig)
    gmm_features: FeatureConfig = field(default_factory=_mfcc_with_deltas)
    lm: LmConfig = field(default_factory=LmConfig)
    gmm: GmmConfig = field(default_factory=GmmConfig)
    lda: LdaConfig = field(default_factory=LdaConfig)
    fmllr: FmllrConfig = field(default_factory=FmllrConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    chain: ChainConfig = field(default_factory=ChainConfig)
    model: NetworkConfig = field(default_factory=DnnConfig)
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sat: SatConfig = field(default_factory=SatConfig)
    environments: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    perturbation: PerturbationConfig = field(default_factory=PerturbationConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    build: BuildConfig = field(default_factory=BuildConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    lhuc: LhucConfig = field(default_factory=LhucConfig)
    condition: ConditionConfig = field(default_factory=ConditionConfig)
    metalearn: MetalearnConfig = field(default_factory=MetalearnConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    click_log: SyntheticConfig = field(default_factory=SyntheticConfig)
    click_split: SplitConfig = field(default_factory=SplitConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    ranker_training: RankerTrainingConfig = field(default_factory=RankerTrainingConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
