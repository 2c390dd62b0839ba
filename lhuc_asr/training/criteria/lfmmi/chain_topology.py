"""The shape of a phone at the sub-sampled rate: one state, entered with one tied state and kept with another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError
from lhuc_asr.hmm.states.topology import EDGE
from lhuc_asr.hmm.states.tree import DecisionTree, monophone_tree

SUBSAMPLING = 3
"""Frames of the features for one output of the network."""


@dataclass(frozen=True, eq=False)
class ChainTopology:
    """Which tied state (pdf) a phone's first frame and its other frames use, given the phone before it.

    A phone lasts one frame or more. Phone 0, the edge of the utterance, is never said; it is only a neighbour.

    Attributes:
        enter: (P + 1, P + 1) int32 pdf of the first frame of ``[left, phone]``.
        loop: (P + 1, P + 1) int32 pdf of every later frame.
        loop_probability: chance of one more frame.

    Example:
        >>> topology = ChainTopology.of_tree(monophone_tree(num_phones=2, num_states=2))
        >>> topology.num_pdfs, int(topology.enter[1, 2]), int(topology.loop[1, 2])
        (4, 2, 3)

    Source: Povey et al. 2016, "Purely sequence-trained neural networks for ASR based on lattice-free MMI",
    Interspeech, section 2.3.
    """

    enter: NDArray[np.int32]
    loop: NDArray[np.int32]
    loop_probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.loop_probability < 1:
            raise ConfigError(f"loop_probability lies between 0 and 1, got {self.loop_probability}")

    @staticmethod
    def monophone(num_phones: int, *, num_states: int = 2) -> ChainTopology:
        """Phones that look at no neighbour, with one pdf each or with two (the first frame and the others)."""
        return ChainTopology.of_tree(monophone_tree(num_phones, num_states))

    @staticmethod
    def of_tree(tree: DecisionTree) -> ChainTopology:
        """Tied states of left biphones: state 0 of the tree is the first frame, its last state the others.

        Raises:
            ConfigError: the tree has more than two states, or asks for the phone that follows.
        """
        if tree.num_states > 2:
            raise ConfigError(f"a chain topology has one or two states, the tree has {tree.num_states}")
        table = tree.table[:, 1:]
        if (table != table[:, :, :1]).any():
            raise ConfigError("a chain topology knows the phone before, but the tree asks for the phone that follows")
        pdfs = tree.table[:, :, EDGE]
        return ChainTopology(pdfs[..., 0], pdfs[..., -1])

    @property
    def num_pdfs(self) -> int:
        """Outputs that a network needs."""
        return 1 + int(max(self.enter.max(), self.loop.max()))

    @property
    def log_loop(self) -> float:
        """Logarithm of the chance of one more frame."""
        return math.log(self.loop_probability)

    @property
    def log_leave(self) -> float:
        """Logarithm of the chance that this frame was the phone's last."""
        return math.log1p(-self.loop_probability)
