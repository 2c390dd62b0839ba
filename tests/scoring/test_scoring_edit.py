"""Counts and alignments: by hand, by their laws, and against an independent implementation."""

from __future__ import annotations

import jiwer
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.scoring.edit import (
    Edit,
    ErrorCounts,
    align,
    align_like_sclite,
    count_errors,
    format_alignment,
)

sentences = st.lists(st.sampled_from(["A", "B", "C", "*"]), max_size=9)


@given(sentences)
def test_nothing_differs_from_itself(words):
    counts = count_errors(words, words)
    assert (counts.errors, counts.wer, counts.correct) == (0, 0.0, len(words))


@given(sentences, sentences)
def test_distance_is_symmetric_and_insertions_are_deletions_seen_from_the_other_side(left, right):
    there, back = count_errors(left, right), count_errors(right, left)
    assert there.errors == back.errors
    assert there.insertions - there.deletions == len(right) - len(left) == back.deletions - back.insertions


@given(sentences, sentences, sentences)
def test_a_detour_is_never_shorter(first, second, third):
    direct = count_errors(first, third).errors
    assert direct <= count_errors(first, second).errors + count_errors(second, third).errors


@given(sentences, sentences)
def test_counts_add_up(reference, hypothesis):
    counts = count_errors(reference, hypothesis)
    assert counts.correct + counts.substitutions + counts.deletions == len(reference) == counts.num_words
    assert counts.correct + counts.substitutions + counts.insertions == len(hypothesis)
    assert max(len(reference), len(hypothesis)) >= counts.errors >= abs(len(reference) - len(hypothesis))


@given(sentences, sentences)
def test_alignments_spell_both_sides_and_have_as_many_errors_as_counted(reference, hypothesis):
    for function in (align, align_like_sclite):
        pairs = function(reference, hypothesis)
        assert [pair.reference for pair in pairs if pair.reference is not None] == reference
        assert [pair.hypothesis for pair in pairs if pair.hypothesis is not None] == hypothesis
    edits = [pair.edit for pair in align(reference, hypothesis)]
    assert len(edits) - edits.count(Edit.correct) == count_errors(reference, hypothesis).errors


@given(st.lists(st.sampled_from("ABC"), min_size=1, max_size=9), st.lists(st.sampled_from("ABC"), max_size=9))
def test_an_independent_implementation_counts_as_many_errors(reference, hypothesis):
    other = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    assert count_errors(reference, hypothesis).errors == other.substitutions + other.deletions + other.insertions


def test_line_of_kaldi():
    counts = ErrorCounts(insertions=359, deletions=269, substitutions=2232, num_words=52576)
    assert str(counts) == "%WER 5.44 [ 2860 / 52576, 359 ins, 269 del, 2232 sub ]"


def test_words_where_nothing_was_said():
    assert count_errors([], ["A"]).wer == float("inf")
    assert count_errors([], []).wer == 0.0


def test_sums():
    assert ErrorCounts(1, 2, 3, 10) + ErrorCounts(10, 20, 30, 100) == ErrorCounts(11, 22, 33, 110)


def test_alignment_reads_in_columns():
    lines = format_alignment(align(["ONE", "TWO"], ["ONE", "TOO", "THREE"])).splitlines()
    assert lines in (
        ["REF:  ONE TWO *****", "HYP:  ONE TOO THREE", "Eval:     S   I"],
        ["REF:  ONE *** TWO", "HYP:  ONE TOO THREE", "Eval:     I   S"],
    )
