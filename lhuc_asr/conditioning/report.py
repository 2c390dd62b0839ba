"""What the training of a gate gave, in figures and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lhuc_asr.conditioning.embedding_training import EmbeddingReport
from lhuc_asr.conditioning.scale_fitting import Fit
from lhuc_asr.training.loop import TrainingReport
from lhuc_asr.training.tasks.evaluation import FrameScore


@dataclass(frozen=True, kw_only=True)
class HearingScores:
    """How some speakers' frames are recognised.

    Attributes:
        without: by the network alone.
        average: with the gate, every voice taken for the average one: what is gained without listening.
        heard: with the gate, every utterance heard, and what is known of its speaker used.
        num_speakers: who they are.
    """

    without: FrameScore
    average: FrameScore
    heard: FrameScore
    num_speakers: int

    @property
    def helps(self) -> bool:
        """Whether they gain by being heard."""
        return self.heard.loss < min(self.without.loss, self.average.loss)

    def __str__(self) -> str:
        shown = (self.without, self.average, self.heard)
        losses = " -> ".join(f"{score.loss:.4f}" for score in shown)
        accuracies = " -> ".join(f"{100 * score.accuracy:.2f}" for score in shown)
        return f"network alone -> average voice -> heard: loss {losses}, frame accuracy {accuracies} %"


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What training gave.

    Attributes:
        held_out: speakers whom the gate has not met.
        met: with a table of speakers, utterances that were held out of those who stand in it.
        embedding: with an embedding, how well that tells speakers apart.
        training: of the gate; None where it was fitted to known scales.
        fit: to known scales, if there was such.
    """

    held_out: HearingScores
    met: HearingScores | None = None
    embedding: EmbeddingReport | None = None
    training: TrainingReport | None = None
    fit: Fit | None = None

    @property
    def helps(self) -> bool:
        """Whether somebody gains by being heard."""
        return self.held_out.helps or (self.met is not None and self.met.helps)

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "held_out": asdict(self.held_out),
            **({"met": asdict(self.met)} if self.met else {}),
            **({"embedding": asdict(self.embedding)} if self.embedding else {}),
            **({"fit": asdict(self.fit)} if self.fit else {}),
            **(_plain(self.training) if self.training else {}),
        }

    def __str__(self) -> str:
        lines = [f"{self.held_out.num_speakers} held-out speakers, {self.held_out}"]
        if self.embedding:
            lines.insert(0, str(self.embedding))
        if self.fit:
            lines.insert(0, str(self.fit))
        if self.met:
            lines.append(f"{self.met.num_speakers} speakers of the table, utterances held out, {self.met}")
        return "\n".join(lines)


def _plain(training: TrainingReport) -> dict[str, Any]:
    return {"best_epoch": training.best_epoch, "seconds": round(training.seconds, 1)}
