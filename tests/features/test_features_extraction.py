"""Features are extracted once, again when anything changed, and equally by any number of workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lhuc_asr.errors import AudioError, DataError
from lhuc_asr.features.cmvn import CmvnMode
from lhuc_asr.features.extraction import extract
from lhuc_asr.features.fbank import FbankConfig
from lhuc_asr.features.pipeline import FeatureConfig, compute_feats
from lhuc_asr.features.store import FeatureStore

IDS = ["anna-1", "anna-2", "bo 1"]
Reader = Callable[[str], NDArray[np.float32]]


def speech(utterance: str) -> NDArray[np.float32]:
    generator = np.random.default_rng(len(utterance) + sum(map(ord, utterance)))
    return (0.1 * generator.standard_normal(1600 + 10 * len(utterance))).astype(np.float32)


class Counting:
    """Reads made-up speech and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, utterance: str) -> NDArray[np.float32]:
        self.count += 1
        return speech(utterance)


def run(
    directory: Path, read: Reader, ids: list[str] = IDS, config: FeatureConfig | None = None, **keys: Any
) -> FeatureStore:
    arguments = {"source_key": "version 1", "num_jobs": 1, **keys}
    return extract(ids, read, config or FeatureConfig(), directory, **arguments)


def test_stored_features_are_those_of_the_waveform(tmp_path: Path) -> None:
    config = FeatureConfig(delta_order=2)
    store = run(tmp_path, speech, config=config)
    assert list(store) == IDS
    for utterance in IDS:
        np.testing.assert_array_equal(store[utterance], compute_feats(speech(utterance), config))
    description = json.loads((tmp_path / "features.json").read_text())
    assert description["dim"] == 120 and description["num_utterances"] == 3
    assert description["settings"]["kind"] == "fbank" and description["num_frames"] == store.total_frames


def test_two_workers_store_the_same_bytes(tmp_path: Path) -> None:
    ids = [f"u{index}" for index in range(12)]
    for num_jobs in (1, 2):
        run(tmp_path / str(num_jobs), speech, ids, num_jobs=num_jobs)
    for name in ("feats.ark", "feats.scp", "features.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    read = Counting()
    run(tmp_path, read)
    before = (tmp_path / "feats.ark").stat().st_mtime_ns
    run(tmp_path, read)
    run(tmp_path, read, config=FeatureConfig(cmvn=CmvnMode.none))
    assert read.count == 3 and (tmp_path / "feats.ark").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "change",
    [
        {"ids": IDS[:2]},
        {"ids": IDS[::-1]},
        {"config": FeatureConfig(fbank=FbankConfig(num_mel_bins=23))},
        {"config": FeatureConfig(delta_order=1)},
        {"source_key": "version 2"},
    ],
)
def test_any_change_is_extracted_again(tmp_path: Path, change: dict[str, Any]) -> None:
    read = Counting()
    run(tmp_path, read)
    store = run(tmp_path, read, **change)
    assert read.count == 3 + len(change.get("ids", IDS))
    assert list(store) == change.get("ids", IDS)
    assert store["anna-1"].shape[1] == change.get("config", FeatureConfig()).dim


@pytest.mark.parametrize("name", ["feats.ark", "feats.scp", "utt2num_frames", "features.json"])
def test_damaged_files_are_made_again(tmp_path: Path, name: str) -> None:
    read = Counting()
    run(tmp_path, read)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    run(tmp_path, read)
    assert read.count == 6 and (tmp_path / name).read_bytes() == whole


@pytest.mark.parametrize("num_jobs", [1, 2])
@pytest.mark.parametrize("bad", [np.zeros(0, np.float32), np.zeros(300, np.float32), np.full(1600, np.nan, np.float32)])
def test_an_unusable_utterance_is_named(tmp_path: Path, num_jobs: int, bad: NDArray[np.float32]) -> None:
    def read(utterance: str) -> NDArray[np.float32]:
        return bad if utterance == "anna-2" else speech(utterance)

    with pytest.raises(DataError, match=r"utterance 'anna-2': .*(too short|not finite)"):
        run(tmp_path, read, num_jobs=num_jobs)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_is_not_taken_for_done(tmp_path: Path) -> None:
    run(tmp_path, speech)

    def interrupted(utterance: str) -> NDArray[np.float32]:
        if utterance == "bo 1":
            raise KeyboardInterrupt
        return speech(utterance)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupted, source_key="version 2")
    read = Counting()
    run(tmp_path, read, source_key="version 2")
    assert read.count == 3 and not list(tmp_path.glob(".*"))


def test_what_the_reader_says_is_passed_on(tmp_path: Path) -> None:
    def unreadable(utterance: str) -> NDArray[np.float32]:
        raise AudioError(f"{utterance}.wav is no sound file")

    with pytest.raises(AudioError, match=r"anna-1\.wav is no sound file"):
        run(tmp_path, unreadable, num_jobs=2)


def test_nothing_to_extract_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no utterances"):
        run(tmp_path, speech, [])
