"""A click log is right when it exists: every mistake is told in one line."""

import numpy as np
import pytest

from lhuc_asr.errors import DataError
from lhuc_asr.ranking.schema import ClickLog


def columns(**changes):
    made = {
        "user_id": np.array([5, 5, 9]),
        "item_id": np.array([1, 2, 1]),
        "domain": np.array([0, 1, 0]),
        "labels": {"click": np.array([0.0, 1.0, 1.0], np.float32)},
        "sparse": {"author_id": np.array([3, 3, 4])},
        "dense": {"hour": np.array([0.5, 1.0, 2.0], np.float32)},
    }
    return {**made, **changes}


def test_columns_and_rows():
    log = ClickLog(**columns(chances={"click": np.array([0.1, 0.8, 0.7], np.float32)}))
    assert log.schema.sparse == ("user_id", "item_id", "domain", "author_id")
    assert log.schema.dense == ("hour",) and log.schema.tasks == ("click",)
    some = log.rows(log.user_id == 5)
    assert len(some) == 2 and some.schema == log.schema and some.chances["click"].tolist() == pytest.approx([0.1, 0.8])
    assert log.rows(slice(2, 3)).sparse["author_id"].tolist() == [4]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"item_id": np.array([1, 2])}, r"'item_id' has shape \(2,\), but there are 3 user ids"),
        ({"user_id": np.array([1.0, 2.0, 3.0])}, r"'user_id' holds float64, ids are integers"),
        (
            {"dense": {"hour": np.array([0, np.nan, np.inf])}},
            r"'hour' has NaN or infinity in 2 of 3 rows, the first are 1",
        ),
        ({"labels": {"click": np.array([0.0, 3.0, 1.0])}}, r"label 'click' holds 3; a label is 0 or 1"),
        ({"sparse": {"domain": np.array([1, 2, 3])}}, r"'domain' as a column of its own"),
        ({"dense": {"author_id": np.array([1.0, 2.0, 3.0])}}, r"'author_id' was given as ids and as numbers"),
    ],
)
def test_bad_columns_are_told(changes, told):
    with pytest.raises(DataError, match=told):
        ClickLog(**columns(**changes))
