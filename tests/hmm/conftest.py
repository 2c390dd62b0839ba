"""A tiny language of four phones, and speech in it whose every phone has its own place in feature space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.tree import DecisionTree, Leaf, Node, Side, Split
from lhuc_asr.lang.arpa import ArpaModel
from lhuc_asr.lang.lexicon import Lexicon


@pytest.fixture
def lexicon() -> Lexicon:
    """Phones SIL 1, SPN 2, A 3, B 4, C 5, D 6; AB and ABE sound alike, AC can be said in two ways."""
    return Lexicon(
        {
            "AB": (("A", "B"),),
            "ABE": (("A", "B"),),
            "AC": (("A", "C"), ("A", "D", "C")),
            "B": (("B",),),
            "DAD": (("D", "A", "D"),),
        }
    )


@pytest.fixture
def triphones(lexicon: Lexicon) -> HmmModel:
    """A model whose A and D look at both neighbours."""
    pdfs = iter(range(100))

    def leaf() -> Node:
        return Leaf(next(pdfs))

    def by_neighbours() -> Node:
        left = Split(Side.left, frozenset({1, 4}), leaf(), leaf())
        return Split(Side.right, frozenset({5, 6}), left, leaf())

    roots = tuple(tuple(by_neighbours() if phone in {3, 6} else leaf() for _ in range(3)) for phone in range(1, 7))
    hmm = HmmModel.of_tree(lexicon.phones, DecisionTree(roots))
    loop = np.linspace(0.3, 0.8, hmm.transitions.num_transition_states)
    hmm.transitions.loop_probability[:] = loop
    return hmm


@pytest.fixture
def unigram() -> ArpaModel:
    """Every word equally likely, sentences of any length."""
    words = ("AB", "ABE", "AC", "B", "DAD")
    return ArpaModel(1, {("<s>",): -99.0, ("</s>",): -0.5} | {(word,): -0.9 for word in words}, {})


@dataclass(frozen=True)
class ToySpeech:
    """Utterances, what was said in them, and the phone (by name) behind every frame."""

    feats: dict[str, NDArray[np.float32]]
    transcripts: dict[str, str]
    phones: dict[str, list[str]]


@pytest.fixture
def toy_speech(lexicon: Lexicon) -> ToySpeech:
    """Forty sentences; A sounds different after B than elsewhere."""
    generator = np.random.default_rng(0)
    centre = {phone: generator.normal(0, 3, (3, 4)) for phone in lexicon.phones}
    speech = ToySpeech({}, {}, {})
    for number in range(40):
        words = list(generator.choice(["AB", "AC", "B", "DAD"], 4))
        phones = ["SIL"]
        for word in words:
            phones += lexicon.pronunciations_of(word)[0]
            phones += ["SIL"] if generator.random() < 0.3 else []
        phones += ["SIL"]
        rows, names = [], []
        for before, phone in zip(["SIL", *phones], phones, strict=False):
            for state in range(3):
                for _ in range(generator.integers(2, 6)):
                    shift = 2.0 if phone == "A" and before == "B" else 0.0
                    rows.append(centre[phone][state] + shift + generator.normal(0, 0.7, 4))
                    names.append(phone)
        key = f"u{number:02d}"
        speech.feats[key], speech.transcripts[key] = np.array(rows, np.float32), " ".join(words)
        speech.phones[key] = names
    return speech
