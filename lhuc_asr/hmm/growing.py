"""Passes of training in which mixtures are fitted and grow from one Gaussian each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from dataclasses import dataclass

import numpy as np

from lhuc_asr.hmm.gmm_training import GmmTrainer
from lhuc_asr.progress import track

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How mixtures grow.

    Attributes:
        num_passes: over the speech.
        num_gaussians: that there shall be at the end; over the first three quarters of the passes their number grows by
            equal steps.
        realigned_before: the passes, counted from 0, before which the speech is aligned anew.
        split_power: mixtures grow with this power of their frames.
    """

    num_passes: int
    num_gaussians: int
    realigned_before: Container[int]
    split_power: float


def grow_mixtures(
    trainer: GmmTrainer,
    growth: Growth,
    *,
    generator: np.random.Generator,
    name: str,
    before_pass: Callable[[GmmTrainer, int], None] = lambda trainer, number: None,
) -> None:
    """Fit the mixtures of a trainer, and let them grow.

    Args:
        trainer: with alignments.
        growth: passes and sizes.
        generator: of the small random steps by which split Gaussians part.
        name: for the log and the progress bar.
        before_pass: may change features and mixtures, both alike, before the pass of a number.
    """
    first, growing = trainer.hmm.num_pdfs, max(1, 3 * growth.num_passes // 4)
    for number in track(range(growth.num_passes), name, unit="pass"):
        if number in growth.realigned_before:
            trainer.realign()
        before_pass(trainer, number)
        statistics = trainer.fit()
        if number < growing:
            target = first + (growth.num_gaussians - first) * (number + 1) // growing
            trainer.grow(target, generator, power=growth.split_power)
        told = "pass %d: %.3f nats a frame, %d Gaussians"
        _LOG.debug(told, number, statistics.log_like_per_frame, trainer.gmm.num_gaussians)
    trainer.report(name)
