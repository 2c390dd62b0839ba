"""The calibration in a model directory: sealed, bound to its model, and honest about other conditions."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lhuc_asr.decoding.calibration import Calibration
from lhuc_asr.decoding.lattices.reading import HypothesisKind
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.errors import ModelError
from lhuc_asr.system.calibrated import ModelCalibration, calibration_path, read_calibration, write_calibration
from lhuc_asr.system.settings import to_plain

FITTED = ModelCalibration(
    calibration=Calibration(0.4, -0.1, 382),
    decoding=to_plain(DecodingConfig()),
    speech={"num_speakers": 12},
    figures={"before": {"normalised_cross_entropy": None}},
)


@pytest.fixture
def system(tmp_path: Path) -> Any:
    (tmp_path / "model.json").write_text("{}")
    return SimpleNamespace(directory=tmp_path, fingerprint="f" * 64, decoding=DecodingConfig())


def test_round_trip(system: Any) -> None:
    assert read_calibration(system) is None
    assert write_calibration(system, FITTED) == calibration_path(system.directory)
    assert read_calibration(system) == FITTED


def test_another_model_in_the_same_directory_has_none(system: Any, caplog: pytest.LogCaptureFixture) -> None:
    write_calibration(system, FITTED)
    (system.directory / "model.json").write_text('{"other": 1}')
    with caplog.at_level(logging.WARNING):
        assert read_calibration(system) is None
    assert "was fitted for another model and is not used" in caplog.text


def test_an_altered_or_newer_file_is_refused(system: Any) -> None:
    path = write_calibration(system, FITTED)
    text = path.read_text()
    path.write_text(text.replace("0.4", "0.5"))
    with pytest.raises(ModelError, match="was altered"):
        read_calibration(system)
    path.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(ModelError, match="version 2"):
        read_calibration(system)


def test_other_conditions_are_named(system: Any) -> None:
    assert FITTED.differences(system) == []
    system.decoding = replace(system.decoding, hypothesis=HypothesisKind.mbr, acoustic_scale=0.2)
    assert FITTED.differences(system) == [
        "decoding.acoustic_scale was 0.1, not 0.2",
        "decoding.hypothesis was one_best, not mbr",
    ]
    (text,) = replace(FITTED, decoding={}).differences(system, language_model="abc")
    assert "another language model" in text
