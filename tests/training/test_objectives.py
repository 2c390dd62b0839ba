"""The objective and the priors against values worked out independently."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from lhuc_asr.errors import DataError
from lhuc_asr.training.priors import log_state_priors
from lhuc_asr.training.tasks.objectives import frame_cross_entropy


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch(label_smoothing: float) -> None:
    logits, targets = torch.randn(20, 7), torch.randint(0, 7, (20,))
    ours = frame_cross_entropy(torch.log_softmax(logits, -1), targets, label_smoothing=label_smoothing)
    torch.testing.assert_close(ours, functional.cross_entropy(logits, targets, label_smoothing=label_smoothing))


def test_cross_entropy_by_hand() -> None:
    log_probs = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()
    assert float(frame_cross_entropy(log_probs, torch.tensor([0, 1]))) == pytest.approx(
        (math.log(2) + math.log(4 / 3)) / 2
    )


def test_frames_of_no_weight_do_not_count() -> None:
    log_probs = torch.log_softmax(torch.randn(4, 3), -1)
    targets = torch.tensor([0, 1, 2, 0])
    weighted = frame_cross_entropy(log_probs, targets, torch.tensor([2.0, 2.0, 0.0, 0.0]))
    torch.testing.assert_close(weighted, frame_cross_entropy(log_probs[:2], targets[:2]))


def test_priors_are_relative_frequencies_above_a_floor() -> None:
    log_prior = log_state_priors([np.array([0, 0, 1]), np.array([0])], 3)
    np.testing.assert_allclose(log_prior.exp(), [3 / 5, 1 / 5, 1 / 5], rtol=1e-6)


def test_priors_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        log_state_priors([], 3)
