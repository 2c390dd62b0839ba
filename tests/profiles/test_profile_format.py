"""A profile comes back as it was saved; a damaged, foreign or newer one is refused by name; any id is safe."""

import errno
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lhuc_asr.errors import ProfileError
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.profiles.format import Profile, load_profile, profile_path, profile_stem, remove_profile, save_profile

IDS = [
    "0024",
    "../../x",
    "a b",
    "12_3",
    "José",
    "..",
    ".",
    "",
    "a/b",
    "%",
    "x" * 5000,
    "名" * 100,
    "a\nb",
    "-rf",
    "CON",
]


def profile(speaker="0024", **changes):
    settings = {"lr": 0.8}
    r = {"layers.0.activation": torch.randn(5), "layers.1.activation": torch.randn(7)}
    values = {"base_fingerprint": "f" * 64, "amplitude": Amplitude.exp, "r": r, "seconds": 12.5, "settings": settings}
    return Profile(speaker=speaker, **{**values, **changes})


@pytest.mark.parametrize("speaker", IDS)
@pytest.mark.parametrize("kind", [Amplitude.exp, Amplitude.relu])
def test_round_trip_bit_for_bit(tmp_path, speaker, kind):
    saved = profile(speaker, amplitude=kind, objective_before=2.5, objective_after=1.5)
    path = save_profile(saved, tmp_path / "profiles")
    loaded = load_profile(path, fingerprint="f" * 64)
    assert loaded.speaker == speaker and loaded.amplitude is kind
    assert (loaded.seconds, loaded.objective_before, loaded.objective_after) == (12.5, 2.5, 1.5)
    assert loaded.settings == {"lr": 0.8}
    assert list(loaded.r) == list(saved.r)
    assert all(torch.equal(loaded.r[name], saved.r[name]) for name in saved.r)
    assert all(torch.equal(loaded.adapter().r[name], saved.r[name]) for name in saved.r)
    assert {file.parent for file in tmp_path.rglob("*.*")} == {tmp_path / "profiles"}
    assert load_profile(path.with_name(profile_stem(speaker) + ".safetensors"), fingerprint="f" * 64).speaker == speaker


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_id_gives_one_safe_name(speaker):
    name = profile_path(Path("d"), speaker).name
    assert len(name.encode()) <= 255 and not name.startswith(".")
    assert "/" not in name and "\\" not in name and "\0" not in name
    assert Path("d", name).resolve().parent == Path("d").resolve()


@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=8))
def test_different_ids_never_share_a_name(speakers):
    long = {"x" * 300 + speaker for speaker in speakers}
    assert len({profile_stem(speaker) for speaker in speakers | long}) == len(speakers | long)


def test_float16_profiles_stay_so(tmp_path):
    path = save_profile(profile(r={"a": torch.ones(3, dtype=torch.float16)}), tmp_path)
    assert load_profile(path, fingerprint="f" * 64).r["a"].dtype is torch.float16


def change(path, **changes):
    page = json.loads(path.read_text())
    path.write_text(json.dumps({**page, **changes}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format_version": 99}, "has format 99; this version reads up to 1: upgrade"),
        ({"base_fingerprint": "0" * 64}, "was learnt for model 000000000000, this model is ffffffffffff"),
        ({"amplitude": "softplus"}, "amplitude 'softplus'; known are exp, sigmoid2, identity, relu"),
        ({"sites": {"layers.0.activation": 5}}, "the tensors are not the sites"),
        ({"sites": {"layers.0.activation": 5, "layers.1.activation": 8}}, "the tensors are not the sites"),
        ({"tensors_sha256": "0"}, "is damaged or of another profile"),
        ({"format_version": "one"}, "is not a profile"),
    ],
)
def test_a_page_that_does_not_fit_is_refused(tmp_path, changes, reason):
    path = save_profile(profile(), tmp_path)
    change(path, **changes)
    with pytest.raises(ProfileError, match=reason):
        load_profile(path, fingerprint="f" * 64)


@pytest.mark.parametrize("keep", [0, 3, 40, -1])
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_truncated_files_are_refused_by_name(tmp_path, suffix, keep):
    path = save_profile(profile(), tmp_path).with_suffix(suffix)
    path.write_bytes(path.read_bytes().rstrip()[:keep])
    with pytest.raises(ProfileError, match=f"0024{suffix} is"):
        load_profile(path, fingerprint="f" * 64)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ProfileError, match="no profile at"):
        load_profile(tmp_path / "0024.json", fingerprint="f" * 64)
    path = save_profile(profile(), tmp_path)
    path.with_suffix(".safetensors").unlink()
    with pytest.raises(ProfileError, match=r"tensors .* are missing"):
        load_profile(path, fingerprint="f" * 64)


def test_a_page_without_a_key_is_damaged(tmp_path):
    path = save_profile(profile(), tmp_path)
    page = json.loads(path.read_text())
    del page["sites"]
    path.write_text(json.dumps(page))
    with pytest.raises(ProfileError, match="lacks sites"):
        load_profile(path, fingerprint="f" * 64)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_full_disk_leaves_no_half_file_and_no_profile(tmp_path, monkeypatch, suffix):
    whole = Path.replace

    def full(self, target):
        if Path(target).suffix == suffix:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return whole(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save_profile(profile(), tmp_path)
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*"))
    with pytest.raises(ProfileError, match="no profile at"):
        load_profile(profile_path(tmp_path, "0024"), fingerprint="f" * 64)


@pytest.mark.parametrize("speaker", ["0024", "../../x"])
def test_a_removed_profile_leaves_no_trace_and_others_stay(tmp_path, speaker):
    save_profile(profile("other"), tmp_path)
    kept = sorted(tmp_path.iterdir())
    save_profile(profile(speaker), tmp_path)
    remove_profile(tmp_path, speaker)
    remove_profile(tmp_path, speaker)
    assert sorted(tmp_path.iterdir()) == kept
