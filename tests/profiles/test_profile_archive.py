"""Profiles carried from store to store in one file: all of them, or none."""

import json
import zipfile
from dataclasses import replace

import pytest

from helpers.stored import FINGERPRINT, KINDS, bytes_of, new_store, profile, value_of
from lhuc_asr.errors import ProfileError, SpeakerError
from lhuc_asr.profiles.archive import check_archive, export_archive, import_archive
from lhuc_asr.profiles.store import ProfileStore

WHO = ("0024", "../../x", "", "x" * 300, "José")
FIXED = "2026-01-02T03:04:05+00:00"


def fill(store):
    for who in WHO:
        for value in range(1, 4 if who == "0024" else 2):
            store.put(profile(who, value, created=FIXED, dtype="float16"))
    store.rollback("0024", to=2)
    return store


def state(store):
    return {
        who: [(version.number, version.is_current, version.sha256) for version in store.versions(who)]
        for who in store.speakers()
    }


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_everything_comes_back_and_equal_stores_give_equal_bytes(tmp_path, source, target):
    first = fill(new_store(tmp_path / "first", source))
    assert export_archive(first, tmp_path / "a.zip") == len(WHO)
    second = new_store(tmp_path / "second", target, fingerprint=FINGERPRINT)
    done = import_archive(second, tmp_path / "a.zip")
    assert set(done.added) == set(WHO) and done.unchanged == ()
    assert state(second) == state(first) and value_of(second.get("0024")) == 2
    assert export_archive(second, tmp_path / "b.zip") == len(WHO)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert import_archive(second, tmp_path / "a.zip").unchanged == tuple(sorted(WHO))
    assert second.put(profile("0024", 9)) == 4
    assert check_archive(tmp_path / "a.zip", fingerprint=FINGERPRINT) == len(WHO)


def test_some_speakers(tmp_path, store):
    fill(store)
    assert export_archive(store, tmp_path / "a.zip", ["José", "0024", "José"]) == 2
    other = new_store(tmp_path, "other.db")
    assert import_archive(other, tmp_path / "a.zip").added == ("0024", "José")
    with pytest.raises(SpeakerError, match="no speaker 'nobody'"):
        export_archive(store, tmp_path / "none.zip", ["0024", "nobody"])
    assert not (tmp_path / "none.zip").exists()


