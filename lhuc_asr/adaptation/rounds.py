"""Self-training in rounds: what was learnt recognises the speech again, and what it recognises is learnt from anew.

Every round learns from the beginning, so that only words are carried from one to the next. A speaker's rounds end when
the words stay the same, or when the objective on held-out speech is no better than in the round before, which is then
kept. That objective is measured on each round's own words: it also falls where these become simpler without becoming
truer, against which only a guard stands. More rounds than two or three, or rounds without held-out speech, confirm
errors more than they remove them.

Source: Yarowsky 1995 (ACL) for the loop; Xu et al. 2020 (arXiv:2005.09267) for its rounds in speech recognition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace

from lhuc_asr.adaptation.outcome import Updated
from lhuc_asr.adaptation.parameters.sets import ParameterSet
from lhuc_asr.adaptation.passes.pass_store import PassStore
from lhuc_asr.adaptation.passes.protocol import SpeakerPlan
from lhuc_asr.adaptation.passes.recognition import Recognition
from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
from lhuc_asr.adaptation.target_source import TargetSource
from lhuc_asr.adaptation.targets.agreement import share_changed
from lhuc_asr.adaptation.targets.supervision import SpeakerTargets
from lhuc_asr.adaptation.update.held_out import Verdict
from lhuc_asr.adaptation.update.report import Round, UpdateReport
from lhuc_asr.decoding.speed import SpeedMeter

Learn = Callable[[Mapping[str, SpeakerTargets]], Iterator[tuple[str, Updated | str]]]
"""From speakers' targets to what they give."""


@dataclass(frozen=True, eq=False)
class Rounds:
    """The rounds after the first, of many speakers side by side.

    Attributes:
        source: makes targets.
        recognition: of speakers.
        learn: learns from targets.
        store: of a round's number, where its passes lie.
        keys: speaker -> what a pass of a round depends on, but for the round.
        num_rounds: at most, the first one included.
        meter: collects what recognition takes.
        own: where numbers act that are not scales.
    """

    source: TargetSource
    recognition: Recognition
    learn: Learn
    store: Callable[[int], PassStore]
    keys: Mapping[str, str]
    num_rounds: int
    meter: SpeedMeter
    own: ParameterSet | None = None

    def __call__(
        self,
        learnt: Mapping[str, Updated],
        passes: Mapping[str, SpeakerPass],
        plans: Mapping[str, SpeakerPlan],
        targets: MutableMapping[str, SpeakerTargets],
    ) -> Iterator[tuple[str, Updated]]:
        """Every speaker with what the last good round gave, as soon as that is known.

        Args:
            learnt: speaker -> what the first round gave.
            passes: speaker -> first pass.
            plans: speaker -> the utterances that are learnt from.
            targets: speaker -> targets of the first round; those of the round that is kept take their place.
        """
        going = {name: _noted(own, Round(number=1, objective=_objective(own))) for name, own in learnt.items()}
        heard = {name: passes[name] for name in going}
        for number in range(2, self.num_rounds + 1):
            found = self._recognise(number, going, plans)
            parts = {name: plan.adaptation for name, plan in plans.items()}
            changed = {
                name: share_changed(heard[name].of(parts[name]), own.of(parts[name])) for name, own in found.items()
            }
            yield from ((name, going.pop(name)) for name, share in changed.items() if not share)
            new_targets = self._targets(number, [plans[name] for name in going], found)
            outcomes = {name: own for name, own in self.learn(new_targets) if isinstance(own, Updated)}
            for name, before in list(going.items()):
                after = outcomes.get(name)
                kept = after is not None and _better(after, before)
                told = Round(number=number, changed=changed[name], objective=_objective(after), kept=kept)
                if after is None or not kept:
                    yield name, _noted(going.pop(name), told)
                else:
                    going[name] = _noted(after, *before.report.rounds, told)
                    heard[name], targets[name] = found[name], new_targets[name]
            if not going:
                return
        yield from going.items()

    def _recognise(
        self, number: int, scales: Mapping[str, Updated], plans: Mapping[str, SpeakerPlan]
    ) -> dict[str, SpeakerPass]:
        """What each speaker's scales recognise; read where an earlier run was broken off."""
        return self.recognition.stored(
            self.store(number),
            {name: f"{self.keys[name]}/{number}" for name in scales},
            {name: plans[name].adaptation for name in scales},
            {name: own.adapter(self.own) for name, own in scales.items()},
            description=f"round {number}",
            meter=lambda: self.meter,
            keep_lattices=self.source.config.keeps_lattices,
        )

    def _targets(
        self, number: int, plans: Sequence[SpeakerPlan], passes: Mapping[str, SpeakerPass]
    ) -> dict[str, SpeakerTargets]:
        """Of those who still have some."""
        made = self.source.of_speakers(plans, passes, self.store(number)) if plans else ()
        return {name: own for name, own in made if isinstance(own, SpeakerTargets) and own.num_speech_frames}


def _objective(own: Updated | None) -> float | None:
    """The least on held-out speech; None where none was held out, or nothing was learnt."""
    held_out = None if own is None else own.report.held_out
    return held_out.objectives[held_out.best_sweep] if held_out is not None and held_out.objectives else None


def _better(own: Updated, before: Updated) -> bool:
    """Whether a round is kept; all are where nothing is held out."""
    held_out = own.report.held_out
    if held_out is not None and held_out.verdict is Verdict.fell_back:
        return False
    found, least = _objective(own), _objective(before)
    return found is None or least is None or found < least


def _noted(own: Updated, *rounds: Round) -> Updated:
    """With rounds added to the report, or put into it where it has none."""
    report: UpdateReport = own.report
    return replace(own, report=replace(report, rounds=(*report.rounds, *rounds)))
