"""From log-likelihoods to words through the decoding graph HCLG, on all cores."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lhuc_asr.decoding.beam_search import BeamSearch, LogLikes
from lhuc_asr.decoding.confidence import word_ids
from lhuc_asr.decoding.graph import DecodingGraph
from lhuc_asr.decoding.lattices.kaldi import from_kaldi
from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.lattices.reading import HypothesisKind, LatticeReader
from lhuc_asr.decoding.lattices.rescoring import LanguageModelChange, rescored
from lhuc_asr.decoding.lattices.union import holds, with_path
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.decoding.speed import SpeedMeter, cpu_seconds
from lhuc_asr.decoding.words.hypothesis import Hypothesis
from lhuc_asr.decoding.words.word_times import phone_segments, time_words
from lhuc_asr.errors import DecodingError
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.units import Milliseconds, Seconds

if TYPE_CHECKING:
    import kaldifst

    from lhuc_asr.decoding.confidence import ConfidenceEstimator
    from lhuc_asr.hmm.states.model import HmmModel
    from lhuc_asr.lang.lexicon import Lexicon

logger = logging.getLogger(__name__)


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
        self._beam_search = BeamSearch(self.graph.fst(insertion_penalty=config.insertion_penalty), config)

    def with_config(self, config: DecodingConfig) -> WfstDecoder:
        """The same graph, searched with other settings; the file is not read again.

        Decoders with the same insertion penalty share the graph in memory.
        """
        other = copy.copy(self)
        shares_fst = config.insertion_penalty == self.config.insertion_penalty
        fst = self._beam_search.fst if shares_fst else self.graph.fst(insertion_penalty=config.insertion_penalty)
        other.config, other._beam_search = config, BeamSearch(fst, config)
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
        utterance = hypothesis.utterance
        lattice = self._lattice(utterance, log_likes, self._beam_search)
        if not holds(lattice, hypothesis):
            lattice = self._lattice(utterance, log_likes, self._beam_search.with_wider_lattices())
        if holds(lattice, hypothesis):
            return lattice
        scores = self._scores(utterance, log_likes)
        costs = -scores[np.arange(len(scores)), hypothesis.transition_ids - 1]
        return with_path(lattice, hypothesis, word_ids(hypothesis, self.lexicon), costs)

    @property
    def _needs_lattice(self) -> bool:
        extras = self._change is not None or self._estimator is not None
        return extras or self.config.hypothesis is not HypothesisKind.one_best

    def _best(self, utterance: str, log_likes: LogLikes) -> Hypothesis:
        """The best path."""
        scores = self._scores(utterance, log_likes)
        with _told_of(utterance):
            path, complete = self._beam_search.best_path(scores)
            if not complete:
                logger.warning(
                    "utterance %r: no complete sentence within the beam; taking the best unfinished path", utterance
                )
            return self._hypothesis(utterance, path, complete)

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
        search = partial(self._timed, with_lattice=on_lattice is not None)
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

    def lattice(self, utterance: str, log_likes: LogLikes) -> Lattice:
        """The lattice of one utterance as arrays: every path within ``lattice_beam`` of the best.

        Raises:
            DecodingError: as in `decode`.
        """
        return self._lattice(utterance, log_likes, self._beam_search)

    def _lattice(self, utterance: str, log_likes: LogLikes, search: BeamSearch) -> Lattice:
        scores = self._scores(utterance, log_likes)
        with _told_of(utterance):
            raw, complete = search.raw_lattice(scores)
        return from_kaldi(raw, utterance=utterance, acoustic_scale=self.config.acoustic_scale, reached_final=complete)

    def _timed(
        self, item: tuple[str, LogLikes], *, with_lattice: bool
    ) -> tuple[Hypothesis | tuple[str, DecodingError], Lattice | None, Seconds]:
        """One utterance in a worker: the hypothesis or the reason why there is none, and seconds of one core."""
        result: Hypothesis | tuple[str, DecodingError]
        begin, lattice = cpu_seconds(), None
        try:
            if with_lattice:
                result, lattice = self.decode_with_lattice(*item)
            else:
                result = self.decode(*item)
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

    def _hypothesis(self, utterance: str, path: kaldifst.Lattice, complete: bool) -> Hypothesis:
        import kaldifst

        _, transition_ids, word_ids, cost = kaldifst.get_linear_symbol_sequence(path)
        transitions = np.array(transition_ids, dtype=np.int32)
        words = [self._words[word - 1] for word in word_ids]
        segments, shift = phone_segments(transitions, self.hmm), self.frame_shift_ms
        timed = time_words(words, segments, self.lexicon, complete=complete, frame_shift_ms=shift)
        return Hypothesis(utterance, timed, transitions, cost.value1, cost.value2, complete, shift)


@contextmanager
def _told_of(utterance: str) -> Iterator[None]:
    """Errors of the search, told of the utterance in which they came."""
    try:
        yield
    except DecodingError as error:
        raise DecodingError(f"utterance {utterance!r}: {error}") from error
