"""Beam search through the decoding graph HCLG with Kaldi's decoders, on all cores."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.confidence import word_ids
from lhuc_asr.decoding.graph import DecodingGraph
from lhuc_asr.decoding.hypothesis import Hypothesis
from lhuc_asr.decoding.kaldi_lattice import from_kaldi
from lhuc_asr.decoding.lattice import Lattice
from lhuc_asr.decoding.lattice_reading import HypothesisKind, LatticeReader
from lhuc_asr.decoding.lattice_union import holds, with_path
from lhuc_asr.decoding.rescoring import LanguageModelChange, rescored
from lhuc_asr.decoding.speed import SpeedMeter, cpu_seconds
from lhuc_asr.decoding.word_times import phone_segments, time_words
from lhuc_asr.errors import ConfigError, DecodingError
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.units import Milliseconds

if TYPE_CHECKING:
    import kaldifst

    from lhuc_asr.decoding.confidence import ConfidenceEstimator
    from lhuc_asr.hmm.model import HmmModel
    from lhuc_asr.lang.lexicon import Lexicon

logger = logging.getLogger(__name__)

LogLikes = NDArray[np.float32]
_WIDER = 2.0
_WIDER_LATTICE = 1.2  # lattices grow much faster with the beam


class Search(Enum):
    """Which of Kaldi's decoders finds the best path; lattices always come from the second."""

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
        hypothesis: which words are taken; all but ``one_best`` need lattices, which take longer.
        lattice_search_beam: ``beam`` of the search for lattices. It has no ``max_active``, so time and memory grow
            fast: on hard speech ten times from 9 to 13, for lattices that are hardly larger. Where the best path of
            the search with ``beam`` was lost, it is 1.2 times as wide; then that path is put into the lattice.
        lattice_beam: paths of a lattice are at most this much worse than its best path.
    """

    acoustic_scale: float = 0.1
    insertion_penalty: float = 0.0
    beam: float = 13.0
    max_active: int = 3000
    search: Search = Search.faster
    hypothesis: HypothesisKind = HypothesisKind.one_best
    lattice_search_beam: float = 9.0
    lattice_beam: float = 6.0

    def __post_init__(self) -> None:
        for name in ("acoustic_scale", "beam", "max_active", "lattice_search_beam", "lattice_beam"):
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

    def __init__(
        self,
        graph: Path | DecodingGraph,
        hmm: HmmModel,
        lexicon: Lexicon,
        config: DecodingConfig,
        *,
        frame_shift_ms: Milliseconds = 10.0,
    ) -> None:
        """Read the graph and check that it fits.

        Args:
            graph: file of HCLG (or one that was read): ilabels are transition ids, olabels word ids from 1 in the
                order of ``lexicon.words``.
            hmm: tied states and transitions that the graph was built for.
            lexicon: words and pronunciations that the graph was built for.
            config: settings of the search.
            frame_shift_ms: from one frame of the log-likelihoods to the next.

        Raises:
            DecodingError: no graph, or one that does not fit the model or the lexicon.
        """
        self.graph = graph if isinstance(graph, DecodingGraph) else DecodingGraph.read(graph)
        self.graph.check_labels(num_transition_ids=hmm.transitions.num_transition_ids, num_words=len(lexicon.words))
        self.hmm, self.lexicon, self.config, self.frame_shift_ms = hmm, lexicon, config, frame_shift_ms
        self._change: LanguageModelChange | None = None
        self._estimator: ConfidenceEstimator | None = None
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

    def reading_lattices(
        self, *, change: LanguageModelChange | None = None, estimator: ConfidenceEstimator | None = None
    ) -> WfstDecoder:
        """The same decoder, which makes more of the lattices that it decodes to.

        Args:
            change: a language model that takes the place of the graph's.
            estimator: gives words their confidences.
        """
        other = copy.copy(self)
        other._change, other._estimator = change, estimator
        return other

    def decode(self, utterance: str, log_likes: LogLikes) -> Hypothesis:
        """Find the words of one utterance, those that ``config.hypothesis`` asks for.

        Args:
            utterance: its id.
            log_likes: (T, P) log-likelihoods of the tied states, up to a constant per frame.

        Raises:
            DecodingError: there are no frames, or not the model's number of states, or values that are not numbers,
                or no path survives.
        """
        if self._needs_lattice:
            return self.decode_with_lattice(utterance, log_likes)[0]
        return self._best(utterance, log_likes)

    def decode_with_lattice(self, utterance: str, log_likes: LogLikes) -> tuple[Hypothesis, Lattice]:
        """The words of one utterance, and the lattice of which they are, with the language model that was asked for.

        The lattice and confidences change no word of a one-best hypothesis: those are always of the wider search.

        Raises:
            DecodingError: as in `decode`.
        """
        hypothesis = self._best(utterance, log_likes)
        lattice = self._lattice_holding(hypothesis, log_likes)
        if self._change is not None:
            lattice = rescored(lattice, self._change)
        if self._change is not None or self.config.hypothesis is not HypothesisKind.one_best:
            reader = LatticeReader(self.hmm, self.lexicon, self.config.hypothesis, self.frame_shift_ms)
            hypothesis = reader(lattice)
        if self._estimator is not None:
            hypothesis = hypothesis.with_confidences(self._estimator(lattice, hypothesis).words)
        return hypothesis, lattice

    def _lattice_holding(self, hypothesis: Hypothesis, log_likes: LogLikes) -> Lattice:
        """A lattice in which the best path is: searched more widely where it was lost, then put in."""
        lattice = self.lattice(hypothesis.utterance, log_likes)
        if holds(lattice, hypothesis):
            return lattice
        beam = _WIDER_LATTICE * self.config.lattice_search_beam
        wider = self.with_config(replace(self.config, lattice_search_beam=beam))
        lattice = wider.lattice(hypothesis.utterance, log_likes)
        if holds(lattice, hypothesis):
            return lattice
        scores = self._scores(hypothesis.utterance, log_likes)
        costs = -scores[np.arange(len(scores)), hypothesis.transition_ids - 1]
        return with_path(lattice, hypothesis, word_ids(hypothesis, self.lexicon), costs)

    @property
    def _needs_lattice(self) -> bool:
        extras = self._change is not None or self._estimator is not None
        return extras or self.config.hypothesis is not HypothesisKind.one_best

    def _best(self, utterance: str, log_likes: LogLikes) -> Hypothesis:
        """The best path."""
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
                    num_frames = len(hypothesis.transition_ids)
                    meter.add(num_frames=num_frames, cpu=seconds, frame_shift_ms=self.frame_shift_ms)
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
        return _raw_lattice(self._lattice_of(utterance, log_likes), utterance)

    def lattice(self, utterance: str, log_likes: LogLikes) -> Lattice:
        """The lattice of one utterance as arrays: every path within ``lattice_beam`` of the best.

        Raises:
            DecodingError: as in `decode`.
        """
        decoder = self._lattice_of(utterance, log_likes)
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
        """The same, with the lattice."""
        begin = cpu_seconds()
        try:
            hypothesis, lattice = self.decode_with_lattice(*item)
        except DecodingError as error:
            return (item[0], error), None, cpu_seconds() - begin
        return hypothesis, lattice, cpu_seconds() - begin

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
            return self._lattice_search(scores, beam=self.config.beam * widen)
        import kaldi_decoder

        max_active = round(self.config.max_active * widen)
        options = kaldi_decoder.FasterDecoderOptions(beam=self.config.beam * widen, max_active=max_active)
        decoder = kaldi_decoder.FasterDecoder(self._fst, options)
        decoder.decode(kaldi_decoder.DecodableCtc(scores))
        return decoder

    def _lattice_of(self, utterance: str, log_likes: LogLikes) -> Any:
        """The search that keeps all paths, a little wider where no sentence was complete."""
        scores, beam = self._scores(utterance, log_likes), self.config.lattice_search_beam
        decoder = self._lattice_search(scores, beam=beam)
        return decoder if _reached_final(decoder) else self._lattice_search(scores, beam=beam * _WIDER_LATTICE)

    def _lattice_search(self, scores: LogLikes, *, beam: float) -> Any:
        import kaldi_decoder

        options = kaldi_decoder.LatticeSimpleDecoderConfig(beam=beam, lattice_beam=self.config.lattice_beam)
        decoder = kaldi_decoder.LatticeSimpleDecoder(self._fst, options)
        decoder.decode(kaldi_decoder.DecodableCtc(scores))
        return decoder

    def _hypothesis(self, utterance: str, best: Any, final: bool) -> Hypothesis:
        import kaldifst

        _, transition_ids, word_ids, cost = kaldifst.get_linear_symbol_sequence(best)
        path = np.array(transition_ids, dtype=np.int32)
        words = [self._words[word - 1] for word in word_ids]
        try:
            segments, shift = phone_segments(path, self.hmm), self.frame_shift_ms
            timed = time_words(words, segments, self.lexicon, complete=final, frame_shift_ms=shift)
        except DecodingError as error:
            raise DecodingError(f"utterance {utterance!r}: {error}") from error
        return Hypothesis(utterance, timed, path, cost.value1, cost.value2, final, shift)


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
