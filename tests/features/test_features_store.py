"""Features on disk: whole or absent, under any id, for any number of readers."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.features.store import FeatureStore, write_store
from lhuc_asr.parallel import map_in_processes

AWKWARD_IDS = ["../../x", "a b", "12_3", "José", "a%20b", "1e3", ".", "feats.ark:7", "語"]


def made_up(ids: list[str], dim: int = 4) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal((3 + 2 * row, dim)).astype(np.float32) for row, name in enumerate(ids)}


def assert_equal(store: FeatureStore, feats: dict[str, NDArray[np.float32]]) -> None:
    assert list(store) == list(feats)
    for utterance, wanted in feats.items():
        found = store[utterance]
        assert found.dtype == np.float32 and found.flags.owndata and found.flags.writeable
        np.testing.assert_array_equal(found, wanted)
        assert store.num_frames(utterance) == len(wanted)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    feats = made_up(AWKWARD_IDS)
    store = write_store(tmp_path / "store, with: odd name", feats.items())
    assert_equal(store, feats)
    assert store.total_frames == sum(len(one) for one in feats.values())
    assert "a b" in store and "a" not in store
    assert_equal(FeatureStore(store.directory), feats)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4, unique=True))
def test_any_id_can_be_stored(tmp_path: Path, ids: list[str]) -> None:
    feats = made_up(ids)
    assert_equal(write_store(tmp_path, feats.items()), feats)


def test_a_store_can_be_moved_and_other_kaldi_readers_understand_it(tmp_path: Path) -> None:
    import kaldi_native_io

    feats = made_up(["u1", "u2"])
    write_store(tmp_path / "old", feats.items())
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert_equal(FeatureStore(tmp_path / "new"), feats)
    with kaldi_native_io.SequentialFloatMatrixReader(f"ark:{tmp_path / 'new' / 'feats.ark'}") as reader:
        for key, value in reader:
            np.testing.assert_array_equal(value, feats[key])


def test_forked_readers_share_a_store(tmp_path: Path) -> None:
    feats = made_up([f"u{index}" for index in range(20)])
    store = write_store(tmp_path, feats.items())
    assert store["u0"].shape == (3, 4)
    sums = list(map_in_processes(lambda name: float(store[name].sum()), list(feats) * 3, num_jobs=2))
    assert sums == [float(one.sum()) for one in feats.values()] * 3


def test_an_absent_store_and_an_incomplete_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no features in"):
        FeatureStore(tmp_path / "nothing")
    store = write_store(tmp_path, made_up(["u1"]).items())
    (tmp_path / "feats.ark").unlink()
    with pytest.raises(DataError, match="not complete"):
        FeatureStore(tmp_path)
    with pytest.raises(DataError, match="cannot read the features of 'u1'"):
        store["u1"]
    with pytest.raises(KeyError):
        store["u2"]


def test_a_failing_source_leaves_what_was_there(tmp_path: Path) -> None:
    feats = made_up(["u1", "u2"])
    write_store(tmp_path, feats.items())

    def failing() -> Iterator[tuple[str, NDArray[np.float32]]]:
        yield "u3", feats["u1"]
        raise DataError("utterance 'u4' is empty")

    with pytest.raises(DataError, match="u4"):
        write_store(tmp_path, failing())
    assert_equal(FeatureStore(tmp_path), feats)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["feats.ark", "feats.scp", "utt2num_frames"]


def _write_too_much(directory: str) -> str:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        write_store(Path(directory), ((f"u{index}", np.ones((100, 40), np.float32)) for index in range(20)))
    except OSError as error:
        return str(error)
    return "no error"


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk; in a process of its own, since it cannot be lifted."""
    (answer, _) = map_in_processes(_write_too_much, [str(tmp_path / "a"), str(tmp_path / "b")], num_jobs=2)
    assert "is the disk full?" in answer
    assert list((tmp_path / "a").iterdir()) == []
