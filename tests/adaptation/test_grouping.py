"""Groups hold everybody once, in order, and fit; rows of speakers are told apart however many each has."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.adaptation.objectives.minibatches import joint_minibatches
from lhuc_asr.adaptation.objectives.rows import Rows
from lhuc_asr.adaptation.update.grouping import GroupSizes, groups_of_speakers

LENGTHS = st.lists(st.integers(1, 30), max_size=20)


@given(lengths=LENGTHS, batch_size=st.integers(1, 9), rows=st.integers(1, 20), frames=st.integers(1, 60))
@pytest.mark.parametrize("at_least", [1, 3, 8])
def test_groups_fit(lengths: list[int], batch_size: int, rows: int, frames: int, at_least: int) -> None:
    num_frames = {str(place): length for place, length in enumerate(lengths)}
    sizes = GroupSizes(rows=rows, frames=frames, at_least=at_least)
    groups = list(groups_of_speakers(num_frames, batch_size, sizes))
    assert [speaker for group in groups for speaker in group] == list(num_frames)
    for group in groups:
        own = [num_frames[speaker] for speaker in group]
        assert len(group) == 1 or (sum(own) <= frames and sum(min(n, batch_size) for n in own) <= rows)
        assert len(group) <= -(-len(lengths) // at_least)


@given(lengths=LENGTHS)
def test_groups_are_as_big_as_they_may_be(lengths: list[int]) -> None:
    num_frames = {str(place): length for place, length in enumerate(lengths)}
    groups = list(groups_of_speakers(num_frames, 5, GroupSizes(rows=10**6, frames=60, at_least=1)))
    for group, following in pairwise(groups):
        assert sum(num_frames[speaker] for speaker in (*group, following[0])) > 60


def test_a_processor_gets_small_groups_and_a_device_big_ones() -> None:
    num_frames = {str(place): 1000 for place in range(256)}
    on_cpu, on_gpu = (GroupSizes.for_device(torch.device(kind), units=512) for kind in ("cpu", "cuda"))
    assert {len(group) for group in groups_of_speakers(num_frames, 256, on_cpu)} == {4}
    assert {len(group) for group in groups_of_speakers(num_frames, 256, on_gpu)} == {128}
    few = {str(place): 1000 for place in range(6)}
    assert len(list(groups_of_speakers(few, 256, on_cpu))) == 6


@given(lengths=st.dictionaries(st.integers(0, 9), st.integers(1, 30), max_size=6), batch_size=st.integers(1, 12))
def test_minibatches_are_those_of_each_speaker_alone(lengths: dict[int, int], batch_size: int) -> None:
    orders = {place: torch.randperm(length) for place, length in lengths.items()}
    taken: dict[int, list[list[int]]] = {place: [] for place in lengths}
    for batch in joint_minibatches(orders, batch_size):
        for place, frames in zip(batch.speakers, batch.items, strict=True):
            taken[place].append(frames.tolist())
    for place, order in orders.items():
        assert taken[place] == [part.tolist() for part in torch.split(order, batch_size)]


@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_rows_belong_to_their_speakers(counts: list[int]) -> None:
    rows, values = Rows(tuple(counts)), torch.randn(sum(counts), 3)
    factors = torch.randn(len(counts), 3)
    parts = list(torch.split(values, counts))
    scaled = torch.cat([part * factor for part, factor in zip(parts, factors, strict=True)])
    torch.testing.assert_close((rows.grouped(values) * rows.spread(factors)).reshape(-1, 3), scaled)
    torch.testing.assert_close(values * rows.repeat(factors), scaled)
    torch.testing.assert_close(rows.sums(values), torch.stack([part.sum(0) for part in parts]))
    torch.testing.assert_close(rows.means(values[:, 0]), torch.stack([part[:, 0].mean() for part in parts]))
