"""Verdicts of a guard against transcripts: counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lhuc_asr.errors import DataError
from lhuc_asr.scoring.verdicts import read_verdicts, score_verdicts
from lhuc_asr.scoring.wer import Score, score

SAID = {f"{speaker}-1": "A B C D" for speaker in "pqrs"}
FIRST = {"p-1": "A B C X", "q-1": "A B C D", "r-1": "A B X X", "s-1": "A B C D"}
UNGUARDED = {"p-1": "A B C D", "q-1": "A B X X", "r-1": "A B X X", "s-1": "X B C D"}  # helped, harmed, same, harmed
GUARDED = {"p-1": "A B C D", "q-1": "A B C D", "r-1": "A B X X", "s-1": "X B C D"}
VERDICTS = {"p": "accepted", "q": "fell back", "r": "shrunk", "s": "accepted"}


def errors(heard: dict[str, str]) -> Score:
    return score(SAID, heard, {name: name[0] for name in SAID})


def test_verdicts_are_counted_against_the_truth() -> None:
    found = score_verdicts(VERDICTS, errors(FIRST), errors(UNGUARDED), errors(GUARDED))
    assert found.confusion == {
        "accepted": {"helped": 1, "same": 0, "harmed": 1},
        "fell back": {"helped": 0, "same": 0, "harmed": 1},
        "shrunk": {"helped": 0, "same": 1, "harmed": 0},
    }
    assert (found.num_right, found.num_speakers) == (2, 4)
    assert found.with_guard == {"helped": 1, "same": 2, "harmed": 1}
    assert "without guard: 1 helped, 1 same, 2 harmed (by more than 1 % of the words)" in str(found)
    assert found.as_json()["num_right"] == 2
    mild = score_verdicts(VERDICTS, errors(FIRST), errors(UNGUARDED), margin=25.0)
    assert mild.without_guard == {"helped": 0, "same": 3, "harmed": 1} and mild.with_guard is None


def test_verdicts_are_read_from_an_adaptation(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no speaker in .* has a verdict"):
        read_verdicts(tmp_path)
    (tmp_path / "status").mkdir()
    pages = {
        "p": {"guard": {"verdict": "accepted"}, "held_out": None},
        "q": {"guard": None, "held_out": {"verdict": "fell back"}},
        "r": {"reason": "failed"},
    }
    for speaker, page in pages.items():
        (tmp_path / "status" / f"{speaker}.json").write_text(json.dumps({"speaker": speaker, **page}))
    assert read_verdicts(tmp_path) == {"p": "accepted", "q": "fell back"}
    with pytest.raises(DataError, match=r"1 of them are not scored, such as 'x'"):
        score_verdicts({"x": "accepted"}, errors(FIRST), errors(UNGUARDED))
