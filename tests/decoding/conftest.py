"""A recogniser of three words that is built by hand: every path and cost in it can be checked with pencil and paper."""

from __future__ import annotations

import sys
from pathlib import Path

import kaldifst
import numpy as np
import pytest

from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.lexicon import Lexicon

LEXICON = Lexicon({"AB": (("A", "B"),), "A": (("A",), ("A", "A")), "BB": (("B", "B"),)})
HMM = HmmModel.monophone(LEXICON.phones)


def word_loop(word_cost: float = 1.0) -> kaldifst.StdVectorFst:
    """Any number of words, with silence around them where it helps; a word's label is on its last phone."""
    fst = kaldifst.StdVectorFst()
    home, silent = fst.add_state(), fst.add_state()
    fst.start = home
    fst.set_final(home, 0.0)
    fst.set_final(silent, 0.0)
    for source in (home, silent):
        for number, word in enumerate(LEXICON.words, start=1):
            for pronunciation in LEXICON.pronunciations_of(word):
                _add_phones(fst, source, home, pronunciation, number, word_cost)
    _add_phones(fst, home, silent, ("SIL",), 0, 0.0)
    return fst


def _add_phones(fst, source, target, phones, word, cost):
    """Kaldi's order: the arc that enters a state, then the loop in it."""
    current = source
    for position, phone in enumerate(phones):
        for state in range(3):
            enter = transition_id(phone, state, loop=False)
            label = word if position == len(phones) - 1 and state == 0 else 0
            entered = fst.add_state()
            fst.add_arc(current, kaldifst.StdArc(enter, label, cost if label else 0.0, entered))
            fst.add_arc(entered, kaldifst.StdArc(enter - 1, 0, 0.0, entered))
            current = entered
    fst.add_arc(current, kaldifst.StdArc(0, 0, 0.0, target))


def transition_id(phone: str, state: int, *, loop: bool) -> int:
    """Kaldi's number of a monophone transition."""
    return 2 * (3 * LEXICON.phones.index(phone) + state) + (1 if loop else 2)


def path_of(*phones: tuple[str, int]) -> np.ndarray:
    """(T,) transition ids of phones that last so many frames each, the last state longest."""
    ids = []
    for phone, frames in phones:
        ids += [transition_id(phone, state, loop=False) for state in range(3)]
        ids += [transition_id(phone, 2, loop=True)] * (frames - 3)
    return np.array(ids, np.int32)


def log_likes_of(path: np.ndarray, *, contrast: float = 50.0, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """(T, P) log-likelihoods that favour a path."""
    scores = noise * np.random.default_rng(seed).standard_normal((len(path), HMM.num_pdfs))
    scores[np.arange(len(path)), HMM.pdfs(path)] += contrast
    return scores.astype(np.float32)


def write_graph(path: Path, word_cost: float = 1.0) -> Path:
    """The word loop in a file."""
    assert word_loop(word_cost).write(str(path))
    return path


@pytest.fixture(scope="session")
def toy():
    """This module, so that tests can build graphs, paths and log-likelihoods."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def path():
    """AB, A and BB with silence around and before the last: transition ids of 31 frames."""
    return path_of(("SIL", 5), ("A", 4), ("B", 3), ("A", 6), ("SIL", 3), ("B", 3), ("B", 3), ("SIL", 4))


@pytest.fixture(scope="session")
def noisy(path):
    """Six utterances of that path in much noise: names and log-likelihoods."""
    return [(f"u{seed}", log_likes_of(path, contrast=8.0, noise=4.0, seed=seed)) for seed in range(6)]


@pytest.fixture(scope="session")
def decoder(tmp_path_factory):
    """Over the word loop, where acoustics weigh more than by default."""
    graph = write_graph(tmp_path_factory.mktemp("graph") / "HCLG.fst")
    return WfstDecoder(graph, HMM, LEXICON, DecodingConfig(acoustic_scale=0.3))
