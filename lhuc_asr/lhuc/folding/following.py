"""Following scaled units through a traced net: forward to the layers that read them, back to the one that gave them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lhuc_asr.lhuc.folding.passing import Passes, Stops, passing
from lhuc_asr.lhuc.folding.tracing import Call, Scaled, Trace
from lhuc_asr.lhuc.folding.weights import Fold, giving, reading


@dataclass(eq=False)
class Way:
    """What was met while units were followed.

    Attributes:
        folds: layers that can take the factors in, with the call that does the reading or giving.
        problem: why the factors cannot all be taken in; the first reason.
        positive: the first function on the way that no negative factor passes.
    """

    folds: list[tuple[Fold, Call]] = field(default_factory=list)
    problem: str | None = None
    positive: str | None = None
    labels: dict[int, Tensor] = field(default_factory=dict)

    def stop(self, reason: str) -> None:
        """Note why the factors cannot be folded."""
        self.problem = self.problem or reason

    def pass_site(self, step: Scaled) -> None:
        """Another site on the way: its scales and ours act one after the other."""
        if id(step.before) in self.labels:
            self.labels[id(step.after)] = self.labels[id(step.before)]

    def meet(self, call: Call, trace: Trace) -> None:
        """Go on through a call if it reads what is followed."""
        if not any(id(tensor) in self.labels for tensor in call.inputs):
            return
        read = reading(call, self.labels, trace)
        outcome = passing(call, self.labels) if read is None else read
        if isinstance(outcome, Stops):
            self.stop(outcome.reason)
        elif isinstance(outcome, Fold):
            self.folds.append((outcome, call))
        elif isinstance(outcome, Passes):
            pairs = list(zip(call.outputs, outcome.labels, strict=False))
            if any(output.shape != labels.shape for output, labels in pairs):
                self.stop(f"units cannot be followed through {call}")
                return
            if not outcome.any_sign:
                self.positive = self.positive or str(call)
            for output, labels in pairs:
                self.labels[id(output)] = labels

    def leave(self, trace: Trace) -> None:
        """At the end of the pass: what the net gives would lack the factors."""
        if any(id(output) in self.labels for output in trace.outputs):
            self.stop("it is part of the net's output")


def into_readers(trace: Trace, name: str) -> Way:
    """From a site to the layers that read its units."""
    way = Way()
    for step in trace.steps:
        if isinstance(step, Call):
            way.meet(step, trace)
        elif step.site.name != name:
            way.pass_site(step)
        elif id(step.before) in way.labels:
            way.stop("it runs again on what it has scaled already")
        else:
            way.labels[id(step.after)] = step.labels
    way.leave(trace)
    if not way.folds:
        way.stop("nothing reads it")
    return way


def into_rows(trace: Trace, name: str) -> Way:
    """From a site back to the layers that gave it, one for each of its runs."""
    total = Way()
    for place, step in enumerate(trace.steps):
        if isinstance(step, Scaled) and step.site.name == name:
            way = _into_rows_of_run(trace, place, step)
            total.folds += way.folds
            total.stop(way.problem or "") if way.problem else None
            total.positive = total.positive or way.positive
    return total


def _into_rows_of_run(trace: Trace, place: int, run: Scaled) -> Way:
    way = Way()
    begin = _giver(trace, place, run)
    given = None if begin is None else giving(_call(trace, begin), trace)
    if begin is None or given is None:
        way.stop("no linear layer, convolution or normalisation gives it")
        return way
    if isinstance(given, Stops):
        way.stop(given.reason)
        return way
    fold, labels = given
    way.labels[id(_call(trace, begin).outputs[0])] = labels
    for step in trace.steps[begin + 1 :]:
        if step is run:
            _arrive(way, fold, _call(trace, begin), run)
        elif isinstance(step, Call):
            before = len(way.folds)
            way.meet(step, trace)
            if len(way.folds) > before:
                way.folds.pop()
                way.stop(f"{fold.layer!r} is also read by {step}")
        else:
            way.pass_site(step)
    way.leave(trace)
    return way


def _giver(trace: Trace, place: int, run: Scaled) -> int | None:
    """The call that gave the numbers which reach a site, seen from there against the stream."""
    wanted = run.before
    for index in range(place - 1, -1, -1):
        step = trace.steps[index]
        if isinstance(step, Scaled):
            wanted = step.before if step.after is wanted else wanted
        elif any(output is wanted for output in step.outputs):
            if giving(step, trace) is not None:
                return index
            if not step.inputs:
                return None
            wanted = step.inputs[0]
    return None


def _call(trace: Trace, index: int) -> Call:
    step = trace.steps[index]
    assert isinstance(step, Call)
    return step


def _arrive(way: Way, fold: Fold, call: Call, run: Scaled) -> None:
    """Turn rows of the giving layer into units of the site."""
    rows = way.labels.get(id(run.before))
    if rows is None:
        way.stop(f"what {fold.layer!r} gives does not reach it unmixed")
        return
    rows, wanted = rows.flatten().long(), run.labels.flatten().long()
    if bool((rows == -1).any()):
        way.stop(f"only a part of it comes from {fold.layer!r}")
        return
    rows, wanted = rows[rows >= 0].cpu(), wanted[rows >= 0].cpu()
    unit_of_row = torch.full((max(int(r.units.max()) for r in fold.rescalings) + 1,), -1)
    unit_of_row[rows] = wanted
    if not torch.equal(unit_of_row[rows], wanted):
        way.stop(f"{fold.layer!r} shares its rows among units with scales of their own")
        return
    way.folds.append((fold.with_units(unit_of_row), call))
