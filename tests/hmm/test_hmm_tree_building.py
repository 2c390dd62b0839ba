from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.hmm.states.tree import Leaf, Side, Split, leaves
from lhuc_asr.hmm.tying.building import TreeBuilder, leaf_moments
from lhuc_asr.hmm.tying.questions import find_questions
from lhuc_asr.hmm.tying.statistics import TreeStatistics, log_likelihood

NUM_PHONES = 6


def moments_of(frames: np.ndarray) -> np.ndarray:
    return np.concatenate([[len(frames)], frames.sum(axis=0), (frames**2).sum(axis=0)])


def statistics(seed: int = 0) -> TreeStatistics:
    """Phones 3 and 4 sound alike, so do 5 and 6; phone 3 depends on whether 5 or 6 is on its left."""
    generator = np.random.default_rng(seed)
    contexts, moments = [], []
    for left, centre, right in np.ndindex(NUM_PHONES + 1, NUM_PHONES + 1, NUM_PHONES + 1):
        if 0 in (left, centre, right) or (centre == 1 and (left, right) != (1, 1)):
            continue
        mean = {1: -8.0, 2: 8.0, 3: 0.0, 4: 0.3, 5: 3.0, 6: 3.3}[centre]
        mean += 1.0 if centre == 3 and left in {5, 6} else 0.0
        contexts.append((left, centre, right, 0))
        moments.append(moments_of(generator.normal(mean, 0.5, (40, 2))))
    return TreeStatistics(np.array(contexts), np.array(moments))


def builder(min_occupancy: float = 30.0, min_gain: float = 50.0) -> TreeBuilder:
    questions = find_questions(statistics(), num_phones=NUM_PHONES, num_states=1)
    return TreeBuilder(questions, num_phones=NUM_PHONES, num_states=1, min_occupancy=min_occupancy, min_gain=min_gain)


def test_questions_group_phones_that_sound_alike() -> None:
    questions = find_questions(statistics(), num_phones=NUM_PHONES, num_states=1)
    assert {3, 4} in questions and {5, 6} in questions
    assert all({phone} in questions for phone in range(1, NUM_PHONES + 1))
    assert all(question == {1} or 1 not in question for question in questions)
    assert len(set(questions)) == len(questions)


def test_the_question_that_matters_is_asked() -> None:
    tree = builder().build(statistics(), num_leaves=50)
    root = tree.roots[2][0]
    assert isinstance(root, Split) and root.side is Side.left and root.phones == {5, 6}
    assert all(isinstance(tree.roots[phone - 1][0], Leaf) for phone in (1, 2, 4, 5, 6))


@settings(max_examples=25)
@given(st.integers(6, 40), st.floats(10, 400), st.integers(0, 3))
def test_leaves_are_bounded_numbered_and_filled(num_leaves: int, min_occupancy: float, seed: int) -> None:
    data = statistics(seed)
    tree = builder(min_occupancy, min_gain=0.0).build(data, num_leaves)
    pdfs = [leaf.pdf for states in tree.roots for root in states for leaf in leaves(root)]
    assert pdfs == list(range(tree.num_pdfs)) and tree.num_pdfs <= num_leaves
    assert isinstance(tree.roots[0][0], Leaf)
    moments = leaf_moments(tree, data)
    np.testing.assert_allclose(moments.sum(axis=0), data.moments.sum(axis=0))
    split_pdfs = [p for states in tree.roots for root in states if isinstance(root, Split) for p in _pdfs(root)]
    assert (moments[split_pdfs, 0] >= min_occupancy).all()


def _pdfs(root: Split) -> list[int]:
    return [leaf.pdf for leaf in leaves(root)]


def test_more_leaves_never_fit_worse() -> None:
    data = statistics()
    likes = [log_likelihood(leaf_moments(builder(10, 0).build(data, n), data)).sum() for n in (6, 8, 12, 20)]
    assert np.diff(likes).min() > 0


def test_a_phone_that_never_occurs_has_a_leaf() -> None:
    data = statistics()
    tree = builder().build(data.where(data.contexts[:, 1] != 4), num_leaves=50)
    assert isinstance(tree.roots[3][0], Leaf)
