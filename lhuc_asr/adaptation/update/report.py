"""What an update did, and each of its rounds."""

from __future__ import annotations

from dataclasses import dataclass

from lhuc_asr.adaptation.update.guard import GuardReport
from lhuc_asr.adaptation.update.held_out import HeldOutReport
from lhuc_asr.units import Seconds


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of self-training.

    Attributes:
        number: from 1.
        changed: words that changed since the round before, per word of it; 0 in the first round.
        objective: on held-out speech, after its best sweep; None where none was held out.
        kept: False where the round before was better.
    """

    number: int
    changed: float = 0.0
    objective: float | None = None
    kept: bool = True


@dataclass(frozen=True, kw_only=True)
class UpdateReport:
    """What an update did.

    Attributes:
        objective_before: mean of the criterion per frame with the scales at the start.
        objective_after: the same with the scales at the end.
        per_epoch: mean of the minibatch objectives of every sweep, measured on the way.
        seconds: wall-clock time that the update took.
        held_out: what speech told that was not learnt from; None where none was to be held out.
        coefficients: numbers that were learnt instead of r; none where r was learnt.
        guard: what the guard said, to which nothing else here pays heed; None where there was none.
        rounds: of self-training; none where there was one pass alone.
        learnt_from: ids of the utterances that were learnt from; none where the report comes from a file.
        utterances_held_out: ids of those that were held out as a whole; none likewise.
    """

    objective_before: float
    objective_after: float
    per_epoch: tuple[float, ...]
    seconds: Seconds
    held_out: HeldOutReport | None = None
    coefficients: tuple[float, ...] = ()
    guard: GuardReport | None = None
    rounds: tuple[Round, ...] = ()
    learnt_from: tuple[str, ...] = ()
    utterances_held_out: tuple[str, ...] = ()

    @property
    def round_kept(self) -> int:
        """Number of the round that gave what was learnt; 1 where there was no other."""
        return max((own.number for own in self.rounds if own.kept), default=1)

    @property
    def tested_on(self) -> tuple[str, ...]:
        """Ids of the utterances on which scales are tried: those held out, or all where there are none."""
        return self.utterances_held_out or self.learnt_from
