"""What a ranking model is worth on a log: order, order within users, probabilities; task by task and by domain.

Shape suffixes: N impressions, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.errors import DataError
from lhuc_asr.ranking.encoding import Encoder, Impressions
from lhuc_asr.ranking.metrics import (
    GroupedAuc,
    auc,
    expected_calibration_error,
    grouped_auc,
    log_loss,
    predicted_over_observed,
)
from lhuc_asr.ranking.ranker import Ranker
from lhuc_asr.ranking.schema import ClickLog
from lhuc_asr.training.processes.distributed import add_up, own_share
from lhuc_asr.training.processes.shares import ALL, Share

_BATCH = 8192


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One task's probabilities against what happened.

    Attributes:
        num_impressions: impressions that were judged.
        auc: over all of them.
        gauc: within users.
        log_loss: nats an impression.
        predicted_over_observed: above 1, too much was promised.
        calibration_error: distance of promised and observed rates.
    """

    num_impressions: int
    auc: float
    gauc: GroupedAuc
    log_loss: float
    predicted_over_observed: float
    calibration_error: float

    @staticmethod
    def of(probabilities: NDArray[np.float32], log: ClickLog, task: str) -> TaskScore:
        """Judge (N,) probabilities of a task."""
        labels = log.labels[task]
        return TaskScore(
            num_impressions=len(log),
            auc=auc(probabilities, labels),
            gauc=grouped_auc(probabilities, labels, log.user_id),
            log_loss=log_loss(probabilities, labels),
            predicted_over_observed=predicted_over_observed(probabilities, labels),
            calibration_error=expected_calibration_error(probabilities, labels),
        )


def evaluate(ranker: Ranker, encoder: Encoder, log: ClickLog) -> dict[str, TaskScore]:
    """Task -> how well the ranker does.

    Raises:
        DataError: the log is empty or has other columns than the ranker was made for.
    """
    return judge(ranker, encoder.encode(log), log)


def judge(ranker: Ranker, impressions: Impressions, log: ClickLog) -> dict[str, TaskScore]:
    """Task -> how well the ranker does on a log that has been encoded before.

    Raises:
        DataError: the log is empty.
    """
    if not len(log):
        raise DataError("the log to be judged has no impressions")
    return score_tasks(probabilities(ranker, impressions), ranker.tasks, log)


def score_tasks(chances_NT: NDArray[np.float32], tasks: Sequence[str], log: ClickLog) -> dict[str, TaskScore]:
    """Task -> how good (N, T) probabilities are."""
    return {task: TaskScore.of(chances_NT[:, t], log, task) for t, task in enumerate(tasks)}


def evaluate_domains(
    ranker: Ranker, encoder: Encoder, log: ClickLog, domains: Iterable[int] | None = None
) -> dict[int, dict[str, TaskScore]]:
    """Domain -> task -> how well the ranker does there.

    Args:
        ranker: the model.
        encoder: with which it was made.
        log: impressions of several domains.
        domains: which of them; None is all that the log has.

    Raises:
        DataError: a domain has no impressions.
    """
    found = np.unique(log.domain).tolist()
    for domain in (asked := list(found if domains is None else domains)):
        if domain not in found:
            raise DataError(f"domain {domain} has no impressions; the log has those of {', '.join(map(str, found))}")
    return {domain: evaluate(ranker, encoder, log.rows(log.domain == domain)) for domain in asked}


@torch.no_grad()
def probabilities(ranker: Ranker, impressions: Impressions) -> NDArray[np.float32]:
    """(N, T) chances of the labels; several processes divide the work, and all get all."""
    was_training, device = ranker.training, next(iter(ranker.weights())).device
    ranker.eval()
    chances_NT = torch.zeros(impressions.labels_NT.shape)
    for begin in range(0, len(impressions), _BATCH):
        rows, weights = share_of_rows(torch.arange(begin, min(begin + _BATCH, len(impressions))), own_share())
        found = ranker(impressions.at(rows).to(device)).sigmoid().cpu()
        chances_NT[rows[weights > 0]] = found[weights > 0]
    ranker.train(was_training)
    add_up(chances_NT)
    return chances_NT.numpy()


def share_of_rows(rows_N: Tensor, share: Share) -> tuple[Tensor, Tensor]:
    """What a process takes of a minibatch: equally many rows each, some of them for the number only.

    Returns:
        Rows, and weights that are 1, or 0 for a row that only fills up the share.

    Example:
        >>> share_of_rows(torch.tensor([4, 8, 6]), Share(1, 2))
        (tensor([8, 4]), tensor([1., 0.]))
    """
    if share == ALL:
        return rows_N, torch.ones(len(rows_N))
    each = -(-len(rows_N) // share.of)
    own = rows_N[share.number :: share.of]
    fill = rows_N[:1].expand(each - len(own))
    return torch.cat([own, fill]), torch.cat([torch.ones(len(own)), torch.zeros(len(fill))])
