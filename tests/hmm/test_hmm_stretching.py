"""A stretched alignment says the same phones and states as before, at the right times, in any number of frames."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lhuc_asr.errors import AlignmentError
from lhuc_asr.hmm.alignment import AlignmentSet
from lhuc_asr.hmm.states.conversion import convert_alignment, frame_contexts
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.transitions import transition_states
from lhuc_asr.hmm.stretching import stretch_all, stretched
from lhuc_asr.training.criteria.lfmmi.numerator import PhoneSegments

Ids = NDArray[np.int32]
THREE_STATES = HmmModel.monophone(("SIL", "SPN", "A", "B", "C"))
ONE_STATE = HmmModel.monophone(("SIL", "SPN", "A", "B", "C"), num_states=1)


def alignment_of(hmm: HmmModel, phones: list[int], durations: list[int]) -> Ids:
    """Each phone's states in order; the durations are those of the states, used again from the start when too few."""
    rows: list[int] = []
    table = hmm.transition_state_table
    for place, (phone, state) in enumerate(product(phones, range(hmm.num_states))):
        number = int(table[0, phone, 0, state])
        rows += [2 * number + 2] + [2 * number + 1] * (durations[place % len(durations)] - 1)
    return np.array(rows, np.int32)


def phones_said(hmm: HmmModel, alignment: Ids) -> list[int]:
    return hmm.phones_of(alignment)[hmm.phone_starts(alignment)].tolist()


def states_passed(alignment: Ids) -> list[int]:
    """Every state once for each time that it is entered."""
    return transition_states(alignment[alignment % 2 == 0]).tolist()


def visits(alignment: Ids) -> Ids:
    """(T,) which of the states that are passed each frame belongs to, from 0."""
    return (np.cumsum(alignment % 2 == 0) - 1).astype(np.int32)


def old_frames(before: int, after: int) -> list[int]:
    """The definition in fractions: the old frame in which the middle of each new one lies."""
    return [int(Fraction(2 * u + 1, 2) * before / after) for u in range(after)]


hmms = st.sampled_from([THREE_STATES, ONE_STATE])
spoken = st.lists(st.integers(1, 5), min_size=1, max_size=8)
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=7)


@given(hmms, spoken, lengths, st.floats(0.3, 3))
def test_phones_states_and_order_stay(hmm: HmmModel, phones: list[int], durations: list[int], factor: float) -> None:
    alignment = alignment_of(hmm, phones, durations)
    num_frames = max(round(factor * len(alignment)), len(states_passed(alignment)))
    new = stretched(alignment, num_frames)
    assert new.dtype == np.int32 and len(new) == num_frames
    assert phones_said(hmm, new) == phones
    assert states_passed(new) == states_passed(alignment)
    loops = new % 2 == 1
    np.testing.assert_array_equal(transition_states(new)[loops], np.roll(transition_states(new), 1)[loops])
    np.testing.assert_array_equal(hmm.pdfs(new), hmm.pdfs(alignment[alignment % 2 == 0])[visits(new)])


@given(spoken, lengths)
def test_the_same_length_changes_nothing(phones: list[int], durations: list[int]) -> None:
    alignment = alignment_of(THREE_STATES, phones, durations)
    np.testing.assert_array_equal(stretched(alignment, len(alignment)), alignment)


@given(spoken, lengths, st.floats(0.5, 3))
def test_frames_take_the_state_of_the_old_frame_in_their_middle(
    phones: list[int], durations: list[int], factor: float
) -> None:
    alignment = alignment_of(THREE_STATES, phones, durations)
    num_frames = max(round(factor * len(alignment)), len(states_passed(alignment)))
    expected = visits(alignment)[old_frames(len(alignment), num_frames)]
    if set(expected) == set(visits(alignment)):
        np.testing.assert_array_equal(visits(stretched(alignment, num_frames)), expected)


@given(spoken, st.lists(st.integers(2, 9), min_size=1, max_size=7), st.floats(0.67, 3))
def test_states_of_two_frames_and_more_stay_within_half_a_frame(
    phones: list[int], durations: list[int], factor: float
) -> None:
    alignment = alignment_of(THREE_STATES, phones, durations)
    num_frames = round(factor * len(alignment))
    before, after = (np.flatnonzero(row % 2 == 0) / len(row) for row in (alignment, stretched(alignment, num_frames)))
    assert np.abs(before - after).max() * num_frames <= 0.5 + 1e-9


