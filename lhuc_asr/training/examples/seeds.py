"""One random stream for every purpose, epoch and minibatch, so that nothing random need be stored to resume."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a random stream is for; the numbers must not change, or a seed would mean something else."""

    order = 0
    dropout = 1
    augmentation = 2
    conditions = 3


def derive_seed(seed: int, purpose: Purpose, epoch: int, batch: int = 0) -> int:
    """A seed (63 bits) that depends on all its arguments and on nothing else."""
    state = np.random.SeedSequence([seed, int(purpose), epoch, batch]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, purpose: Purpose, epoch: int, batch: int = 0) -> torch.Generator:
    """A random stream that begins at ``derive_seed``."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch, batch))


def seed_device(device: torch.device, seed: int) -> None:
    """Begin the streams from which torch itself draws, on the CPU and on a device.

    The same streams as of ``torch.manual_seed``, which takes as long as a small layer: it writes down the stack for
    every kind of accelerator that is not in use.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed_all(seed)
