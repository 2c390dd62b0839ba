"""Beam search through the decoding graph HCLG with Kaldi's decoders, on all cores."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.graph import DecodingGraph
from lhuc_asr.decoding.hypothesis import Hypothesis
from lhuc_asr.decoding.kaldi_lattice import from_kaldi
from lhuc_asr.decoding.lattice import Lattice
from lhuc_asr.decoding.speed import SpeedMeter, cpu_seconds
from lhuc_asr.decoding.word_times import phone_segments, time_words
from lhuc_asr.errors import ConfigError, DecodingError
from lhuc_asr.parallel import map_in_processes

if TYPE_CHECKING:
    import kaldifst

    from lhuc_asr.hmm.model import HmmModel
    from lhuc_asr.lang.lexicon import Lexicon

logger = logging.getLogger(__name__)

LogLikes = NDArray[np.float32]
_WIDER = 2.0


class Search(Enum):
    """Which of Kaldi's decoders finds the best path; `WfstDecoder.decode_lattice` always uses the second."""

    faster = "faster"
    lattice = "lattice"


@dataclass(kw_only=True, slots=True)
class DecodingConfig:
    """How words are searched.

    Attributes:
        acoustic_scale: factor on the log-likelihoods; neighbouring frames are not independent, so it is far below 1.
        insertion_penalty: cost of every word; positive makes hypotheses shorter, negative longer.
        beam: paths worse than the best by more than this cost are dropped.
        max_active: at most that many paths are followed at a time (not honoured by the lattice search).
        search: which decoder gives the best path.
        lattice_beam: paths of a lattice are at most this much worse than its best path.
    """

    acoustic_scale: float = 0.1
    insertion_penalty: float = 0.0
    beam: float = 13.0
    max_active: int = 3000
    search: Search = Search.faster
    lattice_beam: float = 6.0

    def __post_init__(self) -> None:
        for name in ("acoustic_scale", "beam", "max_active", "lattice_beam"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"decoding.{name} must be positive, got {getattr(self, name)}")
        if not np.isfinite(self.insertion_penalty):
            raise ConfigError(f"decoding.insertion_penalty must be finite, got {self.insertion_penalty}")


