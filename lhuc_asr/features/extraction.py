"""Extract the features of a corpus once, on all cores, into a store."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.features.pipeline import FeatureConfig, compute_feats
from lhuc_asr.features.store import FeatureStore, write_store
from lhuc_asr.files import read_json, write_json
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.progress import track

DESCRIPTION = "features.json"
FORMAT = 1
_LOG = logging.getLogger(__name__)


def extract(
    utterance_ids: Sequence[str],
    read_samples: Callable[[str], NDArray[np.float32]],
    config: FeatureConfig,
    directory: Path,
    *,
    source_key: str,
    num_jobs: int = 1,
) -> FeatureStore:
    """Compute and store the features of all utterances, unless that was done before.

    What was computed is described in ``features.json`` beside the features. The same settings, utterances and sources
    mean that nothing is done; any difference means that all is done again. A run that is interrupted leaves nothing
    that looks finished.

    Args:
        utterance_ids: in the order in which they are to be stored.
        read_samples: utterance id -> (N,) waveform in [-1, 1] at ``config.sampling_rate``; called in the workers.
        config: what to compute. Normalisation is not part of it: it happens when the features are read.
        directory: where to store; may be moved later.
        source_key: any text that changes when the audio does, for example all paths and segments.
        num_jobs: processes.

    Raises:
        DataError: an utterance is shorter than a frame or not finite, or there is none; the text names it.
        AudioError: a recording cannot be read.
    """
    return extract_by(
        lambda utterance: compute_feats(read_samples(utterance), config),
        utterance_ids,
        config,
        directory,
        source_key=source_key,
        num_jobs=num_jobs,
    )


def extract_by(
    compute: Callable[[str], NDArray[np.float32]],
    utterance_ids: Sequence[str],
    config: FeatureConfig,
    directory: Path,
    *,
    source_key: str,
    num_jobs: int = 1,
) -> FeatureStore:
    """`extract`, for features that are more than a function of a waveform and settings.

    Args:
        compute: utterance id -> (T, config.dim) features before normalisation; called in the workers.
        utterance_ids: in the order in which they are to be stored.
        config: the settings, for the description.
        directory: where to store; may be moved later.
        source_key: any text that changes when anything else does that ``compute`` depends on.
        num_jobs: processes.

    Raises:
        DataError: an utterance cannot be computed, or there is none; the text names it.
        AudioError: a recording cannot be read.
    """
    if not utterance_ids:
        raise DataError(f"there are no utterances to extract features from for {str(directory)!r}")
    description = _describe(utterance_ids, config, source_key)
    if _is_done(directory, description):
        _LOG.info("the features in %s are up to date", directory)
        return FeatureStore(directory)

    def feats_of(utterance: str) -> tuple[str, NDArray[np.float32]]:
        try:
            return utterance, compute(utterance)
        except DataError as error:
            raise DataError(f"utterance {utterance!r}: {error}") from error

    (directory / DESCRIPTION).unlink(missing_ok=True)
    results: Iterator[tuple[str, NDArray[np.float32]]] = map_in_processes(feats_of, utterance_ids, num_jobs=num_jobs)
    store = write_store(directory, track(results, "features", total=len(utterance_ids)))
    write_json(directory / DESCRIPTION, {**description, **_contents(store), "dim": config.dim})
    return store


def _is_done(directory: Path, description: dict[str, Any]) -> bool:
    try:
        found = read_json(directory / DESCRIPTION)
        return bool(found == {**found, **description, **_contents(FeatureStore(directory))})
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _contents(store: FeatureStore) -> dict[str, int]:
    return {"num_frames": store.total_frames, "archive_bytes": store.archive_bytes}


def _describe(utterance_ids: Sequence[str], config: FeatureConfig, source_key: str) -> dict[str, Any]:
    """What decides the stored numbers, as JSON; the mode of normalisation does not."""
    settings = json.loads(json.dumps(asdict(config), default=_name))
    del settings["cmvn"]
    return {
        "format": FORMAT,
        "settings": settings,
        "num_utterances": len(utterance_ids),
        "utterances_sha256": _sha256("\n".join(utterance_ids)),
        "sources_sha256": _sha256(source_key),
    }


def _name(value: object) -> str:
    if isinstance(value, Enum):
        return value.name
    raise TypeError(f"{value!r} cannot be described in JSON")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
