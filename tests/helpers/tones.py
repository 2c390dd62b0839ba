"""A tiny language of tones, people who speak it, and what the tests of the commands look at."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.data.audio import write_audio

RATE = 8000
TONES = {"W": (300, 700), "AH": (800, 1300), "N": (250, 2200), "T": (2600, 3400), "UW": (450, 1000)}  # in Hz
WORDS = {"ONE": "W AH N", "TWO": "T UW", "NOT": "N AH T", "WOO": "W UW"}
TRAINED = {"ann": 1.0, "ben": 1.06, "cat": 0.95, "dan": 1.12}  # speaker -> factor on all tones
TESTED = {"eve": 1.0, "12_3": 1.3, "José": 1.4}

FEATURES = ["features=fbank40_8khz", "features.fbank.num_mel_bins=16", "gmm_features=mfcc_8khz"]
GMM = ["num_leaves=24", "num_gaussians=80", "mono_gaussians=40", "mono_iterations=6", "min_occupancy=20"]
GMM += ["triphone_rounds=1", "triphone_iterations=3"]
SETTINGS = [
    *FEATURES,
    *(f"gmm.{setting}" for setting in GMM),
    *("lm=bigram", "model=dnn_tiny", "model.context=3", "build.valid_fraction=0.25"),
    *("training.newbob.max_epochs=8", "training.newbob.initial_lr=0.2", "training.batch_size=64"),
    "runtime=one_core",
]
ONE_CORE = ["runtime=one_core", "adapt.min_seconds=0.5"]

Samples = NDArray[np.float32]


def speak(words: Sequence[str], factor: float, rng: np.random.Generator, *, rate: int = RATE) -> Samples:
    """A sentence: every phone is a pair of tones, 80 to 120 ms long, between two pauses."""
    pieces = [np.zeros(int(0.12 * rate))]
    for phone in " ".join(WORDS[word] for word in words).split():
        time = np.arange(int(rng.uniform(0.08, 0.12) * rate)) / rate
        envelope = 0.2 * np.hanning(len(time)) ** 0.5
        pieces.append(envelope * sum(np.sin(2 * np.pi * min(tone * factor, 3900) * time) for tone in TONES[phone]))
    sentence = np.concatenate([*pieces, np.zeros(int(0.12 * rate))])
    return (sentence + 0.02 * rng.standard_normal(len(sentence))).astype(np.float32)


def write_corpus(directory: Path, speakers: Mapping[str, float], *, num_utterances: int, seed: int) -> Path:
    """A Kaldi directory in which everybody says as many sentences of three words."""
    rng = np.random.default_rng(seed)
    spoken = {}
    for speaker, factor in speakers.items():
        for number in range(num_utterances):
            words = [list(WORDS)[index] for index in rng.integers(len(WORDS), size=3)]
            spoken[f"{speaker}-{number:02}"] = (speaker, words, speak(words, factor, rng))
    return write_kaldi(directory, ((name, *rest) for name, rest in spoken.items()))


def write_kaldi(
    directory: Path, spoken: Iterable[tuple[str, str, Sequence[str], Samples]], *, rate: int = RATE
) -> Path:
    """A Kaldi directory of (utterance, speaker, words, samples)."""
    lines: dict[str, list[str]] = {"wav.scp": [], "utt2spk": [], "text": []}
    for number, (name, speaker, words, samples) in enumerate(sorted(spoken, key=lambda item: item[0])):
        write_audio(directory / f"{number:03}.wav", samples, RATE)
        lines["wav.scp"].append(f"{name} {directory / f'{number:03}.wav'}")
        lines["utt2spk"].append(f"{name} {speaker}")
        lines["text"].append(f"{name} {' '.join(words)}")
    for table, content in lines.items():
        (directory / table).write_text("\n".join(content) + "\n", encoding="utf-8")
    return directory


def add_speaker(data: Path, speaker: str, spoken: Mapping[str, Samples], *, rate: int = RATE) -> None:
    """Let one more speaker say ``ONE`` in a copy of a Kaldi directory, with these samples."""
    tables = {name: (data / name).read_text(encoding="utf-8").splitlines() for name in ("wav.scp", "utt2spk", "text")}
    for number, (suffix, samples) in enumerate(spoken.items()):
        path = data / f"{speaker}-{number}.wav"
        write_audio(path, samples, rate)
        for table, value in (("wav.scp", path), ("utt2spk", speaker), ("text", "ONE")):
            tables[table].append(f"{speaker}-{suffix} {value}")
    for table, rows in tables.items():
        (data / table).write_text("\n".join(sorted(rows)) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class TinyWorld:
    """Everything that the commands need, on disk.

    Attributes:
        train: the trained speakers' speech.
        test: the tested speakers' speech.
        lexicon: of the language.
        model: model directory.
    """

    train: Path
    test: Path
    lexicon: Path
    model: Path

    def train_command(self, out: Path, *more: str) -> list[str]:
        """Arguments of ``lhuc-train``."""
        flags = ["--data", str(self.train), "--lexicon", str(self.lexicon), "--out", str(out)]
        return [*flags, *SETTINGS, *more]

    def command(self, out: Path, *more: str, data: Path | None = None) -> list[str]:
        """Arguments of ``lhuc-decode`` or ``lhuc-adapt``."""
        return ["--model", str(self.model), "--data", str(data or self.test), "--out", str(out), *ONE_CORE, *more]


@dataclass(frozen=True)
class Adapted:
    """What ``lhuc-adapt --all-speakers`` left and said."""

    out: Path
    said: str


Run = Callable[..., tuple[int, str, str]]
"""Runs a command in this process: exit code, standard output, standard error."""


def changed_since(before: Mapping[str, int], directory: Path) -> set[str]:
    """Files that were written, made or removed since ``times_of`` looked."""
    return {name for name, _ in before.items() ^ times_of(directory).items()}


def times_of(directory: Path) -> dict[str, int]:
    """File below a directory -> when it was written."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.stat().st_mtime_ns for path in files}


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every flag of a command but those that all commands have."""
    flags = {option for action in parser._actions for option in action.option_strings}
    return flags - {"-h", "--help", "--debug", "--version"}
