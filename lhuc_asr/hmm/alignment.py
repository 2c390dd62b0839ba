"""Forced alignment: which state every frame of an utterance belongs to, given its words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.files import atomic_path, read_json, write_json
from lhuc_asr.hmm.graphs.utterance_graph import UtteranceGraph, compile_utterance
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.viterbi import best_path
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.parallel import map_in_processes

Alignment = NDArray[np.int32]
"""(T,) one transition id per frame."""


@dataclass(kw_only=True, slots=True)
class AlignConfig:
    """How to search for an alignment.

    Attributes:
        beam: paths whose cost is that far above the best are given up.
        retry_beam: tried when no path survives the first beam.
        acoustic_scale: weight of the acoustic log-likelihoods against the costs of the graph.
        self_loop_scale: weight of the transition log-probabilities.
        silence_probability: chance of a silence between two words.
    """

    beam: float = 10.0
    retry_beam: float = 40.0
    acoustic_scale: float = 0.1
    self_loop_scale: float = 0.1
    silence_probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.beam <= self.retry_beam:
            raise ConfigError(f"beam must be positive and at most retry_beam, got {self.beam} and {self.retry_beam}")
        if self.acoustic_scale <= 0 or self.self_loop_scale < 0:
            raise ConfigError("acoustic_scale must be positive and self_loop_scale at least 0")
        if not 0 < self.silence_probability < 1:
            raise ConfigError(f"silence_probability lies between 0 and 1, got {self.silence_probability}")


@dataclass(frozen=True)
class Aligned:
    """The outcome of one utterance: an alignment with its acoustic log-likelihood, or the reason why there is none."""

    utterance: str
    alignment: Alignment | None
    log_like: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class AlignmentSet:
    """Alignments of many utterances, and what went wrong with the others.

    Attributes:
        alignments: utterance -> (T,) int32 transition ids.
        failed: utterance -> why it has no alignment.
        log_like_per_frame: mean acoustic log-likelihood on the aligned states, nats, unscaled.
    """

    alignments: dict[str, Alignment]
    failed: dict[str, str]
    log_like_per_frame: float

    @staticmethod
    def collect(outcomes: Iterable[Aligned]) -> AlignmentSet:
        """Gather the outcomes of single utterances."""
        alignments: dict[str, Alignment] = {}
        failed: dict[str, str] = {}
        log_like = 0.0
        for outcome in outcomes:
            if outcome.alignment is None:
                failed[outcome.utterance] = outcome.reason
            else:
                alignments[outcome.utterance] = outcome.alignment
                log_like += outcome.log_like
        num_frames = sum(map(len, alignments.values()))
        return AlignmentSet(alignments, failed, log_like / num_frames if num_frames else float("nan"))

    def save(self, directory: Path) -> None:
        """Write ``alignments.safetensors`` (all frames in one row) and ``alignments.json`` (whose they are)."""
        ids = list(self.alignments)
        frames = np.concatenate([np.zeros(0, np.int32), *self.alignments.values()]).astype(np.int32)
        with atomic_path(directory / "alignments.safetensors") as temporary:
            save_file({"transition_ids": frames}, temporary)
        value = {
            "utterances": ids,
            "num_frames": [len(self.alignments[utterance]) for utterance in ids],
            "failed": self.failed,
            "log_like_per_frame": None if np.isnan(self.log_like_per_frame) else self.log_like_per_frame,
        }
        write_json(directory / "alignments.json", value)

    @staticmethod
    def load(directory: Path) -> AlignmentSet:
        """Read what ``save`` wrote.

        Raises:
            ModelError: the files are missing, damaged or do not belong together.
        """
        try:
            value = read_json(directory / "alignments.json")
            frames = load_file(directory / "alignments.safetensors")["transition_ids"]
            lengths = np.array(value["num_frames"], np.int64)
            ids, failed, log_like = value["utterances"], dict(value["failed"]), value["log_like_per_frame"]
        except Exception as error:
            raise ModelError(f"{str(directory)!r} holds no alignments: {error}") from error
        if lengths.sum() != len(frames) or len(ids) != len(lengths):
            raise ModelError(f"the alignments in {str(directory)!r} are cut short: {len(frames)} frames")
        pieces = np.split(frames, np.cumsum(lengths)[:-1]) if ids else []
        return AlignmentSet(dict(zip(ids, pieces, strict=True)), failed, float("nan") if log_like is None else log_like)


class ForcedAligner:
    """Aligns utterances with their transcripts, from the log-likelihoods of any acoustic model.

    Args:
        hmm: phones, tree and transitions.
        lexicon: pronunciations; words that it lacks are said as its unknown word.
        config: beams, scales and silence.

    Example:
        >>> lexicon = Lexicon({"AH": (("AH",),)})
        >>> hmm = HmmModel.monophone(lexicon.phones)
        >>> log_likes = np.full((5, hmm.num_pdfs), -9, np.float32)
        >>> log_likes[[0, 1, 2, 3, 4], [6, 7, 7, 8, 8]] = 0
        >>> aligned = ForcedAligner(hmm, lexicon).align_all([("hello", log_likes)], {"hello": "AH"})
        >>> hmm.pdfs(aligned.alignments["hello"]).tolist()
        [6, 7, 7, 8, 8]
    """

    def __init__(self, hmm: HmmModel, lexicon: Lexicon, config: AlignConfig | None = None) -> None:
        self.hmm = hmm
        self.config = config or AlignConfig()
        self._phone_ids = {phone: index + 1 for index, phone in enumerate(hmm.phones)}
        self._lexicon = lexicon

    def graph(self, transcript: str) -> UtteranceGraph:
        """Everything that a transcript allows; depends on the tree, not on the transition probabilities."""
        words = [self._pronunciations(word) for word in transcript.split()]
        return compile_utterance(self.hmm, words, silence_probability=self.config.silence_probability)

    def align(self, utterance: str, graph: UtteranceGraph, log_likes: NDArray[np.float32]) -> Aligned:
        """Align one utterance.

        Args:
            utterance: its id.
            graph: of its transcript.
            log_likes: (T, U) log-likelihoods of the tied states ``graph.pdfs``, in that order, unscaled.
        """
        if len(log_likes) < graph.min_frames:
            return Aligned(utterance, None, reason=f"{len(log_likes)} frames, its words need {graph.min_frames}")
        scaled = self.config.acoustic_scale * log_likes
        for beam in dict.fromkeys((self.config.beam, self.config.retry_beam)):
            path = best_path(
                graph, self.hmm.transitions, scaled, self_loop_scale=self.config.self_loop_scale, beam=beam
            )
            if path is not None:
                log_like = log_likes[np.arange(len(log_likes)), graph.column[path.states]].sum(dtype=np.float64)
                return Aligned(utterance, path.transition_ids(graph), float(log_like))
        return Aligned(utterance, None, reason=f"no path within beam {self.config.retry_beam:g}")

    def align_all(
        self,
        log_likes: Iterable[tuple[str, NDArray[np.float32]]],
        transcripts: Mapping[str, str],
        *,
        num_jobs: int = 1,
    ) -> AlignmentSet:
        """Align many utterances.

        Args:
            log_likes: (utterance, (T, P) log-likelihoods of all tied states), in any order, possibly made on the fly.
            transcripts: utterance -> words.
            num_jobs: processes; alignment takes a few milliseconds an utterance, so one is often enough.
        """

        def align(item: tuple[str, NDArray[np.float32]]) -> Aligned:
            utterance, values = item
            if utterance not in transcripts:
                return Aligned(utterance, None, reason="no transcript")
            graph = self.graph(transcripts[utterance])
            return self.align(utterance, graph, values[:, graph.pdfs])

        return AlignmentSet.collect(map_in_processes(align, log_likes, num_jobs=num_jobs))

    def _pronunciations(self, word: str) -> Sequence[Sequence[int]]:
        pronunciations = self._lexicon.pronunciations_of(word)
        return [[self._phone_ids[phone] for phone in pronunciation] for pronunciation in pronunciations]
