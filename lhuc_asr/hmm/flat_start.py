"""From nothing to tied triphone states: a GMM-HMM trained on transcribed speech without any earlier alignment.

Monophones start from utterances cut into equal parts; their alignments grow the decision tree; triphones start from
the frames of the tree's leaves. A second round regrows the tree on the better alignments.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import AlignmentError
from lhuc_asr.hmm.alignment import AlignmentSet
from lhuc_asr.hmm.gmm_system import GmmConfig, GmmSystem
from lhuc_asr.hmm.gmm_training import Corpus, GmmTrainer, equal_alignment
from lhuc_asr.hmm.growing import Growth, grow_mixtures
from lhuc_asr.hmm.mixtures.estimation import MIN_VARIANCE
from lhuc_asr.hmm.mixtures.gmm import Gmm, single_gaussians
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.topology import SILENCE
from lhuc_asr.hmm.triphones import train_triphones
from lhuc_asr.lang.lexicon import Lexicon


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
        trainer = train_triphones(trainer, config=config, generator=generator, name=f"triphones {number + 1}")
    trainer.realign()
    done = trainer.alignments
    without = dict.fromkeys((utterance for utterance in feats if utterance not in transcripts), "no transcript")
    alignments = AlignmentSet(done.alignments, without | done.failed, done.log_like_per_frame)
    trainer.report("final")
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
    growth = Growth(
        num_passes=config.mono_iterations,
        num_gaussians=config.mono_gaussians,
        realigned_before={*range(1, 11), *range(12, config.mono_iterations, 2)},
        split_power=config.split_power,
    )
    grow_mixtures(trainer, growth, generator=generator, name="monophones")
    full = GmmTrainer(corpus, trainer.hmm, trainer.gmm, config.align)
    full.realign()
    return full


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
