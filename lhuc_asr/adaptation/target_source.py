"""Where the targets of many speakers come from: first passes, another system's words, or the references."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from lhuc_asr.adaptation.failures import TROUBLE, reason_of
from lhuc_asr.adaptation.passes.pass_store import PassStore
from lhuc_asr.adaptation.passes.protocol import SpeakerPlan
from lhuc_asr.adaptation.passes.speaker_passes import Feats, SpeakerPass
from lhuc_asr.adaptation.targets.config import Supervision
from lhuc_asr.adaptation.targets.criterion import AdaptCriterion
from lhuc_asr.adaptation.targets.making import TargetMaker
from lhuc_asr.adaptation.targets.other_words import OtherWords, Taught, align_other_words
from lhuc_asr.adaptation.targets.supervision import SpeakerTargets, align_references
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.decoding.calibration import Calibration
from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.errors import SpeakerError
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.progress import track
from lhuc_asr.system.model_directory import AcousticSystem


@dataclass(frozen=True, eq=False)
class TargetSource:
    """Makes the targets of speakers.

    Attributes:
        system: the model.
        config: which targets.
        feats: utterance id -> (T, F) normalised.
        transcripts: utterance id -> words; read for oracle targets only.
        num_jobs: processes.
        calibration: of confidences of words.
        others: another system's words, where targets come from them.
        criterion: how the network's outputs are read, and what utterances are learnt from as wholes.
    """

    system: AcousticSystem
    config: AdaptConfig
    feats: Feats
    transcripts: Mapping[str, str]
    num_jobs: int
    calibration: Calibration | None = None
    others: Mapping[str, OtherWords] | None = None
    criterion: AdaptCriterion = field(default_factory=AdaptCriterion)

    def of_speakers(
        self, plans: Sequence[SpeakerPlan], passes: Mapping[str, SpeakerPass], store: PassStore
    ) -> Iterator[tuple[str, SpeakerTargets | SpeakerError]]:
        """Every speaker's targets, or why there are none.

        Args:
            plans: speakers and the utterances that they are learnt from.
            passes: speaker -> what was recognised.
            store: where the lattices of these passes lie, where something is made of them.
        """
        if self.config.supervision is Supervision.oracle:
            make = TargetMaker(self.system, self.config, self.feats, self.calibration, None, self.criterion)
            aligned = align_references(self.system, plans, self.transcripts, self.feats, num_jobs=self.num_jobs)

            def completed(speaker: str, targets: SpeakerTargets) -> SpeakerTargets:
                return make.with_goals(make.with_kl(targets), self._lattices(speaker, store, passes))

            yield from ((name, _made(name, partial(completed, name, targets))) for name, targets in aligned)
            return
        maker = self.maker(plans, passes)

        def made(plan: SpeakerPlan) -> tuple[str, SpeakerTargets | SpeakerError]:
            name = plan.speaker
            return name, _made(name, lambda: maker(plan, passes[name], self._lattices(name, store, passes)))

        num_jobs = self.num_jobs if self.config.keeps_lattices else 1
        yield from track(map_in_processes(made, plans, num_jobs=num_jobs), "targets", total=len(plans), unit="speaker")

    def maker(self, plans: Sequence[SpeakerPlan], passes: Mapping[str, SpeakerPass]) -> TargetMaker:
        """What makes one speaker's targets; words that are given, also references, are aligned now."""
        taught = self._taught(plans, passes)
        return TargetMaker(self.system, self.config, self.feats, self.calibration, taught, self.criterion)

    def _taught(self, plans: Sequence[SpeakerPlan], passes: Mapping[str, SpeakerPass]) -> Taught | None:
        """Words that are given, aligned, where targets come from such."""
        words, first = self.others, passes
        if self.config.supervision is Supervision.oracle:
            words = {name: OtherWords(tuple(text.split())) for name, text in self.transcripts.items()}
            first = {plan.speaker: SpeakerPass({}) for plan in plans}
        if words is None:
            return None
        return align_other_words(self.system, words, plans, first, self.feats, num_jobs=self.num_jobs)

    def _lattices(self, speaker: str, store: PassStore, passes: Mapping[str, SpeakerPass]) -> Mapping[str, Lattice]:
        return store.lattices(speaker, passes[speaker]) if self.config.keeps_lattices else {}


def _made(speaker: str, make: Callable[[], SpeakerTargets]) -> SpeakerTargets | SpeakerError:
    """One speaker's targets, or why there are none."""
    try:
        return make()
    except TROUBLE as error:
        return SpeakerError(reason_of(speaker, error))