def test_an_archive_of_nobody_is_refused_and_tells_where_profiles_lie(tmp_path):
    store = fill(new_store(tmp_path, "profiles"))
    with pytest.raises(ProfileError, match=f"'{tmp_path}' holds no profile; try '{store.path}'"):
        export_archive(ProfileStore.open(tmp_path), tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_a_speaker_with_other_profiles_stops_the_import_before_it_begins(tmp_path, store):
    export_archive(fill(new_store(tmp_path, "source")), tmp_path / "a.zip")
    store.put(profile("x" * 300, 7))
    before = state(store)
    with pytest.raises(ProfileError, match=r"has other profiles in .*; delete the speaker there first"):
        import_archive(store, tmp_path / "a.zip")
    assert state(store) == before


def test_an_archive_of_another_model_is_refused(tmp_path, store):
    export_archive(fill(new_store(tmp_path, "source")), tmp_path / "a.zip")
    told = replace(store, fingerprint="0" * 64)
    with pytest.raises(ProfileError, match="was learnt for model ffffffffffff, this model is 000000000000"):
        import_archive(told, tmp_path / "a.zip")
    assert store.speakers() == []


def rewritten(source, target, change):
    """A copy of an archive in which ``change`` has turned every entry into any number of entries."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            for other, content in change(name, old.read(name)):
                new.writestr(other, content)
    return target


def _index(**changes):
    def change(name, content):
        yield name, json.dumps({**json.loads(content), **changes}) if name == "profiles.json" else content

    return change


def _page(**changes):
    def change(name, content):
        yield name, json.dumps({**json.loads(content), **changes}) if name == "0024/2.json" else content

    return change


def _row(**changes):
    return [{"speaker": "0024", "versions": [1, 2, 3], "current": 2, **changes}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name, content: [(name, content)] * (name != "0024/2.safetensors"), "does not hold what its list says"),
        (lambda name, content: [(name, content)] * (name != "profiles.json"), "it has no profiles.json"),
        (lambda name, content: [(name, content), (f"../../{name}", content)], "does not hold what its list says"),
        (lambda name, content: [(name, content[:-1])], "is damaged"),
        (lambda name, content: [(name, content.replace(b"0024", b"0025"))], "damaged"),
        (lambda name, content: [(name, b"" if name.endswith(".json") else content)], "is damaged: profiles.json"),
        (lambda name, content: [(name, b"[]" if name.endswith(".json") else content)], "is no page"),
        (_index(format="other"), "is not an archive of profiles"),
        (_index(version=99), "has format 99; this version reads up to 1"),
        (_index(speakers=3), "its list of speakers is none"),
        (_index(speakers=_row(versions=[0])), "its list of speakers is none"),
        (_index(speakers=_row(versions=["../x"])), "its list of speakers is none"),
        (_index(speakers=_row(speaker=None)), "its list of speakers is none"),
        (_index(speakers=_row()), "does not hold what its list says"),
        (_page(speaker="0025"), "damaged"),
        (_page(format_version=99), "has format 99; this version reads up to 2"),
        (_page(tensors_sha256="0"), "is damaged or of another profile"),
    ],
)
def test_a_damaged_archive_changes_nothing(tmp_path, store, change, said):
    export_archive(fill(new_store(tmp_path, "source")), tmp_path / "a.zip")
    bad = rewritten(tmp_path / "a.zip", tmp_path / "bad.zip", change)
    _refused(store, bad, said)


@pytest.mark.parametrize("place", [0.001, 0.3, 0.6, 0.95, 0.9999])
def test_half_an_archive_changes_nothing(tmp_path, store, place):
    export_archive(fill(new_store(tmp_path, "source")), tmp_path / "a.zip")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "bad.zip").write_bytes(content[: int(len(content) * place)])
    _refused(store, tmp_path / "bad.zip", "is damaged or not a zip file")


def test_a_flipped_byte_is_found_or_does_not_matter(tmp_path):
    """Zip files hold dates and the like, which nobody reads."""
    expected = state(fill(source := new_store(tmp_path, "source")))
    export_archive(source, tmp_path / "a.zip", ["0024"])
    content = (tmp_path / "a.zip").read_bytes()
    found = 0
    for number, at in enumerate(range(0, len(content), 41)):
        (tmp_path / "bad.zip").write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        target = new_store(tmp_path / str(number), "target")
        try:
            import_archive(target, tmp_path / "bad.zip")
            assert state(target) == {"0024": expected["0024"]}
        except ProfileError:
            found += 1
            assert not list(target.path.iterdir())
    assert found > 60


def _refused(store, bad, said):
    store.put(profile("before"))
    path = store.path
    store.close()
    kept = {name: value for name, value in _files(path).items() if ".locks" not in name}
    store = ProfileStore.open(path)
    with pytest.raises(ProfileError, match=said):
        import_archive(store, bad)
    with pytest.raises(ProfileError):
        check_archive(bad)
    store.close()
    assert {name: value for name, value in _files(path).items() if ".locks" not in name} == kept


def _files(path):
    return (
        {str(file): bytes_of(file) if file.is_dir() else file.read_bytes() for file in path.parent.rglob("*")}
        if (path.is_dir())
        else {str(path): path.read_bytes()}
    )


def test_what_is_no_archive_is_refused(tmp_path, store):
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("x", "y")
    for name, said in (("none.zip", "there is no archive"), ("text.zip", "not a zip"), ("other.zip", "not an archive")):
        with pytest.raises(ProfileError, match=said):
            import_archive(store, tmp_path / name)
