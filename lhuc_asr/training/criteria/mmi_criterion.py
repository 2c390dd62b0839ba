"""LF-MMI as a criterion of whole utterances, or of pieces of long ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lhuc_asr.errors import AlignmentError, first_few
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.tensors import digest_all, digest_arrays
from lhuc_asr.training.criteria.criterion import Criterion
from lhuc_asr.training.criteria.lfmmi.graph import ChainGraph
from lhuc_asr.training.criteria.lfmmi.numerator import NumeratorCompiler, PhoneSegments
from lhuc_asr.training.criteria.lfmmi.objective import LfMmi, chain_cross_entropy
from lhuc_asr.training.examples.sequence_batches import SequenceBatch, SequenceBatches
from lhuc_asr.training.examples.sequence_data import Piece
from lhuc_asr.training.tasks.frame_task import require_states
from lhuc_asr.training.tasks.task import Judged, plain

# B utterances (or pieces), T' outputs of the network, V tied states


@dataclass(frozen=True, eq=False)
class SpokenPhones:
    """What was said in every utterance, as graphs of any stretch of it.

    Attributes:
        compiler: makes graphs.
        segments: utterance id -> its phones, with the sub-sampling of the network.
        tolerance: frames of the features by which a phone may be early or late.
    """

    compiler: NumeratorCompiler
    segments: Mapping[str, PhoneSegments]
    tolerance: int = 5

    def within(self, piece: Piece) -> ChainGraph:
        """What was said in a piece, its context apart."""
        segments = self.segments[piece.utterance]
        if piece.is_whole:
            return self.compiler.of_segments(segments, tolerance=self.tolerance)
        first, end = (-(-frame // segments.factor) for frame in (piece.start, piece.end))
        return self.compiler.of_stretch(segments, range(first, end), tolerance=self.tolerance)


class Mmi(Criterion):
    """LF-MMI, held in place by some cross-entropy against the numerator's posteriors on the same outputs.

    Args:
        lfmmi: the denominator and its settings.
        spoken: what was said.
        smoothing: weight of the cross-entropy.

    Source: Povey et al. 2016 (Interspeech), section 2.7.1, where the cross-entropy has an output layer of its own; on
    the same outputs it is the f-smoothing of Su et al. 2013, "Error back propagation for sequence training of
    context-dependent deep networks for conversational speech transcription".
    """

    needs_whole = False

    def __init__(self, lfmmi: LfMmi, spoken: SpokenPhones, *, smoothing: float = 0.0) -> None:
        self.lfmmi, self.spoken, self.smoothing = lfmmi, spoken, smoothing
        self.numerators: dict[str, ChainGraph] = {}
        self.subsampling = 1

    def prepare(self, pieces: Sequence[Piece], subsampling: int) -> None:
        """Make the graph of every piece."""
        self.numerators = {piece.key: self.spoken.within(piece) for piece in pieces}
        self.subsampling = subsampling

    def check(self, network: AcousticNetwork, batches: SequenceBatches) -> None:
        """Raise AlignmentError where an utterance is too short for its words, or DataError for a lacking output."""
        short: list[str] = []
        for piece in batches.pieces:
            found = int(network.output_lens(torch.tensor(piece.end - piece.start)))
            needed = self.numerators[piece.key].min_frames()
            if found < needed:
                short.append(f"{piece.utterance!r} ({found} outputs, {needed} needed)")
        if short:
            raise AlignmentError(f"utterances too short for their words: {first_few(short)}")
        require_states(self.lfmmi.denominator.num_pdfs - 1, network)

    def __call__(self, log_probs_BTV: Tensor, lens_B: Tensor, batch: SequenceBatch) -> Judged:
        """The loss a frame; how right it was is the chance that said and sayable agree on the state."""
        judged_BTV, lens_B = without_context(log_probs_BTV, lens_B, batch.pieces, self.subsampling)
        numerators = [self.numerators[piece.key] for piece in batch.pieces]
        result = self.lfmmi(judged_BTV, lens_B, numerators, batch.utterances)
        objective = result.loss
        if self.smoothing:
            held = chain_cross_entropy(judged_BTV, result.numerator_posteriors)
            objective = objective + self.smoothing * held
        return Judged(objective, result.agreement * result.num_frames, result.num_frames)

    def identity(self) -> dict[str, Any]:
        """Settings and graphs."""
        denominator = self.lfmmi.denominator
        return {
            "criterion": "lfmmi",
            **plain(self.lfmmi.config),
            "smoothing": self.smoothing,
            "denominator": [denominator.num_states, denominator.num_arcs],
            "numerators": sum(graph.num_arcs for graph in self.numerators.values()),
            "graphs": [digest_arrays(denominator), digest_all(self.numerators)],
        }


def without_context(
    log_probs_BTV: Tensor, lens_B: Tensor, pieces: Sequence[Piece], subsampling: int
) -> tuple[Tensor, Tensor]:
    """The outputs of the frames that are learnt from, and how many these are.

    Args:
        log_probs_BTV: (B, T', V) outputs of pieces with their context.
        lens_B: (B,) outputs of each piece without padding.
        pieces: B; they, and their contexts, begin on multiples of the sub-sampling.
        subsampling: of the network.
    """
    if not any(piece.left or piece.right for piece in pieces):
        return log_probs_BTV, lens_B
    first_B = torch.tensor([piece.left // subsampling for piece in pieces])
    kept_B = torch.tensor([-(-(piece.end - piece.start) // subsampling) for piece in pieces])
    frames_BT = first_B[:, None] + torch.arange(int(kept_B.max()))
    frames_BT = frames_BT.clamp(max=log_probs_BTV.shape[1] - 1).to(log_probs_BTV.device)
    kept_BTV = log_probs_BTV.gather(1, frames_BT[..., None].expand(-1, -1, log_probs_BTV.shape[2]))
    return kept_BTV, kept_B
