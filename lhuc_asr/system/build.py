"""From transcribed speech to a model directory, stage by stage; a second run does only what is missing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.data.manifest import Manifest
from lhuc_asr.data.splits import HeldOut, hold_out_speakers
from lhuc_asr.decoding.wfst import DecodingConfig
from lhuc_asr.errors import AlignmentError, ConfigError, DataError, ModelError
from lhuc_asr.features.augmentation import Augmentation, AugmentationConfig
from lhuc_asr.features.cmvn import NormalisedFeatures
from lhuc_asr.features.perturbation import PerturbationConfig
from lhuc_asr.features.pipeline import FeatureConfig
from lhuc_asr.files import read_json, sha256, write_json
from lhuc_asr.hmm.alignment import AlignmentSet, ForcedAligner
from lhuc_asr.hmm.chain import ChainConfig, chain_hmm
from lhuc_asr.hmm.flat_start import GmmConfig, GmmSystem, train_gmm
from lhuc_asr.hmm.graph import GraphConfig, build_graph
from lhuc_asr.hmm.model import HmmModel
from lhuc_asr.hmm.stretching import stretch_all
from lhuc_asr.lang.arpa import ArpaModel, read_arpa
from lhuc_asr.lang.kneser_ney import LmConfig, estimate_ngram
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.models.kinds import build_network
from lhuc_asr.models.network import AcousticNetwork, NetworkConfig
from lhuc_asr.models.weights import load_weights
from lhuc_asr.parallel import one_thread
from lhuc_asr.progress import track
from lhuc_asr.system.corpus import corpus_feats, source_key
from lhuc_asr.system.lessons import Lessons, make_task, tied_states
from lhuc_asr.system.model_directory import AcousticSystem, SystemParts, load_system, write_system
from lhuc_asr.system.stage import costs, run_once
from lhuc_asr.system.training_speech import TrainingSpeech, training_feats
from lhuc_asr.tensors import load_tensors, save_tensors
from lhuc_asr.training.criteria import CriterionConfig, CriterionKind
from lhuc_asr.training.loop import TrainingConfig, train
from lhuc_asr.training.priors import log_state_priors

_REPORT = "build.json"

logger = logging.getLogger(__name__)


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
        if self.num_realignments < 0:
            raise ConfigError(f"build.num_realignments must be 0 or more, got {self.num_realignments}")
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
        graph: of the decoding graph.
        chain: of the tied states of networks with fewer outputs than frames, or trained with LF-MMI.
        model: of the network.
        criterion: what it is judged by.
        training: of its training.
        perturbation: of the speech that it is trained on.
        augmentation: of its training data.
        decoding: of the search; tuned afterwards.
        build: how the stages follow each other.
    """

    features: FeatureConfig
    gmm_features: FeatureConfig
    lm: LmConfig
    gmm: GmmConfig
    graph: GraphConfig
    chain: ChainConfig
    model: NetworkConfig
    criterion: CriterionConfig
    training: TrainingConfig
    perturbation: PerturbationConfig
    augmentation: AugmentationConfig
    decoding: DecodingConfig
    build: BuildConfig

    def __post_init__(self) -> None:
        if self.build.num_realignments and self.has_chain:
            raise ConfigError(
                "build.num_realignments needs an output for every frame and criterion=cross_entropy; "
                f"found {self.criterion.kind.name} and a network that sub-samples by {self.model.outputs_every}"
            )

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
        arpa: a language model that is used as it is, instead of estimating one.
    """

    manifest: Manifest
    lexicon: Lexicon
    sentences: tuple[str, ...] | None = None
    arpa: Path | None = None


def build_system(
    inputs: BuildInputs, settings: BuildSettings, directory: Path, *, seed: int = 0, num_jobs: int = 1
) -> AcousticSystem:
    """Train a speaker-independent hybrid model and write it as a model directory.

    The stages keep their results below ``directory/work``; ``directory/build.json`` tells what they gave.

    Raises:
        DataError: there is no transcribed speech.
        AlignmentError: hardly any utterance could be aligned.
    """
    num_transcripts, num_utterances = len(inputs.manifest.transcripts), len(inputs.manifest)
    if num_transcripts < num_utterances or not num_utterances:
        raise DataError(f"training needs transcripts: {num_transcripts} of {num_utterances} utterances have one")
    build = _Build(inputs, settings, directory / "work", seed=seed, num_jobs=num_jobs)
    gmm = build.align_by_gmm()
    hmm, alignments = build.tie_states(gmm), gmm.alignments
    network = build.train_network(hmm, gmm.hmm, alignments)
    for round_number in range(1, settings.build.num_realignments + 1):
        alignments = build.realign(gmm, network, alignments, round_number)
        network = build.train_network(hmm, gmm.hmm, alignments, round_number)
    build.write(directory, hmm, network, build.log_prior(hmm, gmm.hmm, alignments))
    note_costs(directory)
    return load_system(directory)


def note_costs(directory: Path) -> None:
    """Tell in ``build.json`` what every stage took, those among them that ran after the model was written.

    Minutes are those of the run that did the stage, and so is the memory of the largest process, which is counted from
    the start of that run; features are taken before the stages and are not in their minutes.
    """
    page = read_json(directory / _REPORT)
    found = costs(directory / "work")
    memory = {name: cost.peak_memory_gb for name, cost in found.items() if cost.peak_memory_gb is not None}
    noted = {
        "minutes": {name: round(cost.seconds / 60, 2) for name, cost in found.items()},
        "peak_memory_gb": {**memory, "all": max(memory.values())} if memory else {},
    }
    if any(page.get(name) != value for name, value in noted.items()):
        write_json(directory / _REPORT, {**page, **noted})


class _Build:
    """The stages, and the keys by which each knows whether those before it have changed."""

    def __init__(self, inputs: BuildInputs, settings: BuildSettings, work: Path, *, seed: int, num_jobs: int) -> None:
        self.inputs, self.settings, self.work = inputs, settings, work
        self.seed, self.num_jobs = seed, num_jobs
        self.data_key = {
            "audio": source_key(inputs.manifest),
            "transcripts": inputs.manifest.transcripts,
            "speakers": inputs.manifest.speaker_of,
        }
        self.words_key = {word: inputs.lexicon.pronunciations_of(word) for word in inputs.lexicon.words}
        self.facts: dict[str, Any] = {}
        self.hmm_key = self.network_key = ""

    def gmm_feats(self) -> NormalisedFeatures:
        """What the GMM sees of the original speech."""
        return corpus_feats(
            self.inputs.manifest, self.settings.gmm_features, self.work / "gmm_features", num_jobs=self.num_jobs
        )

    @cached_property
    def speech(self) -> TrainingSpeech:
        """What the network sees: the original speech and what was made from it."""
        return training_feats(
            self.inputs.manifest,
            self.settings.features,
            self.settings.perturbation,
            self.work / "features",
            seed=self.seed,
            num_jobs=self.num_jobs,
        )

    @cached_property
    def parts(self) -> HeldOut:
        """Speakers to learn from, and speakers who steer the schedule."""
        return hold_out_speakers(self.inputs.manifest, fraction=self.settings.build.valid_fraction, seed=self.seed)

    def align_by_gmm(self) -> GmmSystem:
        """Flat start, tied states, alignments."""
        directory = self.work / "gmm"
        feats = self.gmm_feats()

        def make(target: Path) -> None:
            system = train_gmm(
                feats,
                self.inputs.manifest.transcripts,
                self.inputs.lexicon,
                self.settings.gmm,
                num_jobs=self.num_jobs,
            )
            system.save(target)

        inputs = [self.data_key, self.words_key, self.settings.gmm, self.settings.gmm_features, self.seed]
        self.hmm_key = run_once(directory, inputs, make)
        system = GmmSystem.load(directory)
        self._note_alignments("gmm", system.alignments)
        return system

    def tie_states(self, gmm: GmmSystem) -> HmmModel:
        """The tied states that the network learns: those of the GMM, or for fewer outputs than frames, one a phone."""
        if not self.settings.has_chain:
            return gmm.hmm
        directory = self.work / "chain"

        def make(target: Path) -> None:
            feats = self.gmm_feats()
            aligned = ((feats[name], path) for name, path in gmm.alignments.alignments.items())
            chain_hmm(gmm.hmm, aligned, self.settings.chain).save(target / "hmm.json")

        self.hmm_key = run_once(directory, [self.hmm_key, self.settings.chain], make)
        return HmmModel.load(directory / "hmm.json")

    def train_network(
        self, hmm: HmmModel, aligner: HmmModel, alignments: AlignmentSet, round_number: int = 0
    ) -> AcousticNetwork:
        """Train on aligned speech; held-out speakers steer the schedule."""
        settings = self.settings
        network = build_network(settings.model, settings.features.dim, hmm.num_pdfs, seed=self.seed)
        name = f"network-{round_number}"

        def make(target: Path) -> None:
            lessons = self.lessons(hmm, aligner, alignments)
            augment = _augmentation(settings)
            task = make_task(lessons, network, settings.criterion, settings.training, seed=self.seed, augment=augment)
            report = train(network, task, settings.training, target / "training", seed=self.seed)
            save_tensors(network.state_dict(), target / "network.safetensors")
            write_json(target / "history.json", [_rounded(epoch) for epoch in report.history])

        inputs = [self.hmm_key, self.network_key, self.speech.key, settings.features, settings.model, settings.training]
        self.network_key = run_once(
            self.work / name,
            [*inputs, settings.criterion, settings.augmentation, settings.build.valid_fraction, self.seed],
            make,
        )
        weights = self.work / name / "network.safetensors"
        load_weights(network, load_tensors(weights), source=str(weights))
        return network.eval()

    def lessons(self, hmm: HmmModel, aligner: HmmModel, alignments: AlignmentSet) -> Lessons:
        """The speech with its alignments, which what was made from it takes over."""
        speech = self.speech
        carried = stretch_all(alignments, speech.source, speech.num_frames).alignments
        kept, held_out = speech.made_from(self.parts.kept), speech.as_recorded(self.parts.held_out)
        return Lessons(
            speech=speech,
            alignments=carried,
            aligner=aligner,
            hmm=hmm,
            training=[utterance.id for utterance in kept if utterance.id in carried],
            validation=[utterance.id for utterance in held_out if utterance.id in carried],
        )

    def realign(
        self, gmm: GmmSystem, network: AcousticNetwork, alignments: AlignmentSet, round_number: int
    ) -> AlignmentSet:
        """Align the original speech with the network that was trained last."""
        log_prior = self.log_prior(gmm.hmm, gmm.hmm, alignments)
        directory = self.work / f"alignments-{round_number}"

        def make(target: Path) -> None:
            aligner = ForcedAligner(gmm.hmm, self.inputs.lexicon)
            originals = [utterance.id for utterance in self.speech.as_recorded(self.inputs.manifest)]
            feats = {name: self.speech.feats[name] for name in originals}
            log_likes = _log_likes(network, log_prior, feats, num_jobs=self.num_jobs)
            items = track(log_likes, f"realigning, round {round_number}", total=len(feats))
            aligner.align_all(items, self.inputs.manifest.transcripts, num_jobs=self.num_jobs).save(target)

        run_once(directory, self.network_key, make)
        realigned = AlignmentSet.load(directory)
        self._note_alignments(f"realignment-{round_number}", realigned)
        return realigned

    def log_prior(self, hmm: HmmModel, aligner: HmmModel, alignments: AlignmentSet) -> Tensor:
        """(V,) what is taken from the network's log-probabilities; LF-MMI has learnt scores that need no priors."""
        if self.settings.criterion.kind is CriterionKind.lfmmi:
            return torch.zeros(hmm.num_pdfs)
        states = (tied_states(path, aligner, hmm) for path in alignments.alignments.values())
        return log_state_priors(states, hmm.num_pdfs)

    def write(self, directory: Path, hmm: HmmModel, network: AcousticNetwork, log_prior: Tensor) -> None:
        """Language model, decoding graph, and the model directory with everything in it."""
        inputs, settings = self.inputs, self.settings

        def make(_: Path) -> None:
            lm = self.language_model()
            parts = SystemParts(
                network=network,
                log_prior=log_prior,
                features=settings.features,
                hmm=hmm,
                lexicon=inputs.lexicon,
                lm=lm,
                graph=build_graph(hmm, inputs.lexicon, lm, settings.graph),
                decoding=settings.decoding,
            )
            write_system(directory, parts)
            write_json(directory / _REPORT, self.report(lm))

        text = inputs.sentences if inputs.arpa is None else sha256(inputs.arpa)
        run_once(
            self.work / "model",
            [self.network_key, text, settings.lm, settings.graph, settings.decoding],
            make,
            is_whole=lambda: _is_whole(directory),
        )

    def language_model(self) -> ArpaModel:
        """The one that was given, or one estimated from the text."""
        if self.inputs.arpa is not None:
            return read_arpa(self.inputs.arpa)
        text = self.inputs.sentences or tuple(self.inputs.manifest.transcripts.values())
        return estimate_ngram(
            [sentence.split() for sentence in text], order=self.settings.lm.order, vocabulary=self.inputs.lexicon.words
        )

    def report(self, lm: ArpaModel) -> dict[str, Any]:
        """What the stages gave, for people and programs."""
        text = [sentence.split() for sentence in self.inputs.manifest.transcripts.values()]
        return {
            **self.facts,
            "training_utterances": len(self.inputs.manifest),
            "training_speakers": len(self.inputs.manifest.speakers),
            "oov": str(self.inputs.lexicon.oov_report(self.inputs.manifest.transcripts.values())),
            "lm_order": lm.order,
            "training_text_perplexity": str(lm.perplexity(text)),
        }

    def _note_alignments(self, name: str, alignments: AlignmentSet) -> None:
        num_failed = len(alignments.failed)
        total = num_failed + len(alignments.alignments)
        share = num_failed / max(total, 1)
        self.facts[name] = {
            "failed_alignments": num_failed,
            "failed_share": round(share, 5),
            "log_like_per_frame": round(alignments.log_like_per_frame, 4),
        }
        logger.info("%s: %d of %d alignments failed (%.2f %%)", name, num_failed, total, 100 * share)
        if share > 0.5:
            example, reason = next(iter(alignments.failed.items()))
            raise AlignmentError(f"{num_failed} of {total} utterances cannot be aligned, such as {example!r}: {reason}")


def _is_whole(directory: Path) -> bool:
    try:
        load_system(directory)
    except ModelError:
        return False
    return (directory / _REPORT).is_file()


def _augmentation(settings: BuildSettings) -> Augmentation | None:
    if not settings.augmentation.is_active:
        return None
    fbank = settings.features.fbank
    return Augmentation(
        settings.augmentation,
        num_mel_bins=fbank.num_mel_bins,
        sampling_rate=settings.features.sampling_rate,
        low_freq=fbank.low_freq,
        high_freq=fbank.high_freq,
    )


def _log_likes(
    network: AcousticNetwork, log_prior: Tensor, feats: Mapping[str, NDArray[np.float32]], *, num_jobs: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for utterance, matrix in feats.items():
        with one_thread(when=num_jobs > 1), torch.inference_mode():
            log_likes = (network(torch.from_numpy(matrix)[None])[0] - log_prior).numpy()
        yield utterance, log_likes


def _rounded(epoch: Any) -> dict[str, float]:
    return {name: round(value, 5) for name, value in asdict(epoch).items()}
