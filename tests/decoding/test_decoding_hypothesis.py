"""Hypotheses survive the disk, and files that do not belong together are noticed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word, read_hypotheses, write_hypotheses
from lhuc_asr.errors import DataError
from lhuc_asr.units import frames_to_seconds


def hypotheses():
    path = np.arange(1, 8, dtype=np.int32)
    return [
        Hypothesis("b/../x", (Word("CAFÉ", 0.05, 0.2), Word("A\u2028B", 0.3, 0.1)), path, 3.25, -17.5),
        Hypothesis("a b", (), path[:0], 0.0, 0.0, reached_final=False),
        Hypothesis("José", (Word("<UNK>", 0.0, 0.01),), path[2:4], 1.0, 2.0),
    ]


def test_round_trip(tmp_path):
    write_hypotheses(tmp_path / "out", hypotheses())
    read = read_hypotheses(tmp_path / "out")
    assert list(read) == sorted(read) == ["José", "a b", "b/../x"]
    for before in hypotheses():
        after = read[before.utterance]
        assert (after.words, after.graph_cost, after.acoustic_cost, after.reached_final) == (
            before.words,
            before.graph_cost,
            before.acoustic_cost,
            before.reached_final,
        )
        np.testing.assert_array_equal(after.transition_ids, before.transition_ids)
        assert after.transition_ids.dtype == np.int32


def test_confidences_and_frame_shift_survive_and_may_be_absent(tmp_path):
    plain = hypotheses()[0]
    sure = dataclasses.replace(plain.with_confidences((0.25, 1.0)), frame_shift_ms=30.0)
    assert (plain.confidences, sure.confidences, sure.duration) == (None, (0.25, 1.0), pytest.approx(0.21))
    write_hypotheses(tmp_path, [sure])
    after = read_hypotheses(tmp_path)[sure.utterance]
    assert (after.words, after.frame_shift_ms) == (sure.words, 30.0)
    assert hypotheses()[1].confidences == ()
    lines = (tmp_path / "hypotheses.jsonl").read_text(encoding="utf-8")
    assert '["CAFÉ", 0.05, 0.2, 0.25]' in lines


@given(
    lengths=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 400)), max_size=9),
    shift=st.sampled_from([8.0, 10.0, 12.5, 16.0, 20.0, 30.0, 40.0]),
)
def test_words_last_from_frame_to_frame(lengths: list[tuple[int, int]], shift: float) -> None:
    ends = np.cumsum([gap + length for gap, length in lengths], dtype=int).tolist()
    spans = [(end - length, end) for end, (_, length) in zip(ends, lengths, strict=True)]
    words = tuple(
        Word("YES", frames_to_seconds(start, shift), frames_to_seconds(end - start, shift)) for start, end in spans
    )
    path = Hypothesis("u", words, np.ones(sum([*ends[-1:]]), np.int32), 0.0, 0.0, frame_shift_ms=shift)
    assert path.word_frames == spans


def test_text_is_written_for_other_programs(tmp_path):
    write_hypotheses(tmp_path, hypotheses()[2:])
    assert (tmp_path / "text").read_text(encoding="utf-8") == "José <UNK>\n"


def test_no_hypotheses_at_all(tmp_path):
    write_hypotheses(tmp_path, [])
    assert read_hypotheses(tmp_path) == {}


@pytest.mark.parametrize("name", ["hypotheses.jsonl", "transition_ids.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    write_hypotheses(tmp_path, hypotheses())
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=name):
        read_hypotheses(tmp_path)


@pytest.mark.parametrize("name", ["hypotheses.jsonl", "transition_ids.safetensors"])
def test_a_file_of_another_run_or_a_truncated_one_is_refused(tmp_path, name):
    write_hypotheses(tmp_path / "one", hypotheses())
    write_hypotheses(tmp_path / "two", hypotheses()[:2])
    (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
    with pytest.raises(DataError, match="decode again"):
        read_hypotheses(tmp_path / "one")
    content = (tmp_path / "two" / name).read_bytes()
    (tmp_path / "two" / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="decode again"):
        read_hypotheses(tmp_path / "two")
