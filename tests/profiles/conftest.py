"""Stores of both kinds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from stored import KINDS, new_store


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    """An empty store."""
    made = new_store(tmp_path, request.param)
    yield made
    made.close()
