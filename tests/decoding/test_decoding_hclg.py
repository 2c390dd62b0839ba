"""With a composed, determinised and minimised HCLG: what was built in is found again, with the times of every word."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lhuc_asr.decoding.graph import DecodingGraph
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.hmm.graphs.graph import build_graph
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.kneser_ney import estimate_ngram
from lhuc_asr.lang.lexicon import Lexicon

LEXICON = Lexicon(
    {
        "ONE": (("W", "AH", "N"),),
        "WON": (("W", "AH", "N"),),
        "TWO": (("T", "UW"), ("T", "AH")),
        "OH": (("UW",),),
        "UWU": (("UW", "UW"),),
        "NONE": (("N", "AH", "N"),),
    }
)
HMM = HmmModel.monophone(LEXICON.phones)


def say(words, rng):
    """Transition ids of a sentence, and the (first, one past the last) frame of each word."""
    ids, spans = [], []

    def phone(name):
        for state in range(3):
            enter = 2 * (3 * LEXICON.phones.index(name) + state) + 2
            ids.extend([enter] + [enter - 1] * rng.randint(0, 3))

    phone("SIL")
    for word in words:
        start = len(ids)
        for name in rng.choice(LEXICON.pronunciations_of(word)):
            phone(name)
        spans.append((start, len(ids)))
        if rng.random() < 0.5:
            phone("SIL")
    return np.array(ids, np.int32), spans


@pytest.fixture(scope="module")
def decoder():
    rng = random.Random(0)
    sentences = [rng.choices(sorted(LEXICON.pronunciations), k=rng.randint(1, 6)) for _ in range(200)]
    lm = estimate_ngram(sentences, order=2, vocabulary=LEXICON.words)
    return WfstDecoder(
        DecodingGraph.of(build_graph(HMM, LEXICON, lm)), HMM, LEXICON, DecodingConfig(acoustic_scale=1.0)
    )


@pytest.mark.parametrize("seed", range(12))
def test_words_and_times(decoder, seed):
    rng = random.Random(seed)
    words = rng.choices(["ONE", "TWO", "NONE"], k=rng.randint(1, 6))
    path, spans = say(words, rng)
    scores = np.zeros((len(path), HMM.num_pdfs), np.float32)
    scores[np.arange(len(path)), HMM.pdfs(path)] = 50.0
    hypothesis = decoder.decode("u", scores)
    np.testing.assert_array_equal(hypothesis.transition_ids, path)
    assert [word.replace("WON", "ONE") for word in hypothesis.text.split()] == words
    found = [(round(100 * word.start), round(100 * (word.start + word.duration))) for word in hypothesis.words]
    assert found == spans


@pytest.mark.parametrize("seed", range(12))
def test_speech_that_breaks_off_anywhere_still_has_words_and_times(decoder, seed):
    rng = random.Random(seed)
    path, _ = say(rng.choices(["ONE", "TWO", "UWU", "OH"], k=4), rng)
    path = path[: rng.randint(1, len(path) - 1)]
    scores = np.zeros((len(path), HMM.num_pdfs), np.float32)
    scores[np.arange(len(path)), HMM.pdfs(path)] = 300.0
    hypothesis = decoder.decode("u", scores)
    assert len(hypothesis.transition_ids) == len(path)
    ends = [0.0, *(word.start + word.duration for word in hypothesis.words)]
    assert all(word.start >= end - 1e-9 for word, end in zip(hypothesis.words, ends, strict=False))
    assert ends[-1] <= len(path) / 100 + 1e-9
