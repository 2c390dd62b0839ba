"""Tests of significance: by hand, by their laws, and on systems that are known to be equal or different."""

from __future__ import annotations

import math

import pytest

from lhuc_asr.errors import DataError
from lhuc_asr.scoring.bootstrap import bootstrap_speakers
from lhuc_asr.scoring.comparison import compare
from lhuc_asr.scoring.edit import ErrorCounts
from lhuc_asr.scoring.mapsswe import mapsswe, mapsswe_by_speaker
from lhuc_asr.scoring.wer import Unit, score


def test_segments_by_hand():
    said = {"u": "A B C D E F G H"}
    first = {"u": "A X C D E Y G H"}  # two errors, two words in a row right between them
    second = {"u": "A B C D E F G H Z"}  # one word too many at the end
    test = mapsswe(said, first, second)
    assert test.num_segments == 3
    assert test.mean_difference == pytest.approx((1 + 1 - 1) / 3)
    deviation = math.sqrt(((1 - 1 / 3) ** 2 * 2 + (-1 - 1 / 3) ** 2) / 2)
    assert test.z == pytest.approx((1 / 3) / (deviation / math.sqrt(3)))


def test_one_right_word_does_not_end_a_segment():
    assert mapsswe({"u": "A B C D"}, {"u": "X B Y D"}, {"u": "A B C D"}).num_segments == 1


def test_order_changes_only_the_sign(random_systems):
    systems = random_systems(4)
    first, second = systems.system(0.4), systems.system(0.3)
    there = mapsswe(systems.references, first, second)
    back = mapsswe(systems.references, second, first)
    assert (there.num_segments, there.z, there.p_value) == (back.num_segments, -back.z, back.p_value)


def test_all_errors_lie_in_segments(random_systems):
    systems = random_systems(7)
    first, second = systems.system(0.4), systems.system(0.2)
    test = mapsswe(systems.references, first, second)
    errors = [score(systems.references, system, systems.speaker_of).total.errors for system in (first, second)]
    assert test.mean_difference * test.num_segments == pytest.approx(errors[0] - errors[1], abs=3)  # sclite's costs


def test_equal_systems_do_not_differ(random_systems):
    systems = random_systems(2)
    same = systems.system(0.3)
    test = mapsswe(systems.references, same, same)
    assert (test.mean_difference, test.z, test.p_value) == (0.0, 0.0, 1.0)
    perfect = mapsswe(systems.references, systems.references, systems.references)
    assert (perfect.num_segments, perfect.p_value) == (0, 1.0)


def test_each_speaker_is_tested_as_if_he_were_alone(random_systems):
    systems = random_systems(5)
    first, second = systems.system(0.4), systems.system(0.3)
    found = mapsswe_by_speaker(systems.references, first, second, systems.speaker_of)
    for speaker in set(systems.speaker_of.values()):
        own = {name: text for name, text in systems.references.items() if systems.speaker_of[name] == speaker}
        assert found[speaker] == mapsswe(own, first, second)
    assert sum(test.num_segments for test in found.values()) == mapsswe(systems.references, first, second).num_segments


def test_only_speakers_with_many_more_errors_are_surely_worse(random_systems):
    systems = random_systems(6)
    before = systems.system(0.3)
    spoilt = {name for name, speaker in systems.speaker_of.items() if speaker == "speaker0"}
    after = {name: "" if name in spoilt else text for name, text in before.items()}
    scores = [score(systems.references, texts, systems.speaker_of) for texts in (before, after)]
    assert compare(*scores).surely_worse == compare(*reversed(scores)).surely_better == ("speaker0",)
    assert compare(*scores).surely_better == ()


def test_a_clear_difference_is_significant_in_both_tests(random_systems):
    systems = random_systems(3)
    before = score(systems.references, systems.system(0.5), systems.speaker_of)
    after = score(systems.references, systems.system(0.2), systems.speaker_of)
    comparison = compare(before, after)
    assert comparison.matched_pairs.p_value < 0.001
    assert comparison.bootstrap.p_value < 0.001
    assert comparison.relative_change == pytest.approx(100 * (after.total.errors / before.total.errors - 1))
    assert comparison.bootstrap.low < comparison.relative_change < comparison.bootstrap.high < 0
    assert set(comparison.better) == set(before.speakers)
    assert comparison.same == comparison.worse == ()


def test_speakers_are_divided_into_better_same_and_worse():
    said = dict.fromkeys("abc", "A B C D")
    speaker_of = {speaker: speaker for speaker in "abc"}
    before = score(said, {"a": "A B", "b": "A B", "c": "A B"}, speaker_of)
    after = score(said, {"a": "A B C", "b": "A X C", "c": "A"}, speaker_of)
    comparison = compare(before, after, num_replications=100)
    assert (comparison.better, comparison.same, comparison.worse) == (("a",), ("b",), ("c",))


def test_chance_alone_is_rarely_significant(random_systems):
    values = []
    for seed in range(24):
        systems = random_systems(seed, num_utterances=60)
        first, second = systems.system(0.3), systems.system(0.3)
        values.append(mapsswe(systems.references, first, second).p_value)
    assert sum(value < 0.05 for value in values) <= 4
    assert 0.3 < sum(values) / len(values) < 0.7


def test_bootstrap_repeats_itself_and_needs_two_speakers():
    first = {f"s{index}": ErrorCounts(0, 0, 10 + index, 100) for index in range(10)}
    second = {f"s{index}": ErrorCounts(0, 0, 9 + 2 * (index % 2), 100) for index in range(10)}
    assert bootstrap_speakers(first, second) == bootstrap_speakers(first, second)
    assert bootstrap_speakers(first, second) != bootstrap_speakers(first, second, seed=1)
    assert bootstrap_speakers({"s": ErrorCounts(1, 0, 0, 5)}, {"s": ErrorCounts(0, 0, 0, 5)}) is None
    silent = {"s": ErrorCounts(0, 0, 0, 5), "t": ErrorCounts(0, 0, 0, 5)}
    assert bootstrap_speakers(silent, {"s": ErrorCounts(1, 0, 0, 5), "t": ErrorCounts()}) is None


def test_bootstrap_interval_is_that_of_the_draws():
    first = {"a": ErrorCounts(0, 0, 10, 100), "b": ErrorCounts(0, 0, 10, 100)}
    second = {"a": ErrorCounts(0, 0, 5, 100), "b": ErrorCounts(0, 0, 15, 100)}
    drawn = bootstrap_speakers(first, second)
    assert (drawn.low, drawn.relative_change, drawn.high) == (pytest.approx(-50), pytest.approx(0), pytest.approx(50))
    assert drawn.p_value == 1.0


def test_different_references_or_units_are_not_compared():
    one = score({"u": "A"}, {"u": "A"}, {"u": "s"})
    with pytest.raises(DataError):
        compare(one, score({"u": "B"}, {"u": "A"}, {"u": "s"}))
    with pytest.raises(DataError):
        compare(one, score({"u": "A"}, {"u": "A"}, {"u": "s"}, unit=Unit.character))
    characters = score({"u": "A"}, {"u": "A"}, {"u": "s"}, unit=Unit.character)
    assert compare(characters, characters).matched_pairs is None
