"""A log in parts by time, and on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.ranking.data.folder import (
    fingerprint,
    is_written,
    read_description,
    read_log,
    read_part,
    write_log,
    write_split,
)
from lhuc_asr.ranking.data.synthetic import SyntheticConfig, synthetic_log
from lhuc_asr.ranking.data.timed import Cut, SplitConfig, TimedLog, split_by_time
from lhuc_asr.ranking.schema import ClickLog

MADE = synthetic_log(SyntheticConfig(num_users=20, num_items=30, num_impressions=2000))


def numbered(times: list[int], users: list[int] | None = None) -> TimedLog:
    """Impressions whose item id is their number."""
    count = len(times)
    user = np.array(users) if users else np.zeros(count, dtype=np.int64)
    log = ClickLog(user, np.arange(count), np.zeros(count, dtype=np.int64), {"click": np.zeros(count, np.float32)})
    return TimedLog(log, np.array(times))


@given(st.lists(st.integers(0, 50), min_size=30, max_size=80))
def test_what_comes_later_is_held_out_and_nothing_is_lost(times: list[int]) -> None:
    timed = numbered(times)
    try:
        split = split_by_time(timed, SplitConfig(dev=0.2, test=0.3))
    except DataError as error:
        assert "nothing is left for" in str(error)
        return
    parts = [[times[item] for item in part.item_id] for part in split.parts.values()]
    assert sorted(np.concatenate([part.item_id for part in split.parts.values()])) == list(range(len(times)))
    assert max(parts[0]) < min(parts[1]) <= max(parts[1]) < min(parts[2])


def test_cut_by_user_holds_out_the_last_of_everybody() -> None:
    users = [1] * 10 + [2] * 10 + [3]
    split = split_by_time(numbered([*range(10), *range(100, 110), 5], users), SplitConfig(cut=Cut.user))
    assert split.test.item_id.tolist() == [9, 19]
    assert split.dev.item_id.tolist() == [8, 18]
    assert 20 in split.train.item_id, "one impression alone is for training"


@pytest.mark.parametrize(("dev", "test"), [(0.0, 0.1), (0.5, 0.5), (0.1, -0.1)])
def test_shares_that_leave_nothing_are_refused(dev: float, test: float) -> None:
    with pytest.raises(ConfigError, match="shares above 0 that leave some for training"):
        SplitConfig(dev=dev, test=test)


def test_a_log_of_one_moment_cannot_be_split() -> None:
    with pytest.raises(
        DataError, match=r"50 impressions at 1 different times cannot be split .* nothing is left for dev"
    ):
        split_by_time(numbered([7] * 50))


def test_every_impression_needs_a_time() -> None:
    with pytest.raises(DataError, match=r"3 impressions need as many times, got shape \(2,\)"):
        TimedLog(numbered([1, 2, 3]).log, np.arange(2))


def test_a_prepared_log_comes_back_from_disk(tmp_path: Path) -> None:
    split = split_by_time(MADE)
    write_split(tmp_path / "data", split, source={"layout": "synthetic"})
    for name, part in split.parts.items():
        found = read_part(tmp_path / "data", name)
        assert found.columns.keys() == part.columns.keys()
        for column, values in part.columns.items():
            np.testing.assert_array_equal(found.columns[column], values)
    assert read_description(tmp_path / "data")["source"] == {"layout": "synthetic"}
    assert is_written(tmp_path / "data", {"layout": "synthetic"})
    assert not is_written(tmp_path / "data", {"layout": "kuairand"}) and not is_written(tmp_path, {})
    assert fingerprint(tmp_path / "data") == fingerprint(tmp_path / "data")


def test_an_unfinished_or_damaged_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no prepared log .* lhuc-rank prepare makes one"):
        read_part(tmp_path, "train")
    write_split(tmp_path, split_by_time(MADE), source={})
    (tmp_path / "dev.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match=r"dev\.safetensors"):
        read_part(tmp_path, "dev")
    with pytest.raises(DataError, match="has the parts train, dev, test, not 'eval'"):
        read_part(tmp_path, "eval")
    (tmp_path / "log.json").write_text('{"format": 7}')
    with pytest.raises(DataError, match="has format 7, this version reads 1"):
        read_part(tmp_path, "train")


def test_other_tensors_are_no_log(tmp_path: Path) -> None:
    write_log(tmp_path / "a.safetensors", MADE.log)
    assert len(read_log(tmp_path / "a.safetensors")) == 2000
    import torch

    from lhuc_asr.tensors import save_tensors

    save_tensors({"weight": torch.zeros(2)}, tmp_path / "b.safetensors")
    with pytest.raises(DataError, match="is no click log"):
        read_log(tmp_path / "b.safetensors")
