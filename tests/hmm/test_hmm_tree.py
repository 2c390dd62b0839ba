from __future__ import annotations

import json
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.errors import ModelError
from lhuc_asr.hmm.states.tree import DecisionTree, Leaf, Node, Side, Split, leaves, monophone_tree

NUM_PHONES, NUM_STATES = 5, 2


@st.composite
def trees(draw: st.DrawFn) -> DecisionTree:
    pdfs = count()

    def node(depth: int) -> Node:
        if depth == 0 or draw(st.booleans()):
            return Leaf(next(pdfs))
        phones = draw(st.frozensets(st.integers(1, NUM_PHONES), min_size=1, max_size=3))
        return Split(draw(st.sampled_from(Side)), phones, node(depth - 1), node(depth - 1))

    return DecisionTree(tuple(tuple(node(3) for _ in range(NUM_STATES)) for _ in range(NUM_PHONES)))


def walk(node: Node, left: int, right: int) -> int:
    while isinstance(node, Split):
        neighbour = left if node.side is Side.left else right
        node = node.yes if neighbour in node.phones else node.no
    return node.pdf


@settings(max_examples=25)
@given(trees(), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 1))
def test_look_up_walks_the_questions(tree: DecisionTree, left: int, centre: int, right: int, state: int) -> None:
    pdf = tree.pdf(left, centre, right, state=state)
    assert pdf == walk(tree.roots[centre - 1][state], left, right)
    assert pdf in tree.pdfs_of(centre, state)


@settings(max_examples=25)
@given(trees())
def test_every_context_has_one_pdf_and_the_edge_is_silence(tree: DecisionTree) -> None:
    table = tree.table
    assert (table[:, 1:] >= 0).all() and (table[:, 0] == -1).all()
    assert table.max() < tree.num_pdfs
    np.testing.assert_array_equal(table[0], table[1])
    np.testing.assert_array_equal(table[:, :, 0], table[:, :, 1])


@settings(max_examples=25)
@given(trees())
def test_json_round_trip(tree: DecisionTree) -> None:
    again = DecisionTree.from_json(json.loads(json.dumps(tree.to_json())))
    assert again.roots == tree.roots


def test_phone_states_share_no_pdf() -> None:
    tree = monophone_tree(4, 3)
    assert tree.num_pdfs == 12 and not tree.is_context_dependent
    assert sorted(leaf.pdf for states in tree.roots for root in states for leaf in leaves(root)) == list(range(12))


@pytest.mark.parametrize("value", [None, [[0, 2]], [[0], [1, 2]], [[["up", [1], 0, 1]]], [[["left", [1], 0]]], 7])
def test_what_is_no_tree_is_refused(value: object) -> None:
    with pytest.raises(ModelError, match="no decision tree"):
        DecisionTree.from_json(value)
