"""A GMM of projected features: windows of frames, projected by LDA, then turned by MLLT between passes of training.

The alignments of another GMM, of any features of the same speech, say which tied state each window belongs to. A new
tree is grown on the projected features. Silence has no say in the projection: it is frequent and tells no words apart.

Source: Gales 1999, IEEE Transactions on Speech and Audio Processing 7; Kaldi's ``train_lda_mllt.sh``, which turns the
features between passes of its training, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.features.projection import FrameProjection
from lhuc_asr.features.splicing import splice
from lhuc_asr.hmm.gmm_system import GmmConfig, GmmSystem
from lhuc_asr.hmm.gmm_training import Corpus, GmmTrainer
from lhuc_asr.hmm.mixtures import mllt
from lhuc_asr.hmm.mixtures.lda import LdaConfig, LdaStatistics, deviations
from lhuc_asr.hmm.states.topology import SILENCE
from lhuc_asr.hmm.triphones import train_triphones

_LOG = logging.getLogger(__name__)
_FILE = "projection.safetensors"
_FRAMES_AT_ONCE = 500_000


@dataclass(frozen=True, eq=False)
class ProjectedGmm:
    """A GMM with the projection of the features that it is of.

    Attributes:
        system: states, mixtures and alignments.
        projection: of the features before.
    """

    system: GmmSystem
    projection: FrameProjection

    def save(self, directory: Path) -> None:
        """Write the files of the GMM and ``projection.safetensors``."""
        self.system.save(directory)
        self.projection.save(directory / _FILE)

    @staticmethod
    def load(directory: Path) -> ProjectedGmm:
        """Read what ``save`` wrote.

        Raises:
            ModelError: a file is missing or damaged.
        """
        return ProjectedGmm(GmmSystem.load(directory), FrameProjection.load(directory / _FILE))


def train_projected(begin: GmmSystem, corpus: Corpus, lda: LdaConfig, config: GmmConfig) -> ProjectedGmm:
    """Find the projection and train a GMM of projected features.

    Args:
        begin: a GMM that has aligned the speech.
        corpus: the same utterances, with the features that shall be projected; they may lie on disk, and are held in
            memory once they are projected.
        lda: dimension, context, and passes before which MLLT turns the features.
        config: sizes and passes of the new GMM.

    Raises:
        DataError: the speech does not determine the projection.
    """
    try:
        return _train(begin, corpus, lda, config)
    except np.linalg.LinAlgError as error:
        raise DataError(f"the speech does not determine a projection to {lda.dim} values (lda.dim): {error}") from error


def _train(begin: GmmSystem, corpus: Corpus, lda: LdaConfig, config: GmmConfig) -> ProjectedGmm:
    statistics = _lda_statistics(begin, corpus, lda.context)
    projection = statistics.projection(lda.dim, lda.context)
    feats = {name: projection.apply(matrix) for name, matrix in corpus.feats.items()}
    old = GmmTrainer(replace(corpus, feats=feats), begin.hmm, begin.gmm, config.align)
    old.alignments = begin.alignments

    def turn_before(trainer: GmmTrainer, number: int) -> None:
        nonlocal projection
        if number in lda.mllt_passes:
            turn = _mllt(trainer)
            linear = projection.matrix[:, :-1]
            scales = 1.0 / deviations(linear @ statistics.covariance @ linear.T, turn)
            rows = scales[:, None] * turn
            projection = projection.turned(rows)
            trainer.gmm = mllt.turned(trainer.gmm, turn, scales)
            for name, matrix in feats.items():  # in their place: there may be a hundred hours of them
                feats[name] = matrix @ rows.T.astype(np.float32)

    generator = np.random.default_rng(config.seed)
    trainer = train_triphones(old, config=config, generator=generator, name="projected", before_pass=turn_before)
    trainer.realign()
    trainer.report("projected, final")
    return ProjectedGmm(GmmSystem(trainer.hmm, trainer.gmm, trainer.alignments), projection)


def _lda_statistics(begin: GmmSystem, corpus: Corpus, context: int) -> LdaStatistics:
    """Of all aligned frames of speech; the classes are tied states."""
    alignments, hmm = begin.alignments.alignments, begin.hmm
    feat_dim = next(iter(corpus.feats.values())).shape[1]

    def empty() -> LdaStatistics:
        return LdaStatistics.empty(hmm.num_pdfs, (2 * context + 1) * feat_dim)

    def gather(utterances: list[str]) -> LdaStatistics:
        statistics = empty()
        for utterance in utterances:
            path = alignments[utterance]
            spoken = hmm.phones_of(path) != SILENCE
            statistics.accumulate(splice(corpus.feats[utterance], context, context)[spoken], hmm.pdfs(path)[spoken])
        return statistics

    total = empty()
    for part in corpus.map_shards(gather, list(alignments)):
        total.add(part)
    return total


def _mllt(trainer: GmmTrainer) -> NDArray[np.float64]:
    """(D, D) the turn that makes the aligned frames of speech most likely."""
    alignments, hmm, gmm, feats = trainer.alignments.alignments, trainer.hmm, trainer.gmm, trainer.corpus.feats

    def gather(utterances: list[str]) -> mllt.MlltStatistics:
        statistics = mllt.MlltStatistics.empty(gmm.feat_dim)
        for group in _groups(utterances, [len(feats[utterance]) for utterance in utterances]):
            paths = np.concatenate([alignments[utterance] for utterance in group])
            spoken = hmm.phones_of(paths) != SILENCE
            frames = np.concatenate([feats[utterance] for utterance in group])
            statistics.accumulate(gmm, frames[spoken], hmm.pdfs(paths)[spoken])
        return statistics

    total = mllt.MlltStatistics.empty(gmm.feat_dim)
    for part in trainer.corpus.map_shards(gather, list(alignments)):
        total.add(part)
    turn = mllt.estimate(total)
    gain = total.objective.value(turn) - total.objective.value(np.eye(len(turn)))
    _LOG.info("MLLT gains %.3f nats a frame of speech", gain / total.num_frames)
    return turn


def _groups(utterances: Sequence[str], lengths: Sequence[int]) -> Iterator[list[str]]:
    """The utterances in order, as many together as have about so many frames as fit into memory at once."""
    starts = np.cumsum([0, *lengths])[:-1] // _FRAMES_AT_ONCE
    for number in np.unique(starts):
        yield [utterance for utterance, start in zip(utterances, starts, strict=True) if start == number]
