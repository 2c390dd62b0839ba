"""A speaker's targets, made from the first pass as the configuration says; one small function for each kind.

The best state path is taken as it is, as Swietojanski, Li & Renals 2016 (arXiv:1601.02828, section V) and the authors'
adaptation script do; all other kinds begin with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from lhuc_asr.adaptation.passes.protocol import SpeakerPlan
from lhuc_asr.adaptation.passes.speaker_passes import Feats, SpeakerPass
from lhuc_asr.adaptation.targets.agreement import agreed_frames
from lhuc_asr.adaptation.targets.config import Supervision, TargetConfig
from lhuc_asr.adaptation.targets.criterion import AdaptCriterion
from lhuc_asr.adaptation.targets.other_words import Taught
from lhuc_asr.adaptation.targets.posteriors import mixed, of_log_probs, of_path, sharpened
from lhuc_asr.adaptation.targets.sequence_criteria import Goal
from lhuc_asr.adaptation.targets.supervision import SpeakerTargets, failed_of, is_speech, targets_of_paths
from lhuc_asr.adaptation.targets.weighting import (
    FrameConfidences,
    FrameWeighting,
    Shares,
    weighted,
    word_confidences_by_frame,
)
from lhuc_asr.decoding.calibration import Calibration
from lhuc_asr.decoding.confidence import ConfidenceEstimator, Confidences
from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.lattices.nbest import nbest, sentence_posteriors
from lhuc_asr.decoding.lattices.paths import best_path
from lhuc_asr.decoding.lattices.posteriors import FramePosteriors, arc_posteriors, frame_posteriors
from lhuc_asr.decoding.lattices.reading import HypothesisKind, LatticeReader
from lhuc_asr.decoding.lattices.word_lattice import word_lattice
from lhuc_asr.decoding.words.hypothesis import Hypothesis
from lhuc_asr.errors import AlignmentError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.parallel import one_thread
from lhuc_asr.system.model_directory import AcousticSystem

logger = logging.getLogger(__name__)

Lattices = Mapping[str, Lattice]
"""Utterance id -> lattice of the first pass."""


@dataclass(frozen=True, eq=False)
class TargetMaker:
    """Makes targets of speakers, one speaker at a time.

    Attributes:
        system: the model.
        config: which targets.
        feats: utterance id -> (T, F) normalised; read for what the network says.
        calibration: of confidences of words.
        taught: another system's words, where targets come from them.
        criterion: makes posteriors of what the network gives, and goals of utterances.
    """

    system: AcousticSystem
    config: TargetConfig
    feats: Feats
    calibration: Calibration | None = None
    taught: Taught | None = None
    criterion: AdaptCriterion = field(default_factory=AdaptCriterion)

    def __call__(self, plan: SpeakerPlan, first: SpeakerPass, lattices: Lattices) -> SpeakerTargets:
        """Targets of the utterances that a speaker is learnt from.

        Args:
            plan: names them.
            first: what was recognised in them.
            lattices: of the same pass; may be empty where `AdaptConfig.keeps_lattices` is False.

        Raises:
            SpeakerError: no frame is sure enough.
        """
        config = self.config
        believed, failed = self._believed(plan, first, lattices)
        paths = {utterance: hypothesis.transition_ids for utterance, hypothesis in believed.items()}
        targets = targets_of_paths(paths, failed_of(plan.adaptation, failed), self.system.hmm)
        targets = self.with_kl(replace(targets, posteriors=self._posteriors(targets, lattices)))
        targets = self.with_goals(targets, lattices)
        weights = self._weights(believed, first, lattices)
        if not weights:
            return targets
        counting = (is_speech(path, self.system.hmm) & (weights[name] > 0) for name, path in paths.items())
        num_speech_frames = sum(int(frames.sum()) for frames in counting)
        return weighted(targets, weights, num_speech_frames, speaker=plan.speaker, config=config)

    def with_goals(self, targets: SpeakerTargets, lattices: Lattices) -> SpeakerTargets:
        """The same with what a criterion of whole utterances learns from; utterances without it are told."""
        sequence = self.criterion.sequence
        if sequence is None:
            return targets
        goals: dict[str, Goal] = {}
        for utterance, path in targets.paths.items():
            try:
                goals[utterance] = sequence.goal(utterance, path, lattices.get(utterance))
            except AlignmentError as error:
                logger.warning("%s; it is not learnt from", error)
        return replace(targets, goals=goals)

    def _believed(
        self, plan: SpeakerPlan, first: SpeakerPass, lattices: Lattices
    ) -> tuple[dict[str, Hypothesis], Mapping[str, str]]:
        """What is taken for said, and why utterances are absent."""
        if self.taught is not None:
            known = self.taught.hypotheses
            return {utterance: known[utterance] for utterance in plan.adaptation if utterance in known}, (
                self.taught.failed
            )
        believed = first.of(plan.adaptation)
        if self.config.supervision is Supervision.mbr:
            believed = {utterance: self._least_risk(lattices[utterance]) for utterance in believed}
        return believed, first.failed

    def _weights(self, believed: Mapping[str, Hypothesis], first: SpeakerPass, lattices: Lattices) -> dict[str, Shares]:
        """Utterance id -> what each frame counts; nothing where all count alike."""
        config = self.config
        weights: dict[str, Shares] = {}
        if config.looks_at_confidence:
            sure = {name: self._confidences(lattices.get(name), found) for name, found in believed.items()}
            weights = FrameWeighting(config).weights(sure)
        if config.only_agreed:
            agreed = {name: self._agreed(found, first.hypotheses.get(name)) for name, found in believed.items()}
            weights = {name: own * weights.get(name, np.float32(1)) for name, own in agreed.items()}
        return weights

    @staticmethod
    def _agreed(found: Hypothesis, own: Hypothesis | None) -> Shares:
        return np.zeros(len(found.transition_ids), np.float32) if own is None else agreed_frames(found, own)

    def with_kl(self, targets: SpeakerTargets) -> SpeakerTargets:
        """Targets mixed with what the speaker-independent network says: (1 - kl) of the one, kl of the other.

        To learn from them is to learn from the targets and to be held near the network by a Kullback-Leibler
        divergence.

        Source: Yu et al. 2013 (ICASSP), eq. 5.
        """
        kl = self.config.kl
        if self.config.supervision is Supervision.entropy:
            anchors = {utterance: self._network_says(utterance) for utterance in targets.pdfs} if kl else {}
            return replace(targets, posteriors=anchors, entropy=1 - kl, doubt=self.config.doubt())
        if not kl:
            return targets
        num_pdfs = self.system.hmm.num_pdfs
        return replace(
            targets,
            posteriors={
                utterance: mixed(
                    [
                        (1 - kl, targets.posteriors.get(utterance) or of_path(pdfs, num_pdfs)),
                        (kl, self._network_says(utterance)),
                    ]
                )
                for utterance, pdfs in targets.pdfs.items()
            },
        )

    def _posteriors(self, targets: SpeakerTargets, lattices: Lattices) -> dict[str, FramePosteriors]:
        """Where several states share frames; nothing for the kinds of supervision that name one state."""
        kinds: dict[Supervision, Callable[[str], FramePosteriors]] = {
            Supervision.lattice: lambda utterance: self._in_lattice(lattices[utterance]),
            Supervision.n_best: lambda utterance: self._in_sentences(lattices[utterance]),
            Supervision.soft: self._network_says,
        }
        of = kinds.get(self.config.supervision)
        if of is None:
            return {}
        return {utterance: sharpened(of(utterance), self.config.sharpness) for utterance in targets.pdfs}

    def _in_lattice(self, lattice: Lattice) -> FramePosteriors:
        hmm = self.system.hmm
        arcs = arc_posteriors(lattice, acoustic_scale=self._scale)
        return frame_posteriors(lattice, arcs, hmm.transitions.pdf_of, hmm.num_pdfs)

    def _in_sentences(self, lattice: Lattice) -> FramePosteriors:
        return sentence_states(
            lattice, self.system.hmm, num_sentences=self.config.num_sentences, acoustic_scale=self._scale
        )

    def _network_says(self, utterance: str) -> FramePosteriors:
        with one_thread():
            outputs = torch.from_numpy(self.system.log_likes(self.feats[utterance])) + self.system.log_prior
            return of_log_probs(self.criterion.log_posteriors(outputs).numpy())

    def _least_risk(self, lattice: Lattice) -> Hypothesis:
        system = self.system
        read = LatticeReader(system.hmm, system.lexicon, HypothesisKind.mbr, system.output_shift_ms, self._scale)
        return read(lattice)

    def _confidences(self, lattice: Lattice | None, hypothesis: Hypothesis) -> FrameConfidences:
        if self.taught is not None:
            return self._others_confidences(lattice, hypothesis)
        assert lattice is not None, "lattices were asked for"
        frame = self._held_likely(lattice, hypothesis)
        if not self.config.needs_words:
            return FrameConfidences(frame)
        estimator = ConfidenceEstimator(self.system.hmm, self.system.lexicon, calibration=self.calibration)
        return FrameConfidences(frame, word_confidences_by_frame(hypothesis, estimator(lattice, hypothesis)))

    def _others_confidences(self, lattice: Lattice | None, hypothesis: Hypothesis) -> FrameConfidences:
        """Of words what the other system says; of frames what the first pass's lattice says of the other's path.

        Where the other system recognised no words, it is sure of nothing.
        """
        nothing = np.zeros(len(hypothesis.transition_ids), np.float32)
        frame = nothing if lattice is None else self._held_likely(lattice, hypothesis)
        if not self.config.needs_words:
            return FrameConfidences(frame)
        words = Confidences(hypothesis.utterance, hypothesis.confidences or (), nothing, 0.0)
        return FrameConfidences(frame, word_confidences_by_frame(hypothesis, words))

    def _held_likely(self, lattice: Lattice, hypothesis: Hypothesis) -> Shares:
        return self._in_lattice(lattice).of_path(self.system.hmm.pdfs(hypothesis.transition_ids))

    @property
    def _scale(self) -> float | None:
        return self.config.lattice_scale or None


def sentence_states(
    lattice: Lattice, hmm: HmmModel, *, num_sentences: int, acoustic_scale: float | None = None
) -> FramePosteriors:
    """States of the cheapest sentences' best paths, each as far as its sentence is likely among them.

    Args:
        lattice: of one utterance.
        hmm: tells the states of paths.
        num_sentences: how many at most.
        acoustic_scale: factor on the log-likelihoods; without it the one of the search.
    """
    sentences = nbest(word_lattice(lattice, acoustic_scale=acoustic_scale), num_sentences)
    parts = []
    for sentence, chance in zip(sentences, sentence_posteriors(sentences).tolist(), strict=True):
        path = best_path(lattice, words=sentence.words, acoustic_scale=acoustic_scale)
        assert path is not None, "sentences of a lattice are paths of it"
        if chance > 0:
            parts.append((chance, of_path(hmm.pdfs(path.transition_ids), hmm.num_pdfs)))
    return mixed(parts)
