"""Rows: like a plain dictionary, and no row changes while somebody reads it."""

from contextlib import ExitStack

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import nn

from lhuc_asr.errors import SpeakerError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.bank import SpeakerBank
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.rows import SpeakerRows
from lhuc_asr.lhuc.sites import Site

SPEAKERS = st.sampled_from(["ann", "ben", "eve", "zoe", "", "../x", "12_3", "日本"])
SITE = Site("0", (2,), Layout("BH"))


class BankIsADictionary(RuleBasedStateMachine):
    """Puts and evictions, while batches begin and end; a dictionary of numbers says what must come out."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Identity())
        self.bank = SpeakerBank([SITE], capacity=2)
        self.model = {}
        self.batches = []
        self.attached = ExitStack()
        self.attached.enter_context(self.bank.attached(self.net, prove=False))

    def teardown(self):
        for batch, _ in reversed(self.batches):
            batch.close()
        self.attached.close()

    @rule(speaker=SPEAKERS, value=st.floats(-3, 3, width=32))
    def put(self, speaker, value):
        self.bank.put(speaker, LhucAdapter({"0": torch.full((2,), value)}))
        self.model[speaker] = value

    @rule(speaker=SPEAKERS)
    def evict(self, speaker):
        if speaker in self.model:
            self.bank.evict(speaker)
            del self.model[speaker]
        else:
            with pytest.raises(SpeakerError, match="is not among"):
                self.bank.evict(speaker)

    @rule(speaker=SPEAKERS)
    def begin_a_batch(self, speaker):
        if speaker in self.model:
            batch = ExitStack()
            batch.enter_context(self.bank.speakers([speaker, None]))
            self.batches.append((batch, self.model[speaker]))

    @precondition(lambda self: self.batches)
    @rule()
    def end_a_batch(self):
        self.batches.pop()[0].close()

    @rule()
    def store_and_load(self):
        if not self.batches:
            other = SpeakerBank([SITE], capacity=1)
            other.load_state_dict(self.bank.state_dict())
            self.attached.close()
            self.bank = other
            self.attached.enter_context(self.bank.attached(self.net, prove=False))

    @invariant()
    def the_tables_say_what_the_dictionary_says(self):
        assert set(self.bank.known) == set(self.model) and len(self.bank) == len(self.model)
        for speaker, value in self.model.items():
            assert torch.equal(self.bank.adapter(speaker).r["0"].detach(), torch.full((2,), value))
        assert not self.bank.tables[0][0].any()
        rows = self.bank._rows.as_dict().values()
        assert len(set(rows)) == len(rows) and all(0 < row < len(self.bank.tables[0]) for row in rows)

    @invariant()
    def a_batch_under_way_keeps_what_it_began_with(self):
        if self.batches:
            expected = torch.stack([torch.full((2,), self.batches[-1][1]).exp(), torch.ones(2)])
            assert torch.equal(self.net(torch.ones(2, 2)), expected)

    @invariant()
    def rows_of_nobody_hold_nothing(self):
        if not self.batches:
            rows = {0, *self.bank._rows.as_dict().values()}
            rest = [row for row in range(len(self.bank.tables[0])) if row not in rows]
            assert not self.bank.tables[0][rest].any()


TestBankIsADictionary = BankIsADictionary.TestCase
TestBankIsADictionary.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_an_unknown_speaker_is_refused_with_the_nearest():
    rows = SpeakerRows(4)
    rows.put("0024", lambda row: None)
    with pytest.raises(SpeakerError, match=r"speaker '0042' is not among the 1 of the bank; the nearest: '0024'"):
        rows.row("0042")
    with pytest.raises(SpeakerError, match="speaker 24 is not among"), rows.reading([24]):
        pass


def test_a_row_that_could_not_be_filled_is_nobodys():
    rows = SpeakerRows(3)
    with pytest.raises(KeyboardInterrupt):
        rows.put("ann", lambda row: (_ for _ in ()).throw(KeyboardInterrupt))
    assert rows.as_dict() == {}
    rows.put("ben", lambda row: None)
    rows.put("eve", lambda row: None)
    assert rows.is_full and sorted(rows.as_dict().values()) == [1, 2]


def test_loading_waits_for_nobody():
    rows = SpeakerRows(3)
    rows.put("ann", lambda row: None)
    with rows.reading(["ann"]), pytest.raises(SpeakerError, match="while batches are under way"):
        rows.restart({}, 3)
    rows.restart({"ben": 2}, 3)
    assert rows.as_dict() == {"ben": 2} and not rows.is_full
