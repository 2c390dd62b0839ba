"""The calibration of a model's confidences, in the model directory beside its decoding settings.

calibration.json      the map, sealed, and what it was fitted on: which model, speech and decoding settings

Like the decoding settings it may change later, and is no part of the fingerprint.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lhuc_asr.data.manifest import Manifest
from lhuc_asr.decoding.calibration import Calibration
from lhuc_asr.errors import ModelError
from lhuc_asr.files import sha256
from lhuc_asr.system.corpus import source_key
from lhuc_asr.system.model_directory import AcousticSystem
from lhuc_asr.system.settings import canonical, from_plain, read_sealed, to_plain, write_sealed

VERSION = 1
_FILE, _MODEL = "calibration.json", "model.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelCalibration:
    """A calibration and what it was fitted on.

    Attributes:
        calibration: the map from word posteriors to chances of being right.
        decoding: settings of the search, as plain values.
        language_model: SHA-256 of the model that lattices were rescored with; empty where they were not.
        speech: which speech: a SHA-256 over audio and transcripts, numbers of utterances and speakers.
        figures: what the confidences were worth before and after, for people.
    """

    calibration: Calibration
    decoding: Mapping[str, Any]
    language_model: str = ""
    speech: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)

    def differences(self, system: AcousticSystem, *, language_model: str = "") -> list[str]:
        """What is not as it was when the calibration was fitted, one text each."""
        now = to_plain(system.decoding)
        texts = [
            f"decoding.{name} was {was}, not {now[name]}"
            for name, was in self.decoding.items()
            if name in now and now[name] != was
        ]
        if language_model != self.language_model:
            texts.append("lattices were rescored with another language model, or only one of them was")
        return texts


def speech_key(manifest: Manifest) -> dict[str, Any]:
    """Which speech a calibration was fitted on."""
    content = canonical([source_key(manifest), manifest.transcripts, manifest.speaker_of])
    return {
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "num_utterances": len(manifest),
        "num_speakers": len(manifest.speakers),
    }


def calibration_path(directory: Path) -> Path:
    """Where the calibration of a model directory lies."""
    return directory / _FILE


def write_calibration(system: AcousticSystem, fitted: ModelCalibration) -> Path:
    """Put a calibration into the model directory; the model stays what it is.

    Returns:
        The file.
    """
    path = calibration_path(system.directory)
    page = {
        "version": VERSION,
        "model": sha256(system.directory / _MODEL),
        "fingerprint": system.fingerprint,
        "calibration": asdict(fitted.calibration),
        "decoding": dict(fitted.decoding),
        "language_model": fitted.language_model,
        "speech": dict(fitted.speech),
        "figures": dict(fitted.figures),
    }
    write_sealed(path, page)
    return path


def read_calibration(system: AcousticSystem) -> ModelCalibration | None:
    """The calibration of a model.

    Returns:
        What was fitted, or None where nothing was, or for a model that was in the same directory before; that is told.

    Raises:
        ModelError: the file was altered, or is of a newer format.
    """
    path = calibration_path(system.directory)
    if not path.is_file():
        return None
    page = read_sealed(path, version=VERSION)
    if page.get("model") != sha256(system.directory / _MODEL):
        logger.warning("'%s' was fitted for another model and is not used; fit it again", path)
        return None
    try:
        return ModelCalibration(
            calibration=from_plain(Calibration, page["calibration"], source=str(path)),
            decoding=page["decoding"],
            language_model=page["language_model"],
            speech=page["speech"],
            figures=page["figures"],
        )
    except KeyError as error:
        raise ModelError(f"'{path}' holds no {error}; fit the calibration again") from error
