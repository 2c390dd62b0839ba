"""How a ranking model learns: binary cross-entropy of all tasks, and an end when held-out impressions gain no more.

Shape suffixes: B impressions of a minibatch, T tasks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lhuc_asr.errors import DataError
from lhuc_asr.ranges import require_at_least, require_positive
from lhuc_asr.ranking.encoding import Encoder, Impressions
from lhuc_asr.ranking.evaluation import TaskScore, judge, share_of_rows
from lhuc_asr.ranking.ranker import Ranker
from lhuc_asr.ranking.schema import ClickLog
from lhuc_asr.training.examples.seeds import Purpose, generator
from lhuc_asr.training.processes.distributed import add_up, own_share

logger = logging.getLogger(__name__)


class Measure(Enum):
    """What tells when to stop: order within users, order of all, or probabilities; of all tasks in the mean."""

    gauc = "gauc"
    auc = "auc"
    log_loss = "log_loss"


@dataclass(kw_only=True, slots=True)
class RankerTrainingConfig:
    """How a ranking model learns.

    Attributes:
        batch_size: impressions of a minibatch.
        lr: learning rate of towers and gates (Adam).
        table_lr: learning rate of embedding tables (AdaGrad), which touch few rows at a time.
        weight_decay: pull of towers and gates towards 0, decoupled.
        max_epochs: passes over the log.
        patience: epochs without gain before it ends.
        measure: what counts as gain on the held-out log.

    Source: AdaGrad with 0.05 for tables and Adam for the rest, Chang et al. 2023 (arXiv:2302.01115); there, on far more
        impressions, Adam has a rate of 5e-6.
    """

    batch_size: int = 512
    lr: float = 1e-3
    table_lr: float = 0.05
    weight_decay: float = 0.0
    max_epochs: int = 20
    patience: int = 2
    measure: Measure = Measure.gauc

    def __post_init__(self) -> None:
        require_at_least(1, self, "ranker_training", "batch_size", "max_epochs", "patience")
        require_positive(self, "ranker_training", "lr", "table_lr")
        require_at_least(0, self, "ranker_training", "weight_decay")


@dataclass(frozen=True, slots=True)
class RankingEpoch:
    """One pass over the training log.

    Attributes:
        loss: mean cross-entropy of its minibatches, nats a label.
        held_out: task -> score on the held-out log afterwards.
    """

    loss: float
    held_out: Mapping[str, TaskScore]


@dataclass(frozen=True, slots=True)
class RankingReport:
    """What training achieved.

    Attributes:
        history: every epoch.
        best_epoch: whose weights the model has, from 1.
    """

    history: tuple[RankingEpoch, ...]
    best_epoch: int

    @property
    def best(self) -> RankingEpoch:
        """The epoch whose weights the model has."""
        return self.history[self.best_epoch - 1]


def train_ranker(
    ranker: Ranker,
    encoder: Encoder,
    train: ClickLog,
    held_out: ClickLog,
    config: RankerTrainingConfig | None = None,
    *,
    seed: int = 0,
) -> RankingReport:
    """Train a ranking model; at the end it has the weights of its best epoch, in evaluation mode.

    Where torchrun started several processes (`lhuc_asr.training.processes.distributed.joined`) and the tables are
    divided among them, all call this with the same arguments, and the run follows that of one process up to rounding.

    Args:
        ranker: its weights are where training begins.
        encoder: with which it was made.
        train: what it learns.
        held_out: impressions that are only judged.
        config: how to learn.
        seed: of the order of impressions.

    Raises:
        DataError: a log has other columns or nothing to learn or to judge, or the objective ceased to be finite.
    """
    run = _Run(ranker, encoder, train, held_out, config or RankerTrainingConfig(), seed)
    while not run.is_finished:
        run.next_epoch()
    return run.finish()


class _Run:
    """Model, optimisers and what was best so far."""

    def __init__(
        self,
        ranker: Ranker,
        encoder: Encoder,
        train: ClickLog,
        held_out: ClickLog,
        config: RankerTrainingConfig,
        seed: int,
    ) -> None:
        self.ranker, self.held_out, self.config, self.seed = ranker, held_out, config, seed
        self.impressions, self.judged = encoder.encode(train), encoder.encode(held_out)
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Adagrad(ranker.tables(), lr=config.table_lr),
            torch.optim.AdamW(ranker.weights(), lr=config.lr, weight_decay=config.weight_decay),
        ]
        self.history: list[RankingEpoch] = []
        self.best_epoch, self.best_gain, self.best = 0, -math.inf, self._weights()

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are over, or too many went by without gain."""
        epoch = len(self.history)
        return epoch >= self.config.max_epochs or epoch - self.best_epoch >= self.config.patience

    def next_epoch(self) -> None:
        """Learn, judge, and remember the weights if they are the best."""
        loss = self._learn(len(self.history) + 1)
        scores = judge(self.ranker, self.judged, self.held_out)
        self.history.append(RankingEpoch(loss, scores))
        gain = _gain(scores, self.config.measure)
        logger.info(
            "epoch %d: loss %.4f, held-out %s %.4f", len(self.history), loss, self.config.measure.name, abs(gain)
        )
        if gain > self.best_gain:
            self.best_epoch, self.best_gain, self.best = len(self.history), gain, self._weights()

    def finish(self) -> RankingReport:
        """Give the model its best weights."""
        self.ranker.load_state_dict(self.best)
        self.ranker.eval()
        return RankingReport(tuple(self.history), self.best_epoch)

    def _learn(self, epoch: int) -> float:
        self.ranker.train()
        total = torch.zeros(())
        for rows in self._minibatches(epoch):
            total += self._step(rows) * len(rows)
        add_up(total)
        loss = float(total) / len(self.impressions)
        if not math.isfinite(loss):
            raise DataError(
                f"the objective is {loss} in epoch {epoch}: choose a smaller ranker_training.lr or table_lr"
            )
        return loss

    def _minibatches(self, epoch: int) -> Iterator[Tensor]:
        order = torch.randperm(len(self.impressions), generator=generator(self.seed, Purpose.order, epoch))
        return iter(order.split(self.config.batch_size))  # type: ignore[no-untyped-call]

    def _step(self, rows: Tensor) -> Tensor:
        """One step; this process's part of the loss."""
        own, weights_B = share_of_rows(rows, own_share())
        device = next(iter(self.ranker.weights())).device
        batch = self.impressions.at(own).to(device)
        loss = mean_cross_entropy(self.ranker(batch), batch, weights_B.to(device), num_impressions=len(rows))
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for weight in self.ranker.weights():
            if weight.grad is not None:
                add_up(weight.grad)
        with torch.sparse.check_sparse_tensor_invariants(False):  # type: ignore[no-untyped-call]
            for optimiser in self.optimisers:
                optimiser.step()
        return loss.detach().cpu()

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.ranker.state_dict().items()}


def mean_cross_entropy(logits_BT: Tensor, batch: Impressions, weights_B: Tensor, *, num_impressions: int) -> Tensor:
    """() binary cross-entropy, the mean over tasks and over the impressions of a minibatch of which this is a share."""
    losses_BT = binary_cross_entropy_with_logits(logits_BT, batch.labels_NT, reduction="none")
    return (losses_BT.mean(dim=1) * weights_B).sum() / num_impressions


def _gain(scores: Mapping[str, TaskScore], measure: Measure) -> float:
    """The mean over tasks, such that more is better."""
    if measure is Measure.log_loss:
        return -sum(score.log_loss for score in scores.values()) / len(scores)
    values = [score.auc if measure is Measure.auc else score.gauc.value for score in scores.values()]
    if not math.isfinite(mean := sum(values) / len(values)):
        raise DataError(
            f"ranker_training.measure={measure.name} cannot be taken on the held-out log: a task has one label only"
            f"{' within every user' if measure is Measure.gauc else ''}; log_loss always can"
        )
    return mean
