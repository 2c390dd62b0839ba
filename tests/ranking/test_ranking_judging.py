"""What runs tell of ids that training had not seen: once, and run by run only where they differ."""

from __future__ import annotations

from lhuc_asr.ranking.judging import JudgedRun, unknown_text
from lhuc_asr.ranking.vocabulary import UnknownIds


def test_unknown_ids_are_told_run_by_run_where_runs_differ() -> None:
    def judged(seed: int, num_ids: int) -> JudgedRun:
        unknown = {"item_id": UnknownIds(2, num_ids, 9)} if num_ids else {}
        return JudgedRun(seed, {}, {}, unknown)

    assert unknown_text({"a": [judged(0, 1), judged(1, 1)]}).count("unknown") == 1
    assert unknown_text({"a": [judged(0, 1), judged(1, 0)], "b": [judged(0, 2)]}).splitlines() == [
        "unknown item_id (a, seed 0): 2 of 9 impressions (1 ids); they take the default row",
        "unknown item_id (b, seed 0): 2 of 9 impressions (2 ids); they take the default row",
    ]
