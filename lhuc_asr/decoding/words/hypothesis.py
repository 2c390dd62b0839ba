"""What was recognised: words with times and the path of transition ids behind them, in memory and on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.files import atomic_path, write_text
from lhuc_asr.units import Milliseconds, Seconds, frames_to_seconds, seconds_to_frames

_WORDS, _PATHS, _TEXT = "hypotheses.jsonl", "transition_ids.safetensors", "text"


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word and when it was said, counted from the beginning of the utterance.

    Attributes:
        text: the word.
        start: when it begins.
        duration: how long it lasts.
        confidence: the chance that it is right, in [0, 1]; None where nobody asked for it.
    """

    text: str
    start: Seconds
    duration: Seconds
    confidence: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """The best path of one utterance.

    Attributes:
        utterance: its id.
        words: in the order in which they were said; none is a legal result.
        transition_ids: (T,) int32, the state path, one transition id (from 1) per frame.
        graph_cost: negative log probability of the words and transitions, insertion penalties included.
        acoustic_cost: negative log-likelihood of the frames, times the acoustic scale.
        reached_final: the path ends where a sentence may end; False when the search was cut short and the best
            unfinished path was taken instead.
        frame_shift_ms: from one frame of the path to the next; that of the features times the network's subsampling.
    """

    utterance: str
    words: tuple[Word, ...]
    transition_ids: NDArray[np.int32]
    graph_cost: float
    acoustic_cost: float
    reached_final: bool = True
    frame_shift_ms: Milliseconds = 10.0

    @property
    def duration(self) -> Seconds:
        """How long the path is."""
        return frames_to_seconds(len(self.transition_ids), self.frame_shift_ms)

    @property
    def word_frames(self) -> list[tuple[int, int]]:
        """First and one past the last frame of each word."""
        return [
            (
                seconds_to_frames(word.start, self.frame_shift_ms),
                seconds_to_frames(word.start + word.duration, self.frame_shift_ms),
            )
            for word in self.words
        ]

    @property
    def confidences(self) -> tuple[float, ...] | None:
        """The words' confidences; None where one of them has none."""
        known = tuple(word.confidence for word in self.words if word.confidence is not None)
        return known if len(known) == len(self.words) else None

    def with_confidences(self, confidences: Sequence[float]) -> Hypothesis:
        """The same words, each with its confidence."""
        pairs = zip(self.words, confidences, strict=True)
        return replace(self, words=tuple(replace(word, confidence=float(value)) for word, value in pairs))

    @property
    def text(self) -> str:
        """The words, separated by single spaces."""
        return " ".join(word.text for word in self.words)


def write_hypotheses(directory: Path, hypotheses: Iterable[Hypothesis]) -> str:
    """Write hypotheses as words (JSON lines), state paths (safetensors) and a Kaldi ``text``.

    Each file is whole or absent, and reading notices files that do not belong together.
    Utterance ids are only ever values, never names of tensors or files.

    Returns:
        SHA-256 of the words and costs, by which `read_hypotheses` knows them again.
    """
    from safetensors.numpy import save_file

    ordered = sorted(hypotheses, key=lambda hypothesis: hypothesis.utterance)
    lines = "".join(json.dumps(_as_json(hypothesis), ensure_ascii=False) + "\n" for hypothesis in ordered)
    paths = [np.asarray(hypothesis.transition_ids, dtype=np.int32) for hypothesis in ordered]
    joined = np.concatenate([np.zeros(0, np.int32), *paths])
    with atomic_path(directory / _PATHS) as temporary:
        save_file({"transition_ids": joined}, temporary, metadata={"words_sha256": _sha256(lines)})
    write_text(directory / _WORDS, lines)
    write_text(directory / _TEXT, "".join(f"{item.utterance} {item.text}".rstrip() + "\n" for item in ordered))
    return _sha256(lines)


def read_hypotheses(directory: Path, *, words_sha256: str | None = None) -> dict[str, Hypothesis]:
    """Read what `write_hypotheses` wrote: utterance id -> hypothesis, in the order of the ids.

    Args:
        directory: where they lie.
        words_sha256: what `write_hypotheses` returned; None takes any.

    Raises:
        DataError: a file is missing or damaged, the two do not belong together, or they are others.
    """
    try:
        lines = (directory / _WORDS).read_text(encoding="utf-8")
        if words_sha256 not in (None, _sha256(lines)):
            raise DataError(f"other hypotheses than expected in {str(directory)!r}; decode again")
        records = [json.loads(line) for line in lines.split("\n") if line]
        return {item.utterance: item for item in _hypotheses(records, _read_paths(directory / _PATHS, lines))}
    except OSError as error:
        raise DataError(f"no hypotheses in {str(directory)!r}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"damaged hypotheses in {str(directory)!r}: {error}; decode again") from error


def _read_paths(path: Path, lines: str) -> NDArray[np.int32]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            words_sha256 = (tensors.metadata() or {}).get("words_sha256")
            joined: NDArray[np.int32] = tensors.get_tensor("transition_ids")
    except SafetensorError as error:
        raise DataError(f"damaged state paths in {str(path)!r}: {error}; decode again") from error
    if words_sha256 != _sha256(lines):
        raise DataError(f"{str(path)!r} does not belong to the {_WORDS} beside it; decode again")
    return joined


def _hypotheses(records: list[dict[str, Any]], joined: NDArray[np.int32]) -> Iterator[Hypothesis]:
    end = 0
    for record in records:
        start, end = end, end + record["num_frames"]
        yield Hypothesis(
            utterance=record["utterance"],
            words=tuple(Word(*word) for word in record["words"]),
            transition_ids=joined[start:end],
            graph_cost=record["graph_cost"],
            acoustic_cost=record["acoustic_cost"],
            reached_final=record["reached_final"],
            frame_shift_ms=record.get("frame_shift_ms", 10.0),
        )
    if end != len(joined):
        raise DataError(f"the words cover {end} frames, the state paths {len(joined)}; decode again")


def _as_json(hypothesis: Hypothesis) -> dict[str, Any]:
    return {
        "utterance": hypothesis.utterance,
        "words": [_word(word) for word in hypothesis.words],
        "num_frames": len(hypothesis.transition_ids),
        "graph_cost": float(hypothesis.graph_cost),
        "acoustic_cost": float(hypothesis.acoustic_cost),
        "reached_final": hypothesis.reached_final,
        "frame_shift_ms": hypothesis.frame_shift_ms,
    }


def _word(word: Word) -> list[str | float]:
    """Text, start, duration, and the confidence where there is one."""
    confidence = [] if word.confidence is None else [round(word.confidence, 6)]
    return [word.text, round(word.start, 3), round(word.duration, 3), *confidence]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
