"""The hidden Markov side of an acoustic model: phones, tree and transitions, without any densities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ModelError
from lhuc_asr.files import read_json, write_json
from lhuc_asr.hmm.states.topology import LOOP_PROBABILITY, NUM_STATES
from lhuc_asr.hmm.states.transitions import TransitionModel
from lhuc_asr.hmm.states.tree import DecisionTree, monophone_tree

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class HmmModel:
    """What turns transition ids into tied states and phones; the densities (GMM, network) live elsewhere.

    Attributes:
        phones: names; the id of a phone is its index + 1, silence first.
        tree: which tied state a phone's state uses in its context.
        transitions: transition ids and their probabilities.

    Example:
        >>> hmm = HmmModel.monophone(("SIL", "SPN", "AH"))
        >>> hmm.num_pdfs, hmm.pdfs(np.array([2, 1, 1, 4], np.int32)).tolist()
        (9, [0, 0, 0, 1])
    """

    phones: tuple[str, ...]
    tree: DecisionTree
    transitions: TransitionModel

    @staticmethod
    def monophone(
        phones: tuple[str, ...], *, num_states: int = NUM_STATES, loop_probability: float = LOOP_PROBABILITY
    ) -> HmmModel:
        """The model in which no phone knows its neighbours."""
        return HmmModel.of_tree(phones, monophone_tree(len(phones), num_states), loop_probability=loop_probability)

    @staticmethod
    def of_tree(phones: tuple[str, ...], tree: DecisionTree, *, loop_probability: float = LOOP_PROBABILITY) -> HmmModel:
        """A tree with transition probabilities that nothing is known of yet."""
        return HmmModel(phones, tree, TransitionModel.of_tree(tree, loop_probability=loop_probability))

    @property
    def num_pdfs(self) -> int:
        """Tied states: the number of outputs that a network needs."""
        return self.tree.num_pdfs

    @property
    def num_states(self) -> int:
        """HMM states per phone."""
        return self.tree.num_states

    @cached_property
    def transition_state_table(self) -> NDArray[np.int32]:
        """(P + 1, P + 1, P + 1, states) transition state of every (left, centre, right, state) of P phones."""
        return self.transitions.transition_state_table(self.tree)

    def pdfs(self, transition_ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """(T,) tied state of every frame of an alignment."""
        return self.transitions.pdf_of[transition_ids]

    def phones_of(self, transition_ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """(T,) phone id of every frame of an alignment."""
        return self.transitions.phone_of[transition_ids]

    def phone_starts(self, transition_ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """(T,) True where a phone begins: where its first state is entered."""
        first: NDArray[np.bool_] = self.transitions.state_of[transition_ids] == 0
        return first & ~self.transitions.is_self_loop[transition_ids]

    def save(self, path: Path) -> None:
        """Write the model as one JSON file."""
        value = {
            "format_version": FORMAT_VERSION,
            "phones": list(self.phones),
            "tree": self.tree.to_json(),
            "loop_probability": self.transitions.loop_probability.tolist(),
        }
        write_json(path, value)

    @staticmethod
    def load(path: Path) -> HmmModel:
        """Read what ``save`` wrote.

        Raises:
            ModelError: the file is missing, damaged or of another format.
        """
        try:
            value = read_json(path)
            version, phones = value["format_version"], tuple(value["phones"])
            tree_value, loop_probability = value["tree"], np.array(value["loop_probability"], np.float64)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{str(path)!r} is no HMM file: {error}") from error
        if version != FORMAT_VERSION:
            raise ModelError(f"{str(path)!r} has format {version!r}; this version reads format {FORMAT_VERSION}")
        tree = DecisionTree.from_json(tree_value)
        transitions = TransitionModel.of_tree(tree)
        if len(phones) != tree.num_phones or loop_probability.shape != transitions.loop_probability.shape:
            raise ModelError(
                f"{str(path)!r} does not fit together: {len(phones)} phones for a tree of {tree.num_phones}, "
                f"{loop_probability.size} loop probabilities for {transitions.num_transition_states} states"
            )
        transitions = TransitionModel(transitions.phone, transitions.state, transitions.pdf, loop_probability)
        return HmmModel(phones, tree, transitions)
