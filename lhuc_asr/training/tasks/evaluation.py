"""How well a network predicts the tied states of frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.training.examples.frame_data import FrameData
from lhuc_asr.training.tasks.objectives import count_correct, frame_cross_entropy

_BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class FrameScore:
    """Mean over frames.

    Attributes:
        loss: cross-entropy, nats a frame.
        accuracy: share of frames whose most probable state is the aligned one, 0 to 1.
    """

    loss: float
    accuracy: float


@torch.no_grad()
def score_frames(network: AcousticNetwork, data: FrameData) -> FrameScore:
    """Cross-entropy and accuracy of a network in evaluation mode; the mode it was in comes back."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    loss, num_correct = 0.0, 0
    for windows, states, _ in data.in_order(_BATCH):
        log_probs, targets = network.forward_windows(windows.to(device)), states.to(device)
        loss += float(frame_cross_entropy(log_probs, targets)) * len(targets)
        num_correct += count_correct(log_probs, targets)
    network.train(was_training)
    return FrameScore(loss=loss / len(data), accuracy=num_correct / len(data))
