"""Stores of both kinds."""

from __future__ import annotations

import pytest

from helpers.stored import KINDS, new_store


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    """An empty store."""
    made = new_store(tmp_path, request.param)
    yield made
    made.close()
