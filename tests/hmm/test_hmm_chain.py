"""One state a phone: its alignments say the same, and its tree knows the phone before and no other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.toy_utterances import ALIGNER, PHONES, aligned, toy_utterances
from lhuc_asr.errors import ConfigError
from lhuc_asr.hmm.chain import LOOP_PROBABILITY, ChainConfig, chain_alignment, chain_hmm
from lhuc_asr.hmm.states.model import HmmModel

spoken = st.lists(st.tuples(st.integers(1, len(PHONES)), st.integers(3, 9)), min_size=1, max_size=12)


def grown(num_leaves: int = 30, *, min_occupancy: float = 5.0) -> HmmModel:
    """The chain model of some toy speech, in which every phone sounds a little like the one before."""
    speech = toy_utterances(60)
    feats = {name: matrix + 0.3 * np.roll(matrix, 5, axis=0) for name, matrix in speech.feats.items()}
    items = [(feats[name], speech.alignments[name]) for name in speech.names]
    return chain_hmm(ALIGNER, items, ChainConfig(num_leaves=num_leaves, min_occupancy=min_occupancy, min_gain=1.0))


CHAIN = grown()


@given(spoken)
def test_an_alignment_keeps_its_phones_where_they_are(said: list[tuple[int, int]]) -> None:
    before = aligned(*zip(*said, strict=True))
    after = chain_alignment(before, ALIGNER, CHAIN)
    assert after.dtype == np.int32 and len(after) == len(before)
    assert CHAIN.phones_of(after).tolist() == ALIGNER.phones_of(before).tolist()
    assert CHAIN.phone_starts(after).tolist() == ALIGNER.phone_starts(before).tolist()


@given(spoken)
def test_every_frame_of_a_phone_has_the_same_tied_state(said: list[tuple[int, int]]) -> None:
    after = chain_alignment(aligned(*zip(*said, strict=True)), ALIGNER, CHAIN)
    segments = np.split(CHAIN.pdfs(after), np.flatnonzero(CHAIN.phone_starts(after))[1:])
    assert all(len(set(segment.tolist())) == 1 for segment in segments)


def test_the_tree_ignores_the_phone_that_follows() -> None:
    table = CHAIN.tree.table
    assert (table == table[:, :, :1]).all()
    assert (table[1:, 2] != table[1:2, 2]).any(), "it asks for the phone before"


def test_a_phone_has_one_state_of_the_duration_that_lf_mmi_assumes() -> None:
    assert CHAIN.num_states == 1 and CHAIN.phones == PHONES
    assert (CHAIN.transitions.loop_probability == LOOP_PROBABILITY).all()


@pytest.mark.parametrize("num_leaves", [4, 7])
def test_there_are_as_many_tied_states_as_asked_for(num_leaves: int) -> None:
    assert grown(num_leaves).num_pdfs == num_leaves


def test_tied_states_need_speech() -> None:
    assert grown(min_occupancy=1e6).num_pdfs == len(PHONES)


@pytest.mark.parametrize("wrong", [{"num_leaves": 0}, {"min_occupancy": 0.0}, {"min_gain": -1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"chain.{next(iter(wrong))}"):
        ChainConfig(**wrong)  # type: ignore[arg-type]
