"""Scores per speaker and in all, and input that does not fit together."""

from __future__ import annotations

import numpy as np
import pytest

from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word
from lhuc_asr.errors import DataError
from lhuc_asr.scoring.edit import ErrorCounts
from lhuc_asr.scoring.wer import Unit, alignments_text, score, score_hypotheses

REFERENCES = {"a-1": "ONE TWO THREE", "a-2": "FOUR", "b-1": "FIVE SIX"}
HYPOTHESES = {"a-1": "ONE TOO THREE", "a-2": "", "b-1": "FIVE SIX SEVEN"}
SPEAKER_OF = {"a-1": "a", "a-2": "a", "b-1": "b", "c-1": "somebody else"}


def test_speakers_and_total():
    result = score(REFERENCES, HYPOTHESES, SPEAKER_OF)
    assert result.speakers == {"a": ErrorCounts(0, 1, 1, 4), "b": ErrorCounts(1, 0, 0, 2)}
    assert result.total == ErrorCounts(1, 1, 1, 6)
    assert result.wer == 50.0
    assert str(result) == "%WER 50.00 [ 3 / 6, 1 ins, 1 del, 1 sub ]"


def test_characters_without_blanks():
    result = score({"u": "AB CD"}, {"u": "ABX C"}, {"u": "a"}, unit=Unit.character)
    assert result.total == ErrorCounts(0, 0, 2, 4) or result.total == ErrorCounts(1, 1, 0, 4)
    assert str(result).startswith("%CER 50.00")


def test_random_systems_add_up(random_systems):
    systems = random_systems(1)
    result = score(systems.references, systems.system(0.3), systems.speaker_of)
    assert (
        sum(result.speakers.values(), ErrorCounts()) == result.total == sum(result.utterances.values(), ErrorCounts())
    )
    assert result.total.num_words == sum(len(text.split()) for text in systems.references.values())


def test_missing_and_foreign_ids_are_named():
    with pytest.raises(DataError, match=r"1 of 3 are not in the hypotheses \('a-2'\) and 1 hypotheses.*\('x'\)"):
        score(REFERENCES, {"a-1": "", "b-1": "", "x": ""}, SPEAKER_OF)
    with pytest.raises(DataError, match=r"no speaker \('b-1'\)"):
        score(REFERENCES, HYPOTHESES, {"a-1": "a", "a-2": "a"})
    with pytest.raises(DataError, match="nothing to score"):
        score({}, {}, {})


def test_many_missing_ids_are_shortened():
    references = {f"u{index}": "A" for index in range(100)}
    with pytest.raises(DataError, match=r"100 of 100 .*\.\.\.") as caught:
        score(references, {}, dict.fromkeys(references, "a"))
    assert len(str(caught.value)) < 200


def test_alignments_show_every_utterance():
    text = alignments_text(score(REFERENCES, HYPOTHESES, SPEAKER_OF))
    assert all(utterance in text for utterance in REFERENCES)
    assert "ONE TOO THREE" in text


def heard(utterance, text):
    words = tuple(Word(word, float(number), 1.0) for number, word in enumerate(text.split()))
    return Hypothesis(utterance, words, np.ones(100 * len(words), np.int32), graph_cost=1.0, acoustic_cost=1.0)


def test_an_utterance_without_a_path_counts_as_recognised_without_words():
    found = {name: heard(name, text) for name, text in {**HYPOTHESES, "c-1": "NINE"}.items() if name != "a-2"}
    assert (
        score_hypotheses(REFERENCES, found, SPEAKER_OF).utterances
        == score(REFERENCES, HYPOTHESES, SPEAKER_OF).utterances
    )
