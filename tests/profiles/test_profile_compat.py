"""Profiles of every past format are read for ever: pages as they were written then."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save

from lhuc_asr.errors import ProfileError
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.profiles.format import load_profile, save_profile
from lhuc_asr.profiles.store import ProfileStore

FINGERPRINT = "3f" * 32
VERSION_1 = """{
  "format_version": 1,
  "speaker": "José",
  "base_fingerprint": "%s",
  "amplitude": "sigmoid2",
  "sites": {
    "layers.0.activation": 3,
    "layers.1.activation": 2
  },
  "seconds": 61.25,
  "objective_before": 2.5,
  "objective_after": 1.25,
  "settings": {
    "adapt": {
      "lr": 0.8
    },
    "key": "abc"
  },
  "tensors_sha256": "%s"
}
"""


@pytest.fixture(params=[torch.float32, torch.float16], ids=["float32", "float16"])
def written(request, tmp_path):
    """A folder of format 1, and its parameters."""
    r = {"layers.0.activation": torch.tensor([0.5, -1.0, 0.0]), "layers.1.activation": torch.tensor([2.0, 0.25])}
    content = save({name: value.to(request.param) for name, value in r.items()})
    (tmp_path / "Jos%C3%A9.safetensors").write_bytes(content)
    page = VERSION_1 % (FINGERPRINT, hashlib.sha256(content).hexdigest())
    (tmp_path / "Jos%C3%A9.json").write_text(page, encoding="utf-8")
    return tmp_path, r, str(request.param).removeprefix("torch.")


def test_format_1(written):
    folder, r, dtype = written
    profile = load_profile(folder / "Jos%C3%A9.json", fingerprint=FINGERPRINT)
    assert (profile.speaker, profile.amplitude, profile.seconds) == ("José", Amplitude.sigmoid2, 61.25)
    assert (profile.objective_before, profile.objective_after) == (2.5, 1.25)
    assert profile.settings == {"adapt": {"lr": 0.8}, "key": "abc"}
    assert (profile.supervision, profile.guard, profile.created, profile.dtype) == (None, None, "", dtype)
    assert profile.layouts == {"layers.0.activation": "*H", "layers.1.activation": "*H"}
    assert list(profile.r) == list(r) and all(torch.equal(profile.r[name], r[name]) for name in r)
    assert profile.adapter().scales()["layers.0.activation"][2] == 1


def test_format_1_is_still_checked(written):
    folder, _, _ = written
    path = folder / "Jos%C3%A9.json"
    page = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**page, "sites": {"layers.0.activation": 3, "layers.1.activation": 4}}))
    with pytest.raises(ProfileError, match="the tensors are not the sites"):
        load_profile(path, fingerprint=FINGERPRINT)
    with pytest.raises(ProfileError, match="was learnt for model 3f3f3f3f3f3f, this model is 000000000000"):
        load_profile(path, fingerprint="0" * 64)


def test_format_1_becomes_format_2_when_it_is_saved(written, tmp_path):
    folder, _, _ = written
    profile = load_profile(folder / "Jos%C3%A9.json", fingerprint=FINGERPRINT)
    path = save_profile(profile, tmp_path / "new")
    assert json.loads(path.read_text(encoding="utf-8"))["format_version"] == 2
    assert load_profile(path, fingerprint=FINGERPRINT).sha256 == profile.sha256


def test_a_folder_of_format_1_is_a_store(written):
    folder, _, _ = written
    store = ProfileStore.open(folder, fingerprint=FINGERPRINT)
    old = store.get("José")
    assert store.speakers() == ["José"] and store.numbers("José").all == (1,)
    assert store.put(old) == 2
    assert store.get("José", 1).sha256 == store.get("José", 2).sha256 == old.sha256
    assert [version.page["format_version"] for version in store.versions("José")] == [1, 2]
