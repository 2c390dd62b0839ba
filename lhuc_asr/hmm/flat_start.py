"""From nothing to tied triphone states: a GMM-HMM trained on transcribed speech without any earlier alignment.

Monophones start from utterances cut into equal parts; their alignments grow the decision tree; triphones start from
the frames of the tree's leaves. A second round regrows the tree on the better alignments.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import AlignmentError
from lhuc_asr.hmm.alignment import AlignConfig, AlignmentSet
from lhuc_asr.hmm.gmm_training import Corpus, GmmTrainer, equal_alignment
from lhuc_asr.hmm.mixtures.estimation import MIN_VARIANCE
from lhuc_asr.hmm.mixtures.gmm import Gmm, single_gaussians
from lhuc_asr.hmm.states.conversion import convert_alignment
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.topology import SILENCE
from lhuc_asr.hmm.tying.building import TreeBuilder, leaf_moments
from lhuc_asr.hmm.tying.questions import find_questions
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.progress import track
from lhuc_asr.ranges import require_at_least

_LOG = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class GmmConfig:
    """How the GMM-HMM grows.

    Attributes:
        num_leaves: tied states of the tree, the outputs of the network; fewer where the speech does not suffice.
        min_occupancy: frames that a tied state needs.
        min_gain: log-likelihood, nats, that a split of a tied state must win.
        num_gaussians: Gaussians of the triphone model in all.
        mono_gaussians: Gaussians of the monophone model in all.
        mono_iterations: passes with monophones.
        mono_utterances: shortest utterances on which monophones are trained; 0 means all.
        triphone_rounds: how often the tree is grown, each time on better alignments.
        triphone_iterations: passes in each round.
        realign_every: triphone passes between two alignments.
        split_power: mixtures grow with this power of their frames.
        align: beams and scales.
        seed: of the small random steps by which split Gaussians part.
    """

    num_leaves: int = 1000
    min_occupancy: float = 100.0
    min_gain: float = 150.0
    num_gaussians: int = 8000
    mono_gaussians: int = 1000
    mono_iterations: int = 20
    mono_utterances: int = 1000
    triphone_rounds: int = 2
    triphone_iterations: int = 14
    realign_every: int = 4
    split_power: float = 0.25
    align: AlignConfig = field(default_factory=AlignConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("num_leaves", "num_gaussians", "mono_gaussians", "mono_iterations", "triphone_iterations")
        require_at_least(1, self, "gmm", *counts, "triphone_rounds", "realign_every", "min_occupancy")
        require_at_least(0, self, "gmm", "min_gain", "mono_utterances")


@dataclass(frozen=True, eq=False)
class GmmSystem:
    """A trained GMM-HMM with the alignments that it gives its training speech."""

    hmm: HmmModel
    gmm: Gmm
    alignments: AlignmentSet

    def save(self, directory: Path) -> None:
        """Write ``hmm.json``, ``gmm.safetensors`` and the alignments."""
        self.hmm.save(directory / "hmm.json")
        self.gmm.save(directory / "gmm.safetensors")
        self.alignments.save(directory)

    @staticmethod
    def load(directory: Path) -> GmmSystem:
        """Read what ``save`` wrote.

        Raises:
            ModelError: a file is missing or damaged.
        """
        return GmmSystem(
            HmmModel.load(directory / "hmm.json"), Gmm.load(directory / "gmm.safetensors"), AlignmentSet.load(directory)
        )


def train_gmm(
    feats: Mapping[str, NDArray[np.float32]],
    transcripts: Mapping[str, str],
    lexicon: Lexicon,
    config: GmmConfig,
    *,
    num_jobs: int = 1,
) -> GmmSystem:
    """Train tied triphone states from scratch.

    Args:
        feats: utterance -> (T, F) normalised MFCC with deltas; held in memory once (160 MB for three hours).
        transcripts: utterance -> words.
        lexicon: pronunciations.
        config: sizes and passes.
        num_jobs: processes.

    Raises:
        AlignmentError: no utterance can be aligned.
    """
    usable = {
        utterance: np.ascontiguousarray(feats[utterance], np.float32) for utterance in feats if utterance in transcripts
    }
    corpus = Corpus(usable, transcripts, lexicon, num_jobs)
    generator = np.random.default_rng(config.seed)
    trainer = _train_monophones(corpus, config, generator)
    for number in range(config.triphone_rounds):
        trainer = _train_triphones(trainer, config, generator, name=f"triphones {number + 1}")
    trainer.realign()
    done = trainer.alignments
    without = dict.fromkeys((utterance for utterance in feats if utterance not in transcripts), "no transcript")
    alignments = AlignmentSet(done.alignments, without | done.failed, done.log_like_per_frame)
    _report("final", trainer)
    return GmmSystem(trainer.hmm, trainer.gmm, alignments)


def _train_monophones(corpus: Corpus, config: GmmConfig, generator: np.random.Generator) -> GmmTrainer:
    """Monophones on the shortest utterances, then an alignment of all."""
    hmm = HmmModel.monophone(corpus.lexicon.phones)
    chosen = sorted(corpus.feats, key=lambda utterance: (len(corpus.feats[utterance]), utterance))
    chosen = [utterance for utterance in chosen if _flat(hmm, corpus, utterance) is not None]
    if not chosen:
        raise AlignmentError(f"none of the {len(corpus.feats)} utterances is long enough for its words")
    if config.mono_utterances:
        chosen = chosen[: config.mono_utterances]
    small = corpus.of(chosen)
    trainer = GmmTrainer(small, hmm, _flat_gmm(small, hmm.num_pdfs), config.align)
    flat = {utterance: _flat(hmm, corpus, utterance) for utterance in chosen}
    trainer.alignments = AlignmentSet({key: ali for key, ali in flat.items() if ali is not None}, {}, float("nan"))
    for iteration in track(range(config.mono_iterations), "monophones", unit="iteration"):
        if iteration and (iteration <= 10 or iteration % 2 == 0):
            trainer.realign()
        _fit_and_grow(trainer, iteration, config.mono_iterations, config.mono_gaussians, config, generator)
    _report("monophones", trainer)
    full = GmmTrainer(corpus, trainer.hmm, trainer.gmm, config.align)
    full.realign()
    return full


def _train_triphones(old: GmmTrainer, config: GmmConfig, generator: np.random.Generator, *, name: str) -> GmmTrainer:
    """Grow a tree on the alignments of another model and train its mixtures."""
    statistics = old.tree_statistics()
    num_phones, num_states = len(old.hmm.phones), old.hmm.num_states
    builder = TreeBuilder(
        find_questions(statistics, num_phones=num_phones, num_states=num_states),
        num_phones=num_phones,
        num_states=num_states,
        min_occupancy=config.min_occupancy,
        min_gain=config.min_gain,
    )
    tree = builder.build(statistics, config.num_leaves)
    hmm = HmmModel.of_tree(old.hmm.phones, tree)
    trainer = GmmTrainer(old.corpus, hmm, _leaf_gmm(leaf_moments(tree, statistics)), config.align)
    converted = {
        utterance: convert_alignment(alignment, old.hmm, hmm)
        for utterance, alignment in old.alignments.alignments.items()
    }
    trainer.alignments = AlignmentSet(converted, old.alignments.failed, old.alignments.log_like_per_frame)
    for iteration in track(range(config.triphone_iterations), name, unit="iteration"):
        if iteration and iteration % config.realign_every == 0:
            trainer.realign()
        _fit_and_grow(trainer, iteration, config.triphone_iterations, config.num_gaussians, config, generator)
    _report(name, trainer)
    return trainer


def _fit_and_grow(
    trainer: GmmTrainer,
    iteration: int,
    num_iterations: int,
    num_gaussians: int,
    config: GmmConfig,
    generator: np.random.Generator,
) -> None:
    """One pass; over the first three quarters of the passes the mixtures grow by equal steps."""
    statistics = trainer.fit()
    growing = max(1, 3 * num_iterations // 4)
    if iteration < growing:
        first = trainer.hmm.num_pdfs
        target = first + (num_gaussians - first) * (iteration + 1) // growing
        trainer.grow(target, generator, power=config.split_power)
    _LOG.debug(
        "pass %d: %.3f nats a frame, %d Gaussians", iteration, statistics.log_like_per_frame, trainer.gmm.num_gaussians
    )


def _flat(hmm: HmmModel, corpus: Corpus, utterance: str) -> NDArray[np.int32] | None:
    """Equal parts for the first pronunciation of every word, between two silences if the frames suffice."""
    ids = {phone: index + 1 for index, phone in enumerate(hmm.phones)}
    words = corpus.transcripts[utterance].split()
    phones = [ids[phone] for word in words for phone in corpus.lexicon.pronunciations_of(word)[0]]
    num_frames = len(corpus.feats[utterance])
    with_silence = equal_alignment(hmm, [SILENCE, *phones, SILENCE], num_frames)
    return with_silence if with_silence is not None or not phones else equal_alignment(hmm, phones, num_frames)


def _flat_gmm(corpus: Corpus, num_pdfs: int) -> Gmm:
    """Every pdf starts as the one Gaussian of all frames."""
    frames = np.concatenate(list(corpus.feats.values()))
    mean, variance = frames.mean(axis=0, dtype=np.float64), frames.var(axis=0, dtype=np.float64)
    variance = np.maximum(variance, MIN_VARIANCE)
    return single_gaussians(np.tile(mean, (num_pdfs, 1)), np.tile(variance, (num_pdfs, 1)))


def _leaf_gmm(moments: NDArray[np.float64]) -> Gmm:
    """One Gaussian per leaf, from its frames; a leaf without frames takes the Gaussian of all."""
    moments = np.where(moments[:, :1] > 1, moments, moments.sum(axis=0))
    dim = (moments.shape[1] - 1) // 2
    means = moments[:, 1 : 1 + dim] / moments[:, :1]
    variances = np.maximum(moments[:, 1 + dim :] / moments[:, :1] - means**2, MIN_VARIANCE)
    return single_gaussians(means, variances)


def _report(name: str, trainer: GmmTrainer) -> None:
    alignments = trainer.alignments
    _LOG.info(
        "%s: %d tied states, %d Gaussians, %.3f nats a frame, %d of %d utterances failed to align",
        name,
        trainer.hmm.num_pdfs,
        trainer.gmm.num_gaussians,
        alignments.log_like_per_frame,
        len(alignments.failed),
        len(alignments.failed) + len(alignments.alignments),
    )
