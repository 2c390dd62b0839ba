"""Passes of all utterances through a GMM-HMM: align, gather statistics, update; on all cores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.features.fmllr import SpeakerTransform
from lhuc_asr.hmm.alignment import AlignConfig, Aligned, Alignment, AlignmentSet, ForcedAligner
from lhuc_asr.hmm.graphs.utterance_graph import UtteranceGraph
from lhuc_asr.hmm.mixtures.estimation import GmmStatistics, split, update
from lhuc_asr.hmm.mixtures.gmm import Gmm
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.tying.statistics import TreeStatistics
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.parallel import map_in_processes

Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)
_SHARDS_PER_JOB = 4


@dataclass(frozen=True, eq=False)
class Corpus:
    """What a GMM learns from.

    Attributes:
        feats: utterance -> (T, F) float32; in memory, where many passes go over them.
        transcripts: utterance -> words, for the same utterances.
        lexicon: pronunciations.
        num_jobs: processes.
    """

    feats: Mapping[str, NDArray[np.float32]]
    transcripts: Mapping[str, str]
    lexicon: Lexicon
    num_jobs: int = 1

    def of(self, utterances: Sequence[str]) -> Corpus:
        """Some of the utterances."""
        feats = {utterance: self.feats[utterance] for utterance in utterances}
        return Corpus(feats, self.transcripts, self.lexicon, self.num_jobs)

    def seen_through(self, transforms: Mapping[str, SpeakerTransform], speaker_of: Mapping[str, str]) -> Corpus:
        """The same utterances, their features transformed for each speaker; they are held in memory."""
        feats = {name: transforms[speaker_of[name]].apply(matrix) for name, matrix in self.feats.items()}
        return Corpus(feats, self.transcripts, self.lexicon, self.num_jobs)

    def map_shards(self, function: Callable[[list[str]], Result], utterances: Sequence[str]) -> Iterator[Result]:
        """Apply a function to a few lists of utterances of about equal length, in processes."""
        ids = sorted(utterances, key=lambda utterance: len(self.feats[utterance]))
        num_shards = max(1, min(len(ids), self.num_jobs * _SHARDS_PER_JOB if self.num_jobs > 1 else 1))
        shards = [list(ids[first::num_shards]) for first in range(num_shards)]
        yield from map_in_processes(function, shards, num_jobs=self.num_jobs)


class GmmTrainer:
    """A GMM-HMM on its way: the model as it stands, and the current alignments.

    Attributes:
        corpus: what it learns from; features may change, utterances and words may not.
        hmm: phones, tree and transitions; loop probabilities follow the alignments.
        gmm: the mixtures.
        alignments: the latest alignment of every utterance that has one.
    """

    def __init__(self, corpus: Corpus, hmm: HmmModel, gmm: Gmm, config: AlignConfig) -> None:
        self.corpus, self.hmm, self.gmm = corpus, hmm, gmm
        self.alignments = AlignmentSet({}, {}, float("nan"))
        self._config = config
        self._graphs: dict[str, UtteranceGraph] = {}

    def realign(self) -> None:
        """Align every utterance with the model as it stands."""
        if not self._graphs:
            self._compile_graphs()
        aligner = ForcedAligner(self.hmm, self.corpus.lexicon, self._config)

        def align(utterances: list[str]) -> list[Aligned]:
            return [self._align(aligner, utterance) for utterance in utterances]

        self._warm_up(align)
        outcomes = [one for shard in self.corpus.map_shards(align, list(self.corpus.feats)) for one in shard]
        self.alignments = AlignmentSet.collect(sorted(outcomes, key=lambda outcome: outcome.utterance))

    def fit(self) -> GmmStatistics:
        """One EM step of mixtures and loop probabilities on the current alignments; returns its statistics."""
        alignments, gmm = self.alignments.alignments, self.gmm

        def gather(utterances: list[str]) -> GmmStatistics:
            statistics = GmmStatistics.empty(gmm)
            for utterance in utterances:
                statistics.accumulate(gmm, self.corpus.feats[utterance], self.hmm.pdfs(alignments[utterance]))
            return statistics

        self._warm_up(gather)
        total = GmmStatistics.empty(gmm)
        for part in self.corpus.map_shards(gather, list(alignments)):
            total.add(part)
        self.gmm = update(gmm, total)
        self._fit_transitions()
        return total

    def grow(self, num_gaussians: int, generator: np.random.Generator, *, power: float) -> None:
        """Split Gaussians until there are that many, where the frames suffice."""
        if num_gaussians > self.gmm.num_gaussians:
            self.gmm = split(self.gmm, self._pdf_occupancy(), num_gaussians, generator, power=power)

    def tree_statistics(self) -> TreeStatistics:
        """Statistics of every phone state in every context of the current alignments."""
        alignments = self.alignments.alignments

        def gather(utterances: list[str]) -> TreeStatistics:
            pairs = ((self.corpus.feats[utterance], alignments[utterance]) for utterance in utterances)
            return TreeStatistics.gather(self.hmm, pairs)

        return TreeStatistics.merge(self.corpus.map_shards(gather, list(alignments)))

    def report(self, name: str) -> None:
        """Log sizes, likelihood and failures under a name."""
        found = self.alignments
        _LOG.info(
            "%s: %d tied states, %d Gaussians, %.3f nats a frame, %d of %d utterances failed to align",
            name,
            self.hmm.num_pdfs,
            self.gmm.num_gaussians,
            found.log_like_per_frame,
            len(found.failed),
            len(found.failed) + len(found.alignments),
        )

    def _align(self, aligner: ForcedAligner, utterance: str) -> Aligned:
        graph = self._graphs[utterance]
        return aligner.align(utterance, graph, self.gmm.log_likes(self.corpus.feats[utterance], graph.pdfs))

    def _compile_graphs(self) -> None:
        aligner = ForcedAligner(self.hmm, self.corpus.lexicon, self._config)
        _ = self.hmm.transition_state_table

        def compile_shard(utterances: list[str]) -> list[tuple[str, UtteranceGraph]]:
            return [(utterance, aligner.graph(self.corpus.transcripts[utterance])) for utterance in utterances]

        for shard in self.corpus.map_shards(compile_shard, list(self.corpus.feats)):
            self._graphs.update(shard)

    def _fit_transitions(self) -> None:
        counts = np.zeros(self.hmm.transitions.num_transition_ids + 1, np.int64)
        for alignment in self.alignments.alignments.values():
            counts += np.bincount(alignment, minlength=len(counts))
        self.hmm = HmmModel(self.hmm.phones, self.hmm.tree, self.hmm.transitions.re_estimated(counts))

    def _pdf_occupancy(self) -> NDArray[np.float64]:
        counts = np.zeros(self.hmm.num_pdfs)
        for alignment in self.alignments.alignments.values():
            counts += np.bincount(self.hmm.pdfs(alignment), minlength=len(counts))
        return counts

    def _warm_up(self, function: Callable[[list[str]], object]) -> None:
        """Do the shortest utterance here, so that compiled code and tables exist before processes are forked."""
        if self.corpus.num_jobs > 1:
            candidates = self.alignments.alignments or self.corpus.feats
            function([min(candidates, key=lambda utterance: len(self.corpus.feats[utterance]))])


def equal_alignment(hmm: HmmModel, phones: Sequence[int], num_frames: int) -> Alignment | None:
    """Give every state of a row of phones the same share of the frames; None when there are too few.

    Args:
        hmm: a monophone model.
        phones: phone ids.
        num_frames: T.
    """
    states = hmm.transition_state_table[0, list(phones), 0].reshape(-1)
    if num_frames < len(states):
        return None
    bounds = np.linspace(0, num_frames, len(states) + 1).round().astype(np.int64)
    alignment = np.repeat(2 * states + 1, np.diff(bounds)).astype(np.int32)
    alignment[bounds[:-1]] += 1
    return alignment
