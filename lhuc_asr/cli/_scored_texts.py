"""What lhuc-score compares: what was said and what systems recognised, read, and made comparable."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhuc_asr.cli._common import UsageError

if TYPE_CHECKING:
    from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word

logger = logging.getLogger(__name__)

_FEW, _MOST = 0.1, 0.5
"""Shares of the words: where a system says fewer than the first as they are written, and more than the second but for
their spelling, it is the spelling that is scored."""


@dataclass(frozen=True)
class References:
    """What was said, and by whom."""

    texts: dict[str, str]
    speaker_of: dict[str, str]


@dataclass(frozen=True)
class System:
    """What one system recognised; the hypotheses are empty when only a text was given."""

    texts: dict[str, str]
    hypotheses: dict[str, Hypothesis] = field(default_factory=dict)


def add_texts(parser: argparse.ArgumentParser) -> None:
    """Add ``--ref``, ``--hyp`` and ``--utt2spk``."""
    parser.add_argument(
        "--ref", metavar="DIR_OR_TEXT", type=Path, required=True, help="data directory, or a file: UTTERANCE WORDS"
    )
    parser.add_argument(
        "--hyp",
        metavar="NAME=PATH",
        action="append",
        default=[],
        help="a system, and its directory of hypotheses or file of lines: UTTERANCE WORDS; repeatable",
    )
    parser.add_argument(
        "--utt2spk",
        metavar="FILE",
        type=Path,
        help="lines: UTTERANCE SPEAKER; where --ref is a text and no file utt2spk lies beside it",
    )


def add_comparability(parser: argparse.ArgumentParser) -> None:
    """Add ``--normalise`` and ``--common``."""
    parser.add_argument("--normalise", action="store_true", help="upper-case both sides and drop punctuation")
    parser.add_argument("--common", action="store_true", help="score only utterances that the reference and all have")


def named_paths(arguments: Sequence[str]) -> dict[str, Path]:
    """NAME=PATH arguments as a mapping."""
    if not arguments:
        raise UsageError("nothing to score: give --hyp NAME=PATH, or --compare DIR ...")
    paths: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not name or not equals or not path:
            raise UsageError(f"--hyp {argument!r}: write NAME=PATH, for example --hyp SI=exp/si/decode")
        if name in paths or name == "ref":
            raise UsageError(f"--hyp {argument!r}: the name {name!r} is taken")
        paths[name] = Path(path)
    return paths


def read_references(path: Path, utt2spk: Path | None) -> References:
    from lhuc_asr.data.kaldi_tables import read_rows
    from lhuc_asr.data.load import load_manifest
    from lhuc_asr.errors import DataError

    text = path / "text" if path.is_dir() else path
    beside = utt2spk or text.parent / "utt2spk"
    if text.is_file() and not text.name.endswith((".jsonl", ".gz")):  # a scored directory needs no audio
        if not beside.is_file():
            raise DataError(
                f"the speakers of {str(text)!r} are not known: {str(beside)!r} does not exist; give --utt2spk"
            )
        return References(read_texts(text), {row.id: row.value for row in read_rows(beside)})
    manifest = load_manifest(path, allow_commands=True, allow_missing=True)
    return References(manifest.transcripts, manifest.speaker_of)


def read_system(name: str, path: Path) -> System:
    from lhuc_asr.decoding.words.hypothesis import read_hypotheses
    from lhuc_asr.errors import DataError

    if path.is_file():
        return System(read_texts(path))
    if (path / "hypotheses.jsonl").is_file():
        hypotheses = read_hypotheses(path)
        return System({utterance: hypothesis.text for utterance, hypothesis in hypotheses.items()}, hypotheses)
    if (path / "text").is_file():
        _refuse_data(name, path)
        return System(read_texts(path / "text"))
    raise DataError(
        f"no hypotheses of {name!r} at {str(path)!r}: neither a text nor a directory that lhuc-decode wrote"
    )


def _refuse_data(name: str, directory: Path) -> None:
    """What people said is no hypothesis of theirs."""
    from lhuc_asr.errors import DataError

    for table in ("wav.scp", "utt2spk"):
        if (directory / table).is_file():
            raise DataError(
                f"{str(directory)!r} of {name!r} is a data directory with transcripts (it has {table}); hypotheses are "
                "in a directory that lhuc-decode or lhuc-adapt wrote, or in a file of lines: UTTERANCE WORDS"
            )


def read_texts(path: Path) -> dict[str, str]:
    from lhuc_asr.data.kaldi_tables import read_rows
    from lhuc_asr.errors import DataError

    texts: dict[str, str] = {}
    for row in read_rows(path):
        if row.id in texts:
            raise DataError(f"{str(path)!r}, line {row.line}: utterance {row.id!r} stands there twice")
        texts[row.id] = row.value
    return texts


def normalised(references: References, systems: Mapping[str, System]) -> tuple[References, dict[str, System]]:
    from lhuc_asr.lang.text import normalise

    def all_of(texts: Mapping[str, str]) -> dict[str, str]:
        return {utterance: normalise(text) for utterance, text in texts.items()}

    made = {
        name: System(
            all_of(system.texts), {utterance: _normalised_words(each) for utterance, each in system.hypotheses.items()}
        )
        for name, system in systems.items()
    }
    return References(all_of(references.texts), references.speaker_of), made


def warn_of_spelling(references: References, systems: Mapping[str, System]) -> None:
    """Say where references and a system differ in case or punctuation, word after word."""
    from lhuc_asr.lang.text import normalise

    said = [word for text in references.texts.values() for word in text.split()]
    for name, system in systems.items():
        as_written = _num_known(said, system.texts.values())
        alike = _num_known(map(normalise, said), map(normalise, system.texts.values()))
        if as_written < _FEW * len(said) and alike > _MOST * len(said):
            logger.warning(
                "%s ever says %d of %d reference words as they are written, %d of them but for case and punctuation: "
                "score with --normalise",
                name,
                as_written,
                len(said),
                alike,
            )


def _num_known(words: Iterable[str], texts: Iterable[str]) -> int:
    """How many of these words stand anywhere in the texts."""
    vocabulary = {word for text in texts for word in text.split()}
    return sum(word in vocabulary for word in words)


def _normalised_words(hypothesis: Hypothesis) -> Hypothesis:
    """The same hypothesis with words as they are compared; one that falls into several keeps its times in all."""
    from lhuc_asr.lang.text import normalise

    words: list[Word] = []
    for word in hypothesis.words:
        words += (replace(word, text=part) for part in normalise(word.text).split())
    return replace(hypothesis, words=tuple(words))


def common(references: References, systems: Mapping[str, System]) -> tuple[References, dict[str, System]]:
    """Only what everybody has; says how much that leaves out."""
    shared = set(references.texts).intersection(*(system.texts for system in systems.values()))
    everything = set(references.texts).union(*(system.texts for system in systems.values()))
    print(f"scoring {len(shared)} utterances; {len(everything - shared)} are not in the reference and all systems")

    def part(values: Mapping[str, Any]) -> dict[str, Any]:
        return {utterance: value for utterance, value in values.items() if utterance in shared}

    parts = {name: System(part(system.texts), part(system.hypotheses)) for name, system in systems.items()}
    return References(part(references.texts), references.speaker_of), parts
