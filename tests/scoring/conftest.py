"""Recognisers that make mistakes at random, the same ones for the same seed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word, write_hypotheses
from lhuc_asr.scoring.arms import compare_arms
from lhuc_asr.scoring.runs import read_run

WORDS = ["ALPHA", "BRAVO", "CHARLIE", "DELTA", "ECHO", "FOXTROT"]


class RandomSystems:
    """Many utterances of a few speakers, and systems that mishear them."""

    def __init__(self, seed: int, *, num_utterances: int = 120, num_speakers: int = 6) -> None:
        self.random = random.Random(seed)
        names = [f"speaker{index}" for index in range(num_speakers)]
        self.speaker_of = {f"u{index:03d}": names[index % num_speakers] for index in range(num_utterances)}
        self.references = {utterance: self.sentence(self.random.randint(1, 12)) for utterance in self.speaker_of}

    def sentence(self, length: int) -> str:
        return " ".join(self.random.choices(WORDS, k=length))

    def system(self, error_rate: float) -> dict[str, str]:
        return {utterance: self._misheard(text, error_rate) for utterance, text in self.references.items()}

    def _misheard(self, text: str, error_rate: float) -> str:
        heard = []
        for word in text.split():
            chance = self.random.random() / error_rate * 3
            heard += (
                [] if chance < 1 else [self.sentence(1)] if chance < 2 else [word, *self.sentence(chance < 3).split()]
            )
        return " ".join(heard)


@pytest.fixture
def random_systems():
    return RandomSystems


def write_run(directory: Path, passes: tuple[dict[str, str], dict[str, str]], speaker_of: dict[str, str], **facts: Any):
    """What lhuc-adapt leaves behind, as far as a comparison reads it; every utterance lasts a second.

    A text of None is an utterance without a path.
    """
    protocol = facts.pop("protocol", "enrolment")
    for name, texts in zip(("si", "adapted"), passes, strict=True):
        found = {utterance: text.split() for utterance, text in texts.items() if text is not None}
        words = {utterance: tuple(Word(word, 0.0, 0.1) for word in own) for utterance, own in found.items()}
        write_hypotheses(
            directory / name, [Hypothesis(each, own, np.ones(100, np.int32), 0.0, 0.0) for each, own in words.items()]
        )
    scored: dict[str, list[str]] = {}
    for utterance in passes[0]:
        scored.setdefault(speaker_of[utterance], []).append(utterance)
    page = {
        "scored_utterances": scored,
        "adaptation_seconds": dict.fromkeys(scored, 10.0),
        "update_seconds": dict.fromkeys(scored, 1.0),
        "num_parameters": 12,
        "model_fingerprint": "f",
        "failed_speakers": {},
        "oracle": False,
        "settings": {"protocol": {"name": protocol}},
        **facts,
    }
    (directory / "results.json").write_text(json.dumps(page))
    return directory


@pytest.fixture
def world(random_systems, tmp_path):
    """Runs of lhuc-adapt by a made-up recogniser."""
    systems = random_systems(3)
    before = systems.system(0.4)
    (data := tmp_path / "data").mkdir()
    for table, column in (("text", systems.references), ("utt2spk", systems.speaker_of)):
        (data / table).write_text("".join(f"{name} {entry}\n" for name, entry in column.items()))

    def run(name, error_rate, *, of=None, **facts):
        after = systems.system(error_rate)
        kept = of or list(before)
        first, second = ({utterance: texts[utterance] for utterance in kept} for texts in (before, after))
        return write_run(tmp_path / name, (first, second), systems.speaker_of, **facts)

    return SimpleNamespace(
        references=systems.references,
        speaker_of=systems.speaker_of,
        run=run,
        data=data,
        write=lambda name, *passes, **facts: write_run(tmp_path / name, passes, systems.speaker_of, **facts),
        before=before,
        compared=lambda *paths: compare_arms(
            [read_run(path) for path in paths], systems.references, systems.speaker_of, num_replications=300
        ),
    )