@given(spoken, lengths)
def test_the_largest_move_is_the_least_possible(phones: list[int], durations: list[int]) -> None:
    alignment = alignment_of(ONE_STATE, phones[:5], durations)
    num_states = len(states_passed(alignment))
    num_frames = min(num_states + 2, len(alignment))
    wanted = [
        next((u for u, old in enumerate(old_frames(len(alignment), num_frames)) if old >= start), num_frames)
        for start in np.flatnonzero(alignment % 2 == 0)
    ]

    def largest_move(starts: tuple[int, ...]) -> int:
        return max(abs(start - place) for start, place in zip(starts, wanted, strict=True))

    chosen = tuple(np.flatnonzero(stretched(alignment, num_frames) % 2 == 0).tolist())
    rising = (
        row for row in product(range(num_frames), repeat=num_states) if row[0] == 0 and sorted(set(row)) == [*row]
    )
    assert largest_move(chosen) == min(map(largest_move, rising))


@given(spoken, lengths)
def test_as_many_frames_as_states_is_the_shortest(phones: list[int], durations: list[int]) -> None:
    alignment = alignment_of(THREE_STATES, phones, durations)
    num_states = 3 * len(phones)
    np.testing.assert_array_equal(stretched(alignment, num_states), alignment[alignment % 2 == 0])
    with pytest.raises(AlignmentError, match=f"{len(alignment)} frames cannot become {num_states - 1}.*{num_states}"):
        stretched(alignment, num_states - 1)


def test_a_phone_said_twice_stays_two_phones() -> None:
    alignment = alignment_of(ONE_STATE, [3, 3, 1, 1], [4])
    assert phones_said(ONE_STATE, stretched(alignment, 7)) == [3, 3, 1, 1]


def test_states_in_context_stay_those_of_the_context(triphones: HmmModel) -> None:
    mono = HmmModel.monophone(triphones.phones)
    alignment = convert_alignment(alignment_of(mono, [1, 6, 3, 5, 3, 1], [3, 1, 2]), mono, triphones)
    new = stretched(alignment, 29)
    contexts = frame_contexts(triphones, new)
    expected = triphones.tree.table[contexts.left, contexts.centre, contexts.right, contexts.state]
    np.testing.assert_array_equal(triphones.pdfs(new), expected)


def test_phone_segments_are_those_of_the_new_speed() -> None:
    alignment = alignment_of(THREE_STATES, [1, 3, 4], [4, 6, 2])
    segments = PhoneSegments.of_alignment(THREE_STATES, stretched(alignment, 2 * len(alignment)))
    before = PhoneSegments.of_alignment(THREE_STATES, alignment)
    assert segments.phones == before.phones and segments.num_frames == 2 * before.num_frames
    assert list(segments.starts) == [2 * start for start in before.starts]


@pytest.mark.parametrize("wrong", [[], [1, 1], [2, 0, 1], [-2, 2]])
def test_what_is_no_alignment_is_refused(wrong: list[int]) -> None:
    with pytest.raises(AlignmentError, match="begins by entering"):
        stretched(np.array(wrong, np.int32), 5)


def test_a_corpus_is_stretched_and_what_fails_is_told() -> None:
    long, short = alignment_of(THREE_STATES, [1, 3, 1], [4]), alignment_of(THREE_STATES, [3], [1])
    alignments = AlignmentSet({"a": long, "b": short}, {"c": "no path within beam 40"}, -7.5)
    source = {name: name.removeprefix("sp1.1-") for name in ("a", "b", "c", "sp1.1-a", "sp1.1-b", "sp1.1-c", "d")}
    num_frames = {"a": 36, "b": 3, "c": 9, "sp1.1-a": 33, "sp1.1-b": 2, "sp1.1-c": 8, "d": 4}
    result = stretch_all(alignments, source, num_frames)
    assert {name: len(row) for name, row in result.alignments.items()} == {"a": 36, "b": 3, "sp1.1-a": 33}
    assert result.alignments["sp1.1-a"].tolist() == stretched(long, 33).tolist()
    assert result.failed["sp1.1-c"] == "'c': no path within beam 40"
    assert result.failed["c"] == "no path within beam 40" and result.failed["d"] == "not aligned"
    assert "3 frames cannot become 2" in result.failed["sp1.1-b"]
    assert result.log_like_per_frame == -7.5
