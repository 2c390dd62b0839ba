"""Tied triphone states: a tree grown on the alignments of another model, and the mixtures of its leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.hmm.alignment import AlignmentSet
from lhuc_asr.hmm.gmm_system import GmmConfig
from lhuc_asr.hmm.gmm_training import GmmTrainer
from lhuc_asr.hmm.growing import Growth, grow_mixtures
from lhuc_asr.hmm.mixtures.estimation import MIN_VARIANCE
from lhuc_asr.hmm.mixtures.gmm import Gmm, single_gaussians
from lhuc_asr.hmm.states.conversion import convert_alignment
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.tying.building import TreeBuilder, leaf_moments
from lhuc_asr.hmm.tying.questions import find_questions


def train_triphones(
    old: GmmTrainer,
    *,
    config: GmmConfig,
    generator: np.random.Generator,
    name: str,
    before_pass: Callable[[GmmTrainer, int], None] = lambda trainer, number: None,
) -> GmmTrainer:
    """Grow a tree on the alignments of another model, and train the mixtures of its leaves.

    Args:
        old: the other model, with its alignments; the tree is grown on the features of its corpus.
        config: sizes and passes.
        generator: of the small random steps by which split Gaussians part.
        name: for the log and the progress bar.
        before_pass: may change features and mixtures, both alike, before the pass of a number.
    """
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
    growth = Growth(
        num_passes=config.triphone_iterations,
        num_gaussians=config.num_gaussians,
        realigned_before=range(config.realign_every, config.triphone_iterations, config.realign_every),
        split_power=config.split_power,
    )
    grow_mixtures(trainer, growth, generator=generator, name=name, before_pass=before_pass)
    return trainer


def _leaf_gmm(moments: NDArray[np.float64]) -> Gmm:
    """One Gaussian per leaf, from its frames; a leaf without frames takes the Gaussian of all."""
    moments = np.where(moments[:, :1] > 1, moments, moments.sum(axis=0))
    dim = (moments.shape[1] - 1) // 2
    means = moments[:, 1 : 1 + dim] / moments[:, :1]
    variances = np.maximum(moments[:, 1 + dim :] / moments[:, :1] - means**2, MIN_VARIANCE)
    return single_gaussians(means, variances)
