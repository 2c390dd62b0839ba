"""Greedy decoding of CTC networks: the best output of every frame, with neither lexicon nor language model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.ctc_graph import transition_ids_of
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word
from lhuc_asr.decoding.words.word_times import PhoneSegment, phone_segments
from lhuc_asr.errors import DecodingError
from lhuc_asr.lang.pieces import WORD_START
from lhuc_asr.units import Milliseconds, frames_to_seconds

if TYPE_CHECKING:
    from lhuc_asr.hmm.states.model import HmmModel


class GreedyCtcDecoder:
    """Writes down what the network hears: characters joined to words at spaces, word pieces at the marks of their
    starts, or phones one by one.

    Args:
        hmm: of `lhuc_asr.decoding.ctc_graph.ctc_hmm`; its first phone names the space where that is a label.
        output_shift_ms: time between two outputs of the network.

    Example:
        >>> from lhuc_asr.decoding.ctc_graph import ctc_hmm
        >>> log_probs = np.log(np.eye(4, dtype=np.float32)[[0, 2, 2, 0, 2, 1, 3]] + 0.01)
        >>> GreedyCtcDecoder(ctc_hmm(["<blank>", " ", "A", "B"], " ")).decode("u1", log_probs).text
        'AA B'
    """

    def __init__(self, hmm: HmmModel, *, output_shift_ms: Milliseconds = 10.0) -> None:
        self.hmm, self.output_shift_ms = hmm, output_shift_ms
        self._space = hmm.phones[0] if hmm.phones[0] in hmm.phones[1:] else None
        self._has_pieces = WORD_START in hmm.phones

    @property
    def spells_words(self) -> bool:
        """Whether what is written down are words; if not, it is phones."""
        return self._space is not None or self._has_pieces

    def decode(self, utterance: str, log_probs: NDArray[np.float32]) -> Hypothesis:
        """The labels of the best path.

        Args:
            utterance: its id.
            log_probs: (T, V) natural logarithms of posteriors, the blank first.

        Raises:
            DecodingError: there are no frames, or not the model's number of outputs, or values that are not numbers.
        """
        if log_probs.ndim != 2 or log_probs.shape[1] != self.hmm.num_pdfs or len(log_probs) == 0:
            raise DecodingError(
                f"utterance {utterance!r}: log-probabilities of shape {log_probs.shape}; "
                f"(frames, {self.hmm.num_pdfs}) with at least one frame is needed"
            )
        if np.isnan(log_probs).any():
            raise DecodingError(f"utterance {utterance!r}: log-probabilities are not finite")
        path = log_probs.argmax(axis=1).astype(np.int32)
        cost = -float(log_probs.max(axis=1).sum(dtype=np.float64))
        transition_ids = transition_ids_of(path, self.hmm)
        words = tuple(self._words(transition_ids))
        return Hypothesis(utterance, words, transition_ids, 0.0, cost, frame_shift_ms=self.output_shift_ms)

    def decode_all(self, items: Iterable[tuple[str, NDArray[np.float32]]]) -> Iterator[Hypothesis]:
        """Decode many utterances, in the order of the items."""
        for utterance, log_probs in items:
            yield self.decode(utterance, log_probs)

    def _words(self, transition_ids: NDArray[np.int32]) -> Iterator[Word]:
        waiting: list[PhoneSegment] = []
        for segment in phone_segments(transition_ids, self.hmm):
            if waiting and self._begins_word(segment):
                yield self._word(waiting)
                waiting = []
            if segment.phone != self.hmm.phones[0]:
                waiting.append(segment)
        if waiting:
            yield self._word(waiting)

    def _begins_word(self, segment: PhoneSegment) -> bool:
        if self._space is not None:
            return segment.phone == self._space
        return not self._has_pieces or segment.phone.startswith(WORD_START)

    def _word(self, segments: list[PhoneSegment]) -> Word:
        start, end = (frames_to_seconds(frame, self.output_shift_ms) for frame in (segments[0].start, segments[-1].end))
        text = "".join(segment.phone for segment in segments)
        return Word(text.removeprefix(WORD_START), start, end - start)
