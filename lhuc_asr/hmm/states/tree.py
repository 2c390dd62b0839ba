"""The phonetic decision tree: which tied state (pdf) a phone's state uses between its two neighbours.

A window is (left, centre, right) in phone ids; 0 stands for the edge of the utterance and is treated as silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ModelError
from lhuc_asr.hmm.states.topology import EDGE, SILENCE


class Side(Enum):
    """The neighbour that a question asks about."""

    left = "left"
    right = "right"


@dataclass(frozen=True, slots=True)
class Leaf:
    """The end of a branch: a tied state."""

    pdf: int


@dataclass(frozen=True, slots=True)
class Split:
    """A question: is the neighbour on that side one of these phones?"""

    side: Side
    phones: frozenset[int]
    yes: Node
    no: Node


Node = Leaf | Split


def leaves(node: Node) -> Iterator[Leaf]:
    """The leaves below a node, yes before no."""
    if isinstance(node, Leaf):
        yield node
    else:
        yield from leaves(node.yes)
        yield from leaves(node.no)


@dataclass(frozen=True, eq=False)
class DecisionTree:
    """One root for every state of every phone.

    Attributes:
        roots: ``roots[phone - 1][state]``.

    Example:
        >>> vowels = Split(Side.left, frozenset({2}), Leaf(1), Leaf(2))
        >>> tree = DecisionTree(((Leaf(0),), (vowels,)))
        >>> tree.pdf(2, 2, 1, state=0), tree.pdf(1, 2, 1, state=0)
        (1, 2)
    """

    roots: tuple[tuple[Node, ...], ...]

    @property
    def num_phones(self) -> int:
        """Phones, silence among them."""
        return len(self.roots)

    @property
    def num_states(self) -> int:
        """HMM states per phone."""
        return len(self.roots[0])

    @cached_property
    def num_pdfs(self) -> int:
        """Tied states; pdf ids are 0 ... num_pdfs - 1."""
        return 1 + max(leaf.pdf for states in self.roots for root in states for leaf in leaves(root))

    @cached_property
    def is_context_dependent(self) -> bool:
        """True for triphones, False for monophones."""
        return any(isinstance(root, Split) for states in self.roots for root in states)

    @cached_property
    def table(self) -> NDArray[np.int32]:
        """(P + 1, P + 1, P + 1, states) pdf of every (left, centre, right, state) of P phones; -1 where centre is 0."""
        size = self.num_phones + 1
        table = np.full((size, size, size, self.num_states), -1, np.int32)
        for phone, states in enumerate(self.roots, start=1):
            for state, root in enumerate(states):
                everywhere = np.ones(size, bool)
                for pdf, left, right in _regions(root, everywhere, everywhere):
                    table[:, phone, :, state][np.ix_(left, right)] = pdf
        table[EDGE] = table[SILENCE]
        table[:, :, EDGE] = table[:, :, SILENCE]
        return table

    def pdf(self, left: int, centre: int, right: int, *, state: int) -> int:
        """Tied state of one state of a phone between its neighbours."""
        return int(self.table[left, centre, right, state])

    def pdfs_of(self, phone: int, state: int) -> list[int]:
        """The tied states that one state of a phone can have, ascending."""
        return sorted({leaf.pdf for leaf in leaves(self.roots[phone - 1][state])})

    def to_json(self) -> list[Any]:
        """Nested lists: a pdf, or [side, phones, yes, no]."""
        return [[_to_json(root) for root in states] for states in self.roots]

    @staticmethod
    def from_json(value: Any) -> DecisionTree:
        """Undo ``to_json``.

        Raises:
            ModelError: the value is not a decision tree.
        """
        try:
            tree = DecisionTree(tuple(tuple(_from_json(root) for root in states) for states in value))
            pdfs = {leaf.pdf for states in tree.roots for root in states for leaf in leaves(root)}
            shapes = {len(states) for states in tree.roots}
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ModelError(f"this is no decision tree: {str(value)[:80]!r} ({error})") from error
        if len(shapes) != 1 or pdfs != set(range(len(pdfs))):
            raise ModelError("this is no decision tree: its leaves do not number the tied states from 0 without a gap")
        return tree


def monophone_tree(num_phones: int, num_states: int) -> DecisionTree:
    """The tree that looks at no neighbour: every state of every phone is its own pdf."""
    return DecisionTree(
        tuple(tuple(Leaf(phone * num_states + state) for state in range(num_states)) for phone in range(num_phones))
    )


def _regions(
    node: Node, left: NDArray[np.bool_], right: NDArray[np.bool_]
) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Every leaf's pdf with the neighbours (left, right) that lead to it."""
    if isinstance(node, Leaf):
        yield node.pdf, left, right
        return
    asked = np.zeros_like(left)
    asked[list(node.phones)] = True
    if node.side is Side.left:
        yield from _regions(node.yes, left & asked, right)
        yield from _regions(node.no, left & ~asked, right)
    else:
        yield from _regions(node.yes, left, right & asked)
        yield from _regions(node.no, left, right & ~asked)


def _to_json(node: Node) -> Any:
    if isinstance(node, Leaf):
        return node.pdf
    return [node.side.value, sorted(node.phones), _to_json(node.yes), _to_json(node.no)]


def _from_json(value: Any) -> Node:
    if isinstance(value, int):
        return Leaf(value)
    side, phones, yes, no = value
    return Split(Side(side), frozenset(map(int, phones)), _from_json(yes), _from_json(no))
