"""Who goes on learning, and which sweep's scales are kept, by speech that is held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lhuc_asr.adaptation.update.group import SpeakerGroup
from lhuc_asr.adaptation.update.held_out import HeldOutConfig, HeldOutReport, Verdict, best_of, judge


class SweepWatch:
    """Measures everybody on held-out speech before the first sweep and after every one, and keeps the best.

    Where nothing is held out, nothing is measured, everybody goes on to the end, and the last sweep counts.

    Args:
        group: before its first sweep.
        places: who takes part.
        config: what is concluded.
    """

    def __init__(self, group: SpeakerGroup[Any], places: Sequence[int], config: HeldOutConfig) -> None:
        self._group, self._config = group, config
        self.going = list(places)
        self._judged = [place for place in places if config.held_out_share and group.divisions[place].num_held_out]
        self._objectives: dict[int, list[float]] = {place: [] for place in self._judged}
        self._speaker_independent: list[float] = []
        self._best: dict[str, Tensor] = {}
        self._ran_away: set[int] = set()
        if self._judged:
            self._speaker_independent = group.measure(group.identity(), held_out=True)
            self._best = {name: table.clone() for name, table in group.estimate.tables.items()}
            self._note()

    def after_sweep(self, means: Mapping[int, float]) -> None:
        """Measure those who have learnt, and let those stop who ran away or have not become better for long.

        Args:
            means: by place, mean of the objectives on the way.
        """
        if self._judged:
            self._ran_away.update(place for place in self._judged if not math.isfinite(means.get(place, 0.0)))
            self._note()
        self.going = [place for place in self.going if not self._has_stopped(place)]

    def settle(self) -> dict[str, Tensor]:
        """Put everybody's best sweep into the estimate; site name -> (S, *units) parameters that are to be used."""
        for name, table in self._group.estimate.tables.items():
            for place in self._judged:
                table[place] = self._best[name][place]
        r, identity = self._group.estimate.r(), self._group.identity()
        for place, report in self.reports().items():
            if report.verdict is Verdict.fell_back:
                r = {name: table.clone() for name, table in r.items()}
                for name, table in r.items():
                    table[place] = identity[name][place]
        return r

    def reports(self) -> Mapping[int, HeldOutReport]:
        """By place, of those of whom something was to be held out."""
        if not self._config.held_out_share:
            return {}
        return {place: self._report(place) for place in range(len(self._group.divisions))}

    def _report(self, place: int) -> HeldOutReport:
        judged = place in self._objectives
        return judge(
            self._objectives[place] if judged else (),
            self._speaker_independent[place] if judged else 0.0,
            num_targets=self._group.divisions[place].num_held_out if judged else 0,
            least_gain=self._config.held_out_gain,
            ran_away=place in self._ran_away,
        )

    def _note(self) -> None:
        measured = self._group.measure(held_out=True)
        for place in set(self._judged).intersection(self.going):
            if place in self._ran_away or not math.isfinite(measured[place]):
                self._ran_away.add(place)
                continue
            objectives = self._objectives[place]
            objectives.append(measured[place])
            if best_of(objectives) == len(objectives) - 1:
                for name, table in self._group.estimate.tables.items():
                    self._best[name][place] = table[place]

    def _has_stopped(self, place: int) -> bool:
        objectives = self._objectives.get(place, [])
        idle = len(objectives) - 1 - best_of(objectives) if objectives else 0
        return place in self._ran_away or idle >= self._config.patience
