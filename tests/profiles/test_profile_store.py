"""What a store promises, whether it is a folder or an SQLite file."""

import errno
import json
import os
import random
import sqlite3
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.stored import FINGERPRINT, KINDS, bytes_of, new_store, profile, value_of
from lhuc_asr.adaptation.passes.known_profiles import KnownProfiles
from lhuc_asr.errors import ProfileError, SpeakerError
from lhuc_asr.profiles import store as module
from lhuc_asr.profiles.folder_store import FolderBackend
from lhuc_asr.profiles.format import encode, load_profile, profile_path, save_profile
from lhuc_asr.profiles.store import ProfileStore

ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["../../x", ".", "..", "", "\0", "%", "%7E", "x" * 300, "x" * 300 + "y", "versions", "CON", "a.json", ".locks"]
)


def test_what_was_put_comes_back(store):
    saved = profile(supervision="one_best", guard={"keep": True}, objective_before=2.5, dtype="float16")
    assert store.put(saved) == 1
    found = store.get("0024")
    assert found.sha256 == saved.sha256 and "0024" in store and "0025" not in store
    same = ("supervision", "guard", "objective_before", "seconds", "dtype", "created", "layouts")
    assert all(getattr(found, name) == getattr(saved, name) for name in same)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.tuples(ids, st.integers(0, 9)), max_size=8))
def test_any_id_works_in_both_kinds_and_gives_the_same(puts):
    with tempfile.TemporaryDirectory() as name:
        stores = [new_store(Path(name), kind) for kind in KINDS]
        numbers = [[store.put(profile(who, value)) for who, value in puts] for store in stores]
        assert numbers[0] == numbers[1]
        last = dict(puts)
        for store in stores:
            assert store.speakers() == sorted(last)
            for who, value in last.items():
                given_to = [value for other, value in puts if other == who]
                assert value_of(store.get(who)) == value and store.get(who).speaker == who
                assert [value_of(store.get(who, number + 1)) for number in range(len(given_to))] == given_to
            for who in list(last)[::2]:
                store.delete(who)
            assert store.speakers() == sorted(list(last)[1::2])
            store.close()
        assert {path.name for path in Path(name).iterdir()} == set(KINDS)


def test_versions_and_rollback(store):
    assert [store.put(profile(value=value)) for value in (1, 2, 3)] == [1, 2, 3]
    store.rollback("0024", to=1)
    assert value_of(store.get("0024")) == 1 and [value_of(store.get("0024", number)) for number in (1, 2, 3)] == [
        1,
        2,
        3,
    ]
    assert [(version.number, version.is_current) for version in store.versions("0024")] == [
        (1, True),
        (2, False),
        (3, False),
    ]
    store.rollback("0024", to=1)
    store.rollback("0024", to=3)
    assert value_of(store.get("0024")) == 3
    store.rollback("0024", to=2)
    assert store.put(profile(value=4)) == 4
    assert value_of(store.get("0024")) == 4 and store.numbers("0024").all == (1, 2, 3, 4)
    assert [version.sha256 for version in store.versions("0024")] == [
        store.get("0024", number).sha256 for number in (1, 2, 3, 4)
    ]


def test_diff_between_versions(store):
    for value in (0.0, 0.0, 1.0):
        store.put(profile(value=value))
    assert all(site.max_change == 0 for site in store.diff("0024", 1, 2).values())
    changed = store.diff("0024", 1)
    assert [site.num_units for site in changed.values()] == [5, 3]
    assert all(site.max_change == pytest.approx(1.718281828) and site.share_moved == 1 for site in changed.values())


def test_unknown_speakers_and_versions_are_told(store):
    for name in ("0024", "0025", "José"):
        store.put(profile(name))
    asks = [store.get, store.versions, store.delete, store.numbers]
    asks += [lambda who: store.rollback(who, to=1), lambda who: store.diff(who, 1)]
    for ask in asks:
        with pytest.raises(SpeakerError, match=r"no speaker 'Jose' among the 3 of '.*'; nearest: 'José'"):
            ask("Jose")
    for ask in (lambda: store.get("0024", 2), lambda: store.rollback("0024", to=2), lambda: store.diff("0024", 1, 2)):
        with pytest.raises(ProfileError, match="'0024' has no version 2; it has 1"):
            ask()


def test_the_nearest_of_very_many_are_found_quickly(store, monkeypatch):
    monkeypatch.setattr(module, "_MANY", 3)
    for number in range(20):
        store.put(profile(f"speaker-{number:02}"))
    with pytest.raises(SpeakerError, match=r"among the 20 of .*nearest: .*'speaker-13'"):
        store.get("speaker13")


