"""Learning a start and speeds from many speakers, episode by episode; held-out speakers choose the epoch."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from lhuc_asr.errors import DataError
from lhuc_asr.metalearning.adapting import Adaptation, Start
from lhuc_asr.metalearning.episodes import Episode, SpeakerSpeech
from lhuc_asr.metalearning.settings import MetalearnConfig, Order
from lhuc_asr.progress import track
from lhuc_asr.training.examples.seeds import Purpose, generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MetalearnReport:
    """What held-out speakers say, whose episodes are the same at every epoch.

    Attributes:
        unadapted: mean cross-entropy of the network as it is.
        losses: after adaptation: with the plain start, then with what every epoch had learnt.
        num_speakers: learnt from.
        num_held_out: who judge.
    """

    unadapted: float
    losses: tuple[float, ...]
    num_speakers: int
    num_held_out: int

    @property
    def best(self) -> int:
        """The epoch whose start and speeds are kept; 0 is the plain start."""
        return min(range(len(self.losses)), key=self.losses.__getitem__)

    def __str__(self) -> str:
        return (
            f"{self.num_held_out} held-out speakers, network alone -> plain start -> learnt start (epoch {self.best}): "
            f"loss {self.unadapted:.4f} -> {self.losses[0]:.4f} -> {self.losses[self.best]:.4f}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class StartLearning:
    """Adam on what is left of the loss after adaptation.

    Attributes:
        adaptation: through which gradients go.
        config: of the learning.
        frames_per_second: of the features.
        seed: of the episodes and of the order of the speakers.

    Example:
        >>> import numpy as np
        >>> from lhuc_asr.lhuc.amplitude import Amplitude
        >>> from lhuc_asr.lhuc.finding import choose_sites
        >>> from lhuc_asr.models.dnn import Dnn, DnnConfig
        >>> shape = DnnConfig(num_layers=1, hidden_dim=4, context=0)
        >>> net = Dnn(shape, feat_dim=2, num_outputs=3).requires_grad_(False).eval()
        >>> sites = choose_sites(net, net.adaptation_sites, [])
        >>> adaptation = Adaptation(network=net, sites=sites, kind=Amplitude.exp, lr=0.8, num_steps=3)
        >>> said = [np.ones((9, 2), dtype=np.float32)] * 4, [np.zeros(9, dtype=np.int32)] * 4
        >>> speaker = SpeakerSpeech(*said, context=0)
        >>> learning = StartLearning(adaptation=adaptation, config=MetalearnConfig(num_epochs=2))
        >>> start, report = learning.run([speaker, speaker], [speaker])
        >>> report.best, report.losses[2] < report.losses[0] < report.unadapted
        (2, True)
    """

    adaptation: Adaptation
    config: MetalearnConfig
    frames_per_second: float = 100.0
    seed: int = 0

    def run(
        self, speakers: Sequence[SpeakerSpeech], held_out: Sequence[SpeakerSpeech]
    ) -> tuple[Start, MetalearnReport]:
        """Learn from some speakers, and keep what is best for others.

        Raises:
            DataError: there is nobody to learn from or to judge, or the network's loss is not finite.
        """
        if not speakers or not held_out:
            raise DataError(f"there are {len(speakers)} speakers to learn from and {len(held_out)} to judge: give both")
        judges = list(self._episodes(held_out, epoch=0))
        adaptation = self.adaptation
        start = Start.plain(adaptation.network, adaptation.sites, adaptation.kind, self.config.speeds)
        unadapted = _mean([adaptation.loss(start.r, episode.test).item() for episode in judges])
        losses = [self._judged(start, judges)]
        if not math.isfinite(losses[0]):
            raise DataError(f"the loss of held-out speakers is {losses[0]} with the plain start: lower metalearn.lr")
        optimiser = torch.optim.Adam(start.parameters(), lr=self.config.outer_lr)
        kept = start.copied()
        for epoch in range(1, self.config.num_epochs + 1):
            self._epoch(start, optimiser, speakers, epoch)
            losses.append(self._judged(start, judges))
            logger.info(
                "epoch %d: held-out loss after adaptation %.4f (plain start %.4f)", epoch, losses[-1], losses[0]
            )
            if not math.isfinite(losses[-1]):
                logger.warning("the loss is no longer finite; what was best before is kept (metalearn.outer_lr)")
                losses.pop()
                break
            if losses[-1] < min(losses[:-1]):
                kept = start.copied()
        return kept, MetalearnReport(
            unadapted=unadapted, losses=tuple(losses), num_speakers=len(speakers), num_held_out=len(held_out)
        )

    def _epoch(
        self, start: Start, optimiser: torch.optim.Optimizer, speakers: Sequence[SpeakerSpeech], epoch: int
    ) -> None:
        order = torch.randperm(len(speakers), generator=generator(self.seed, Purpose.order, epoch)).tolist()
        size = self.config.speakers_per_step
        drawn = self._episodes([speakers[place] for place in order], epoch)
        for number, episode in enumerate(track(drawn, f"epoch {epoch}", total=len(order), unit="speaker"), start=1):
            self.adaptation.loss_after(start, episode).backward()  # type: ignore[no-untyped-call]
            if number % size == 0 or number == len(order):
                _divide_gradients(start, (number - 1) % size + 1)
                optimiser.step()
                optimiser.zero_grad()

    def _episodes(self, speakers: Sequence[SpeakerSpeech], epoch: int) -> Iterator[Episode]:
        num_adapt, num_test = (
            max(1, round(seconds * self.frames_per_second))
            for seconds in (self.config.adapt_seconds, self.config.test_seconds)
        )
        for number, speaker in enumerate(speakers, start=1):
            draw = generator(self.seed, Purpose.conditions, epoch, number)
            yield speaker.episode(draw, num_adapt=num_adapt, num_test=num_test)

    def _judged(self, start: Start, judges: Sequence[Episode]) -> float:
        adaptation = replace(self.adaptation, order=Order.first)  # the same losses, for less
        return _mean([adaptation.loss_after(start, episode).item() for episode in judges])


def _divide_gradients(start: Start, count: int) -> None:
    for parameter in start.parameters():
        if parameter.grad is not None:
            parameter.grad.div_(count)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