class WfstDecoder:
    """Finds the most likely words for log-likelihoods of tied states.

    The graph is read once; `with_config` gives a decoder with other settings that shares it.

    Example:
        >>> decoder = WfstDecoder(Path("exp/si/HCLG.fst"), hmm, lexicon, DecodingConfig())  # doctest: +SKIP
        >>> decoder.decode("anna-1", log_likes).text  # doctest: +SKIP
        'HELLO WORLD'
    """

    def __init__(self, graph: Path | DecodingGraph, hmm: HmmModel, lexicon: Lexicon, config: DecodingConfig) -> None:
        """Read the graph and check that it fits.

        Args:
            graph: file of HCLG (or one that was read): ilabels are transition ids, olabels word ids from 1 in the
                order of ``lexicon.words``.
            hmm: tied states and transitions that the graph was built for.
            lexicon: words and pronunciations that the graph was built for.
            config: settings of the search.

        Raises:
            DecodingError: no graph, or one that does not fit the model or the lexicon.
        """
        self.graph = graph if isinstance(graph, DecodingGraph) else DecodingGraph.read(graph)
        self.graph.check_labels(num_transition_ids=hmm.transitions.num_transition_ids, num_words=len(lexicon.words))
        self.hmm, self.lexicon, self.config = hmm, lexicon, config
        self._words = lexicon.words
        self._pdf_of = np.asarray(hmm.transitions.pdf_of)[1:]
        self._fst = self.graph.fst(insertion_penalty=config.insertion_penalty)

    def with_config(self, config: DecodingConfig) -> WfstDecoder:
        """The same graph, searched with other settings; the file is not read again.

        Decoders with the same insertion penalty share the graph in memory.
        """
        other = copy.copy(self)
        other.config = config
        if config.insertion_penalty != self.config.insertion_penalty:
            other._fst = self.graph.fst(insertion_penalty=config.insertion_penalty)
        return other

    def decode(self, utterance: str, log_likes: LogLikes) -> Hypothesis:
        """Find the best path of one utterance.

        Args:
            utterance: its id.
            log_likes: (T, P) log-likelihoods of the tied states, up to a constant per frame.

        Raises:
            DecodingError: there are no frames, or not the model's number of states, or values that are not numbers,
                or no path survives.
        """
        scores = self._scores(utterance, log_likes)
        decoder = self._search(scores, widen=1.0)
        if not _reached_final(decoder):
            decoder = self._search(scores, widen=_WIDER)
        final = _reached_final(decoder)
        found, best = decoder.get_best_path()
        if not found or best.num_states == 0:
            raise DecodingError(
                f"no path survives in utterance {utterance!r} of {len(scores)} frames; widen decoding.beam"
            )
        if not final:
            logger.warning(
                "utterance %r: no complete sentence within the beam; taking the best unfinished path", utterance
            )
        return self._hypothesis(utterance, best, final)

    def decode_all(
        self,
        items: Iterable[tuple[str, LogLikes]],
        *,
        num_jobs: int = 1,
        meter: SpeedMeter | None = None,
        on_failure: Callable[[str, DecodingError], None] | None = None,
        on_lattice: Callable[[Lattice], None] | None = None,
    ) -> Iterator[Hypothesis]:
        """Decode many utterances in forked processes, while this one computes log-likelihoods a few items ahead.

        Args:
            items: utterance id and (T, P) log-likelihoods; may be a generator.
            num_jobs: processes.
            meter: collects the time that the search takes.
            on_failure: called with the id and the error of an utterance without a path, which is then left out;
                without it the error is raised.
            on_lattice: called with the lattice of every utterance, before its hypothesis is yielded; the hypotheses
                are the same as without it. An utterance without a lattice counts as a failure.

        Yields:
            Hypotheses in the order of the items.
        """
        search = self._timed if on_lattice is None else self._timed_with_lattice
        for hypothesis, lattice, seconds in map_in_processes(search, items, num_jobs=num_jobs):
            if isinstance(hypothesis, Hypothesis):
                if on_lattice is not None and lattice is not None:
                    on_lattice(lattice)
                if meter is not None:
                    meter.add(num_frames=len(hypothesis.transition_ids), cpu=seconds)
                yield hypothesis
            elif on_failure is not None:
                on_failure(*hypothesis)
            else:
                raise hypothesis[1]

    def decode_lattice(self, utterance: str, log_likes: LogLikes) -> kaldifst.Lattice:
        """The raw state lattice of one utterance.

        Its ilabels are transition ids, its olabels word ids, its weights (graph cost, scaled acoustic cost).

        Raises:
            DecodingError: as in `decode`.
        """
        return _raw_lattice(self._lattice_search(self._scores(utterance, log_likes), widen=1.0), utterance)

    def lattice(self, utterance: str, log_likes: LogLikes) -> Lattice:
        """The lattice of one utterance as arrays: every path within ``lattice_beam`` of the best.

        Raises:
            DecodingError: as in `decode`.
        """
        decoder = self._lattice_search(self._scores(utterance, log_likes), widen=1.0)
        return from_kaldi(
            _raw_lattice(decoder, utterance),
            utterance=utterance,
            acoustic_scale=self.config.acoustic_scale,
            reached_final=_reached_final(decoder),
        )

    def _timed(
        self, item: tuple[str, LogLikes]
    ) -> tuple[Hypothesis | tuple[str, DecodingError], Lattice | None, float]:
        """One utterance in a worker: the hypothesis or the reason why there is none, and seconds of one core."""
        begin = cpu_seconds()
        try:
            result: Hypothesis | tuple[str, DecodingError] = self.decode(*item)
        except DecodingError as error:
            result = (item[0], error)
        return result, None, cpu_seconds() - begin

    def _timed_with_lattice(
        self, item: tuple[str, LogLikes]
    ) -> tuple[Hypothesis | tuple[str, DecodingError], Lattice | None, float]:
        """The same, with the lattice, which a search of its own finds."""
        begin = cpu_seconds()
        result, _, _ = self._timed(item)
        lattice = None
        if isinstance(result, Hypothesis):
            try:
                lattice = self.lattice(*item)
            except DecodingError as error:
                result = (item[0], error)
        return result, lattice, cpu_seconds() - begin

    def _scores(self, utterance: str, log_likes: LogLikes) -> LogLikes:
        """(T, transition ids) scaled scores, as the decoders want them: column i belongs to transition id i + 1."""
        log_likes = np.asarray(log_likes)
        if log_likes.ndim != 2 or log_likes.shape[1] != self.hmm.num_pdfs:
            raise DecodingError(
                f"utterance {utterance!r}: log-likelihoods of shape {log_likes.shape}; "
                f"the model has {self.hmm.num_pdfs} tied states"
            )
        if len(log_likes) == 0:
            raise DecodingError(f"utterance {utterance!r} has no frames")
        if not np.isfinite(log_likes).all():
            raise DecodingError(f"utterance {utterance!r}: log-likelihoods are not finite")
        scaled = (self.config.acoustic_scale * log_likes).astype(np.float32)
        return np.ascontiguousarray(scaled[:, self._pdf_of])

    def _search(self, scores: LogLikes, *, widen: float) -> Any:
        if self.config.search is Search.lattice:
            return self._lattice_search(scores, widen=widen)
        import kaldi_decoder

        max_active = round(self.config.max_active * widen)
        options = kaldi_decoder.FasterDecoderOptions(beam=self.config.beam * widen, max_active=max_active)
        decoder = kaldi_decoder.FasterDecoder(self._fst, options)
        decoder.decode(kaldi_decoder.DecodableCtc(scores))
        return decoder

    def _lattice_search(self, scores: LogLikes, *, widen: float) -> Any:
        import kaldi_decoder

        options = kaldi_decoder.LatticeSimpleDecoderConfig(
            beam=self.config.beam * widen, lattice_beam=self.config.lattice_beam
        )
        decoder = kaldi_decoder.LatticeSimpleDecoder(self._fst, options)
        decoder.decode(kaldi_decoder.DecodableCtc(scores))
        return decoder

    def _hypothesis(self, utterance: str, best: Any, final: bool) -> Hypothesis:
        import kaldifst

        _, transition_ids, word_ids, cost = kaldifst.get_linear_symbol_sequence(best)
        path = np.array(transition_ids, dtype=np.int32)
        words = [self._words[word - 1] for word in word_ids]
        try:
            timed = time_words(words, phone_segments(path, self.hmm), self.lexicon, complete=final)
        except DecodingError as error:
            raise DecodingError(f"utterance {utterance!r}: {error}") from error
        return Hypothesis(utterance, timed, path, cost.value1, cost.value2, final)


def _raw_lattice(decoder: Any, utterance: str) -> kaldifst.Lattice:
    found, lattice = decoder.get_raw_lattice()
    if not found or lattice.num_states == 0:
        raise DecodingError(f"no path survives in utterance {utterance!r}; widen decoding.beam")
    return lattice


def _reached_final(decoder: Any) -> bool:
    """Whether a complete path was found by either kind of decoder."""
    if hasattr(decoder, "reached_final"):
        return bool(decoder.reached_final())
    return bool(np.isfinite(decoder.final_relative_cost()))
