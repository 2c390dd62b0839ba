"""Ids to rows: unknown ones are counted and take the default row; other columns are refused."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers.tiny_logs import tiny_log
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.ranking.encoding import Encoder
from lhuc_asr.ranking.schema import ClickLog
from lhuc_asr.ranking.vocabulary import UNKNOWN, Vocabulary

ids = arrays(np.int64, st.integers(0, 30), elements=st.integers(-5, 5))


@given(ids, ids)
def test_known_ids_have_a_row_each_and_others_share_one(seen, asked):
    vocabulary = Vocabulary.of(seen)
    rows = vocabulary.rows(asked)
    assert vocabulary.num_rows == len(set(seen.tolist())) + 1
    for one, row in zip(asked.tolist(), rows.tolist(), strict=True):
        assert (row == UNKNOWN) == (one not in seen)
        assert row == UNKNOWN or vocabulary.known[row - 1] == one
    unknown = vocabulary.unknown(asked)
    strange = [one for one in asked.tolist() if one not in seen]
    assert (unknown.num_rows, unknown.num_ids, unknown.of) == (len(strange), len(set(strange)), len(asked))


def test_rare_ids_share_the_default_row():
    vocabulary = Vocabulary.of(np.array([3, 3, 4]), min_count=2)
    assert vocabulary.rows(np.array([3, 4])).tolist() == [1, UNKNOWN]
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Vocabulary.of(np.array([3]), min_count=0)


def test_numbers_are_normalised_as_in_training():
    log = tiny_log()
    encoder = Encoder.of(log)
    dense = encoder.encode(log).dense_ND
    torch.testing.assert_close(dense.mean(dim=0), torch.zeros(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(dense.std(dim=0, correction=0), torch.ones(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(encoder.encode(log.rows(slice(3, 5))).dense_ND, dense[3:5])


def test_a_number_that_never_changes_is_left_alone():
    log = tiny_log(5)
    same = ClickLog(log.user_id, log.item_id, log.domain, log.labels, dense={"hour": np.full(5, 3.0, np.float32)})
    assert Encoder.of(same).encode(same).dense_ND.tolist() == [[0.0]] * 5


def test_unknown_ids_are_counted_and_told(caplog):
    train, test = tiny_log(num_users=4), tiny_log(num_users=8)
    encoder = Encoder.of(train)
    strange = np.isin(test.user_id, train.user_id, invert=True)
    rows_NS = encoder.encode(test).rows_NS
    with caplog.at_level(logging.WARNING):
        encoder.tell_unknown(test, part="test")
    assert encoder.unknown(test)["user_id"].num_rows == strange.sum() == (rows_NS[:, 0] == UNKNOWN).sum()
    assert list(encoder.unknown(test)) == ["user_id"] and not encoder.unknown(train)
    assert f"test: feature 'user_id': {strange.sum()} of 400 impressions (4 ids) are not known" in caplog.text


def test_other_columns_and_empty_logs_are_refused():
    log = tiny_log()
    encoder = Encoder.of(log)
    bare = ClickLog(log.user_id, log.item_id, log.domain, log.labels, log.sparse)
    with pytest.raises(DataError, match="made for the dense features 'hour', but the log has none"):
        encoder.encode(bare)
    with pytest.raises(DataError, match="made for the labels 'click', but the log has 'click', 'like'"):
        encoder.encode(tiny_log(tasks=("click", "like")))
    with pytest.raises(DataError, match="learns from impressions with labels, got 0"):
        Encoder.of(log.rows(slice(0, 0)))
