"""Minibatches of utterances hold every frame once, and are the same wherever an epoch is taken up again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.features.augmentation import Augmentation, AugmentationConfig
from lhuc_asr.training.examples.prefetching import prefetched
from lhuc_asr.training.examples.sequence_batches import (
    NO_TARGET,
    LongUtterances,
    SequenceBatch,
    SequenceBatches,
    SequenceConfig,
)
from lhuc_asr.training.examples.sequence_data import SequenceData

Feats = dict[str, NDArray[np.float32]]
LENGTHS = [5, 30, 7, 7, 12, 55, 1, 30, 29, 8, 16, 40]
SMALL = SequenceConfig(max_frames=60, max_utterances=4)


def corpus(lengths: list[int]) -> tuple[Feats, dict[str, NDArray[np.int64]]]:
    """Every frame holds the number of its utterance and its own; every target is unique."""
    feats, targets, first = {}, {}, 0
    for number, length in enumerate(lengths):
        frames = np.arange(length)
        feats[f"u{number:02}"] = np.stack([np.full(length, number + 1), frames + 1], 1).astype(np.float32)
        targets[f"u{number:02}"] = first + frames
        first += length
    return feats, targets


def batches_of(config: SequenceConfig = SMALL, lengths: list[int] = LENGTHS, **more: Any) -> SequenceBatches:
    feats, targets = corpus(lengths)
    return SequenceBatches(SequenceData.gather(feats, list(feats), targets), config, **more)


def equal(one: SequenceBatch, other: SequenceBatch) -> bool:
    assert one.targets is not None and other.targets is not None
    return (
        one.pieces == other.pieces
        and torch.equal(one.feats, other.feats)
        and torch.equal(one.lens, other.lens)
        and torch.equal(one.targets, other.targets)
    )


@given(
    lengths=st.lists(st.integers(1, 120), min_size=1, max_size=25),
    max_frames=st.integers(10, 150),
    max_utterances=st.integers(1, 6),
    context=st.integers(0, 4),
    ratio=st.floats(1.01, 3.0),
    epoch=st.integers(0, 3),
)
def test_an_epoch_holds_every_frame_once(
    lengths: list[int], max_frames: int, max_utterances: int, context: int, ratio: float, epoch: int
) -> None:
    config = SequenceConfig(
        max_frames=max_frames,
        max_utterances=max_utterances,
        chunk_context=context,
        bucket_ratio=ratio,
        num_prefetched=0,
    )
    found: list[int] = []
    for batch in batches_of(config, lengths).epoch(epoch):
        assert batch.targets is not None
        assert batch.feats.shape[:2].numel() <= max_frames and len(batch.pieces) <= max_utterances
        learnt = batch.targets != NO_TARGET
        assert int(learnt.sum()) == batch.num_frames
        found += batch.targets[learnt].tolist()
        for row, (piece, length) in enumerate(zip(batch.pieces, batch.lens.tolist(), strict=True)):
            assert length == piece.num_frames and not batch.feats[row, length:].any()
            first = piece.start - piece.left + 1
            assert batch.feats[row, :length, 1].tolist() == list(range(first, first + length))
            assert set(batch.feats[row, :length, 0].tolist()) == {float(piece.utterance[1:]) + 1}
    assert sorted(found) == list(range(sum(lengths)))


def test_targets_stand_beside_their_frames() -> None:
    _, targets = corpus(LENGTHS)
    for batch in batches_of(SequenceConfig(max_frames=20, chunk_context=3)).epoch(0):
        assert batch.targets is not None
        for row, column in (batch.targets != NO_TARGET).nonzero().tolist():
            frame = int(batch.feats[row, column, 1]) - 1
            assert targets[batch.utterances[row]][frame] == batch.targets[row, column]


def test_pieces_have_their_context_and_no_more() -> None:
    pieces = batches_of(SequenceConfig(max_frames=20, chunk_context=3), [50]).pieces
    assert [(piece.start, piece.end, piece.left, piece.right) for piece in pieces] == [
        (0, 12, 0, 3),
        (12, 25, 3, 3),
        (25, 37, 3, 3),
        (37, 50, 3, 0),
    ]
    assert not any(piece.is_whole for piece in pieces)


def test_what_is_too_long_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"'u05' \(55 frames\)"):
        batches_of(SequenceConfig(max_frames=60, longest=50, long_utterances=LongUtterances.refuse))


@pytest.mark.parametrize("prefetched_batches", [0, 1, 3])
def test_an_epoch_taken_up_again_goes_on_as_if_it_had_not_stopped(prefetched_batches: int) -> None:
    augment = Augmentation(AugmentationConfig(num_time_masks=2, num_freq_masks=1, max_freq_mask=1), num_mel_bins=2)
    config = SequenceConfig(max_frames=60, max_utterances=4, num_prefetched=prefetched_batches)
    uninterrupted = list(batches_of(config, augment=augment).epoch(2))
    for start in range(len(uninterrupted) + 1):
        resumed = list(batches_of(SMALL, augment=augment).epoch(2, start=start))
        assert len(resumed) == len(uninterrupted) - start
        assert all(equal(one, other) for one, other in zip(resumed, uninterrupted[start:], strict=True))


def test_the_order_of_utterances_changes_nothing() -> None:
    feats, targets = corpus(LENGTHS)
    augment = Augmentation(AugmentationConfig(num_time_masks=2), num_mel_bins=2)
    first, second = (
        SequenceBatches(SequenceData.gather(feats, names, targets), SMALL, seed=3, augment=augment)
        for names in (list(feats), list(feats)[::-1])
    )
    assert all(equal(one, other) for one, other in zip(first.epoch(1), second.epoch(1), strict=True))


def test_augmentation_does_not_depend_on_the_company() -> None:
    augment = Augmentation(AugmentationConfig(num_time_masks=3, max_time_mask=4), num_mel_bins=2)
    alone, together = (
        {
            piece.key: batch.feats[row, : piece.num_frames]
            for batch in batches_of(SequenceConfig(max_frames=200, max_utterances=size), augment=augment).epoch(0)
            for row, piece in enumerate(batch.pieces)
        }
        for size in (1, 5)
    )
    assert alone.keys() == together.keys()
    assert all(torch.equal(alone[key], together[key]) for key in alone)


def test_epochs_and_seeds_differ() -> None:
    batches = batches_of()
    assert batches.plan(0) == batches_of().plan(0)
    assert batches.plan(0) != batches.plan(1)
    assert batches.plan(0) != batches_of(seed=1).plan(0)


def test_utterances_of_a_minibatch_are_about_equally_long() -> None:
    lengths = np.random.default_rng(0).integers(50, 1000, 400).tolist()
    plan = batches_of(SequenceConfig(max_frames=8000), lengths).plan(0)
    padded = sum(len(batch) * max(piece.num_frames for piece in batch) for batch in plan)
    assert padded < 1.08 * sum(lengths)


def test_objectives_may_have_their_own_targets() -> None:
    feats, _ = corpus([4, 6])
    (batch,) = SequenceBatches(SequenceData.gather(feats, list(feats)), SequenceConfig(max_frames=20)).epoch(0)
    assert batch.targets is None and sorted(batch.utterances) == ["u00", "u01"]


def test_data_that_does_not_fit_is_refused_by_name() -> None:
    feats, targets = corpus([4, 6])
    with pytest.raises(DataError, match="there are no utterances"):
        SequenceData.gather(feats, [], targets)
    with pytest.raises(DataError, match="named twice"):
        SequenceData.gather(feats, ["u00", "u00"], targets)
    with pytest.raises(DataError, match="have no features: 'x'"):
        SequenceData.gather(feats, ["u00", "x"], targets)
    with pytest.raises(DataError, match="have no aligned states: 'u01'"):
        SequenceData.gather(feats, ["u01"], {"u00": targets["u00"]})
    with pytest.raises(DataError, match="another number of aligned states than of frames: 'u01'"):
        SequenceData.gather(feats, ["u01"], {"u01": targets["u00"]})
    with pytest.raises(DataError, match="have no frames: 'e'"):
        SequenceData.gather({"e": np.zeros((0, 2), np.float32)}, ["e"])


@pytest.mark.parametrize("fault", ["not all finite", "expected 6"])
@pytest.mark.parametrize("num_prefetched", [0, 2])
def test_bad_features_are_told_by_name_when_they_are_read(fault: str, num_prefetched: int) -> None:
    feats, targets = corpus([4, 6])
    data = SequenceData.gather(feats, list(feats), targets)
    feats["u01"] = feats["u01"][:5] if fault == "expected 6" else np.full_like(feats["u01"], np.nan)
    batches = SequenceBatches(data, SequenceConfig(max_frames=6, num_prefetched=num_prefetched))
    with pytest.raises(DataError, match=rf"'u01'.*{fault}"):
        list(batches.epoch(0))


def test_the_thread_ends_when_nobody_wants_more() -> None:
    before = threading.active_count()
    epoch = prefetched(iter(range(1000)), ahead=2)
    assert [next(epoch), next(epoch)] == [0, 1]
    assert threading.active_count() == before + 1
    epoch.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_an_error_comes_where_the_item_would_have_come() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third is broken")

    found: list[int] = []
    with pytest.raises(ValueError, match="the third is broken"):
        found.extend(prefetched(broken(), ahead=5))
    assert found == [1, 2]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_frames": 0},
        {"max_utterances": 0},
        {"longest": 9000},
        {"longest": -1},
        {"max_frames": 10, "chunk_context": 5},
        {"chunk_context": -1},
        {"bucket_ratio": 1.0},
        {"num_prefetched": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SequenceConfig(**settings)
