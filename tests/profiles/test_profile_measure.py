"""The figures of a store are there, and of both kinds."""

import json

import pytest

from helpers.stored import KINDS
from lhuc_asr.profiles.measure import measure_store


@pytest.mark.parametrize("kind", KINDS)
def test_figures(tmp_path, kind):
    figures = measure_store(tmp_path / kind, num_profiles=30, num_layers=2, num_units=8, num_gets=20)
    assert json.loads(json.dumps(figures)) == figures
    assert (figures["num_profiles"], figures["profile_bytes"]) == (30, 32)
    assert all(value > 0 for value in figures.values())
    assert figures["get_ms_p50"] <= figures["get_ms_p99"] and figures["disk_bytes"] > 30 * 32
