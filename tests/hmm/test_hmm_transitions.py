from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lhuc_asr.errors import ModelError
from lhuc_asr.hmm.states.conversion import convert_alignment, frame_contexts
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.transitions import enters, loops, transition_states


def test_transition_ids_round_trip(triphones: HmmModel) -> None:
    transitions = triphones.transitions
    states = np.arange(transitions.num_transition_states, dtype=np.int32)
    for ids, is_loop in ((enters(states), False), (loops(states), True)):
        np.testing.assert_array_equal(transition_states(ids), states)
        np.testing.assert_array_equal(transitions.pdf_of[ids], transitions.pdf)
        np.testing.assert_array_equal(transitions.phone_of[ids], transitions.phone)
        assert (transitions.is_self_loop[ids] == is_loop).all()
    assert sorted([*enters(states), *loops(states)]) == list(range(1, transitions.num_transition_ids + 1))


def test_transition_states_are_sorted_as_in_kaldi(triphones: HmmModel) -> None:
    transitions = triphones.transitions
    rows = list(zip(transitions.phone, transitions.state, transitions.pdf, strict=True))
    assert rows == sorted(rows)


def test_table_leads_to_the_pdf_of_the_tree(triphones: HmmModel) -> None:
    table, tree = triphones.transition_state_table, triphones.tree
    for left, centre, right, state in np.ndindex(table.shape):
        if centre:
            found = table[left, centre, right, state]
            assert triphones.transitions.pdf[found] == tree.pdf(left, centre, right, state=state)
            assert triphones.transitions.phone[found] == centre and triphones.transitions.state[found] == state


def test_loop_probabilities_are_relative_frequencies(triphones: HmmModel) -> None:
    counts = np.zeros(triphones.transitions.num_transition_ids + 1, np.int64)
    counts[1], counts[2] = 30, 10
    counts[3], counts[4] = 1, 1
    fitted = triphones.transitions.re_estimated(counts)
    assert fitted.loop_probability[0] == pytest.approx(0.75)
    np.testing.assert_array_equal(fitted.loop_probability[1:], triphones.transitions.loop_probability[1:])


def test_an_alignment_keeps_its_phones_in_another_model(triphones: HmmModel) -> None:
    mono = HmmModel.monophone(triphones.phones)
    table = mono.transition_state_table
    row = [state for phone in (1, 3, 4, 3, 3) for state in table[0, phone, 0]]
    alignment = np.concatenate([[2 * state + 2, 2 * state + 1] for state in row]).astype(np.int32)
    converted = convert_alignment(alignment, mono, triphones)
    np.testing.assert_array_equal(triphones.phones_of(converted), mono.phones_of(alignment))
    contexts = frame_contexts(triphones, converted)
    assert contexts.left[::6].tolist() == [0, 1, 3, 4, 3] and contexts.right[::6].tolist() == [3, 4, 3, 3, 0]
    expected = triphones.tree.table[contexts.left, contexts.centre, contexts.right, contexts.state]
    np.testing.assert_array_equal(triphones.pdfs(converted), expected)
    np.testing.assert_array_equal(convert_alignment(converted, triphones, mono), alignment)


def test_save_load_round_trip(triphones: HmmModel, tmp_path: Path) -> None:
    triphones.save(tmp_path / "hmm.json")
    again = HmmModel.load(tmp_path / "hmm.json")
    assert again.phones == triphones.phones and again.tree.roots == triphones.tree.roots
    np.testing.assert_array_equal(again.transitions.loop_probability, triphones.transitions.loop_probability)


def test_a_damaged_or_newer_file_is_named(triphones: HmmModel, tmp_path: Path) -> None:
    path = tmp_path / "hmm.json"
    with pytest.raises(ModelError, match=r"hmm\.json"):
        HmmModel.load(path)
    triphones.save(path)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(ModelError, match=r"hmm\.json"):
        HmmModel.load(path)
    path.write_text(text.replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(ModelError, match="format 9"):
        HmmModel.load(path)
    path.write_text(text.replace('"SPN",', ""))
    with pytest.raises(ModelError, match="5 phones for a tree of 6"):
        HmmModel.load(path)