def test_profiles_of_another_model_are_refused(tmp_path, store):
    store.put(profile())
    store.close()
    told = ProfileStore.open(store.path, fingerprint="0" * 64)
    refused = r"'0024'.* was learnt for model ffffffffffff, this model is 000000000000"
    with pytest.raises(ProfileError, match=refused):
        told.get("0024")
    with pytest.raises(ProfileError, match=refused):
        told.put(profile())
    assert told.numbers("0024").all == (1,)
    assert ProfileStore.open(store.path, fingerprint=FINGERPRINT).get("0024").sha256 == profile().sha256


def test_ids_that_are_no_text_are_refused(store):
    with pytest.raises(SpeakerError, match="is not valid Unicode"):
        store.put(profile("\udc80"))


@pytest.mark.parametrize("name", ["none", "none.sqlite"])
def test_a_store_that_is_not_there_is_not_made_by_chance(tmp_path, name):
    with pytest.raises(ProfileError, match=f"there is no profile store '.*{name}'"):
        ProfileStore.open(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.sqlite").write_text("no database" * 100)
    with pytest.raises(ProfileError, match="should be a folder, but it is a file"):
        ProfileStore.open(tmp_path / "file")
    with pytest.raises(ProfileError, match="should be an SQLite file, but it is a folder"):
        ProfileStore.open(tmp_path / "folder.db")
    with pytest.raises(ProfileError, match="cannot be used: file is not a database"):
        ProfileStore.open(tmp_path / "text.sqlite")
    for path, pragma, said in (
        (tmp_path / "other.sqlite", "user_version = 3", "is a database, but not one of profiles"),
        (new_store(tmp_path, "newer.sqlite").path, "user_version = 99", "has format 99; this version reads up to 1"),
    ):
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA {pragma}")
        connection.close()
        with pytest.raises(ProfileError, match=said):
            ProfileStore.open(path)


def test_deleting_leaves_no_byte_behind(tmp_path, store):
    """Among many others, in an order that makes a database rearrange its pages.

    Plain DELETE with SQLite's secure_delete fails here: ids remain on pages from which rows were moved away.
    """
    count = 30 if store.path.is_dir() else 200
    rng = random.Random(200)
    names = [f"speaker<{rng.getrandbits(64):016x}>{'y' * rng.choice([0, 0, 50])}" for _ in range(count)]
    made = {who: [profile(who, r={"a": torch.rand(5)}) for _ in range(4)] for who in names}
    for version in range(4):
        for who in rng.sample(names, len(names)):
            store.put(made[who][version])
    order = rng.sample(names, len(names))
    deleted, kept = order[: count * 3 // 4], order[count * 3 // 4 :]
    for number, who in enumerate(deleted):
        store.delete(who)
        if number % 20 == 0 or number == len(deleted) - 1:
            left = bytes_of(tmp_path)
            for gone in deleted[: number + 1]:
                assert gone.partition("<")[2].partition(">")[0].encode() not in left
                assert not any(_parameters(version) in left for version in made[gone])
    assert kept[0].partition("<")[2].partition(">")[0].encode() in left and _parameters(made[kept[0]][3]) in left
    assert store.speakers() == sorted(kept)
    assert all(store.get(who, 2).sha256 == made[who][1].sha256 for who in kept)


def _parameters(made):
    return made.r["a"].numpy().tobytes()


def test_a_database_of_deleted_speakers_shrinks(tmp_path):
    store = new_store(tmp_path, "profiles.sqlite")
    for number in range(60):
        store.put(profile(str(number)))
    full = store.backend.size_bytes()
    for number in range(50):
        store.delete(str(number))
    assert store.backend.size_bytes() < full / 2
    assert store.speakers() == [str(number) for number in range(50, 60)]
    assert store.put(profile("0")) == 1 and value_of(store.get("59")) == 0.5


def test_deleting_while_another_process_reads_says_what_remains(tmp_path, monkeypatch):
    monkeypatch.setattr("lhuc_asr.profiles.sqlite_store._PATIENCE", 0.1)
    store = new_store(tmp_path, "profiles.sqlite")
    store.put(profile())
    store.put(profile("other"))
    reader = sqlite3.connect(store.path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM speakers").fetchall()
    with pytest.raises(ProfileError, match="'0024' is deleted, but another process holds"):
        store.delete("0024")
    reader.close()
    assert store.speakers() == ["other"]
    with pytest.raises(SpeakerError):
        store.delete("0024")
    assert b"0024" not in bytes_of(tmp_path)


def test_a_speaker_who_comes_back_begins_anew(store):
    store.put(profile(value=1))
    store.put(profile(value=2))
    store.delete("0024")
    assert store.put(profile(value=3)) == 1
    assert store.numbers("0024").all == (1,) and value_of(store.get("0024")) == 3


def test_a_folder_of_lhuc_adapt_is_a_store_and_lhuc_decode_reads_the_current_version(tmp_path):
    for who in ("0024", "../x"):
        save_profile(profile(who, 1), tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    store = ProfileStore.open(tmp_path)
    assert store.speakers() == ["../x", "0024"] and store.numbers("0024").all == (1,)
    assert [(version.number, version.is_current) for version in store.versions("0024")] == [(1, True)]
    assert {path.name for path in tmp_path.iterdir()} == before
    assert store.put(profile("0024", 2)) == 2
    folder = KnownProfiles.open(tmp_path, ("0024", "../x"), fingerprint=FINGERPRINT)
    assert {who: value_of(found) for who, found in folder.profiles.items()} == {"0024": 2, "../x": 1}
    store.rollback("0024", to=1)
    assert value_of(load_profile(profile_path(tmp_path, "0024"), fingerprint=FINGERPRINT)) == 1
    assert value_of(store.get("0024", 2)) == 2
    assert before < {path.name for path in tmp_path.iterdir()}


def test_what_lhuc_adapt_writes_into_a_store_is_a_version_of_its_own(tmp_path):
    store = new_store(tmp_path, "profiles")
    for value in (1, 2):
        store.put(profile(value=value))
    FolderBackend(store.path).take("0024", encode(profile(value=9)))
    assert store.numbers("0024").current == 3 and value_of(store.get("0024")) == 9
    assert store.put(profile(value=3)) == 4
    assert [value_of(store.get("0024", number)) for number in (1, 2, 3, 4)] == [1, 2, 9, 3]


def test_what_lhuc_adapt_learns_anew_leaves_what_it_had_written_as_an_earlier_version(tmp_path):
    store = new_store(tmp_path, "profiles")
    for value in (8, 9):
        FolderBackend(store.path).take("0024", encode(profile(value=value)))
    assert [value_of(store.get("0024", number)) for number in (1, 2)] == [8, 9]
    assert store.numbers("0024").current == 2


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_what_lhuc_adapt_learns_anew_takes_the_place_of_what_is_damaged(tmp_path, suffix):
    store = new_store(tmp_path, "profiles")
    for value in (8, 9):
        FolderBackend(store.path).take("0024", encode(profile(value=value)))
    profile_path(store.path, "0024").with_suffix(suffix).write_text("{")
    FolderBackend(store.path).take("0024", encode(profile(value=7)))
    assert value_of(store.get("0024")) == 7


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_damaged_profile_is_told_and_harms_nobody_else(tmp_path, suffix):
    store = new_store(tmp_path, "profiles")
    for who in ("0024", "0025"):
        store.put(profile(who))
    path = profile_path(store.path, "0024").with_suffix(suffix)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ProfileError, match=r"0024.* damaged"):
        store.get("0024")
    if suffix == ".json":
        with pytest.raises(ProfileError, match=r"0024\.json is damaged"):
            store.put(profile("0024"))
    else:
        assert store.put(profile("0024", 2)) == 2 and value_of(store.get("0024")) == 2
        with pytest.raises(ProfileError, match="is damaged or of another profile"):
            store.get("0024", 1)
    assert store.speakers() == ["0024", "0025"] and value_of(store.get("0025")) == 0.5
    store.delete("0024")
    assert store.put(profile("0024")) == 1


def test_other_files_in_the_folder_are_no_speakers(tmp_path):
    store = new_store(tmp_path, "profiles")
    store.put(profile())
    (store.path / "notes.json").write_text(json.dumps({}))
    (store.path / "other.safetensors").write_bytes(b"")
    (store.path / "README.txt").write_text("x")
    assert store.speakers() == ["0024"]


def test_a_full_disk_leaves_the_current_version(tmp_path, monkeypatch):
    store = new_store(tmp_path, "profiles")
    store.put(profile(value=1))

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            store.put(profile(value=2))
    assert value_of(store.get("0024")) == 1 and store.numbers("0024").all == (1,)
    assert store.put(profile(value=3)) == 2


def test_threads_and_forked_processes_share_a_store(store):
    store.put(profile("0"))

    def put(number):
        for _ in range(5):
            store.put(profile(str(number)))
            assert "0" in store

    threads = [threading.Thread(target=put, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    child = os.fork()
    if child == 0:
        os._exit(0 if store.put(profile("0")) == 2 and len(store.speakers()) == 5 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.numbers("0").all == (1, 2)
    assert all(store.numbers(str(number)).all == (1, 2, 3, 4, 5) for number in range(1, 5))


def test_lhuc_decode_reads_sqlite_too(tmp_path):
    store = ProfileStore.open(tmp_path / "all.sqlite", create=True)
    store.put(profile("0024", 2))
    store.close()
    known = KnownProfiles.open(tmp_path / "all.sqlite", ("0024", "0025"), fingerprint=FINGERPRINT)
    assert {who: value_of(found) for who, found in known.profiles.items()} == {"0024": 2}
