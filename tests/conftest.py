"""Settings of all tests: one thread, so that the tests run beside each other; deadlines off on busy machines; the same
random numbers for a test, whichever ran before it.

Hypothesis draws the same examples in every run; `pytest --hypothesis-profile=explore` draws new ones.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("lhuc_asr", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("explore", settings.get_profile("lhuc_asr"), derandomize=False)
settings.load_profile("lhuc_asr")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random numbers of torch and numpy for tests that draw them without a seed of their own."""
    torch.manual_seed(0)
    np.random.seed(0)
