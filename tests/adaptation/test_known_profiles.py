"""A folder of profiles, and each speaker with the right one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lhuc_asr.adaptation.passes.known_profiles import KnownProfiles
from lhuc_asr.errors import ProfileError
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.profiles.format import Profile, save_profile

FINGERPRINT = "f" * 64


def profile(speaker: str, value: float = 1.0, **settings: object) -> Profile:
    r = {"layers.0.activation": torch.full((4,), value)}
    return Profile(speaker=speaker, base_fingerprint=FINGERPRINT, amplitude=Amplitude.exp, r=r, settings=settings)


@pytest.mark.parametrize("speaker", ["../../x", "a b", "12_3", "José"])
def test_profiles_are_found_by_any_id_and_named_by_content(speaker: str, tmp_path: Path) -> None:
    save_profile(profile(speaker), tmp_path)
    folder = KnownProfiles.open(tmp_path, (speaker, "nobody"), fingerprint=FINGERPRINT)
    assert list(folder.profiles) == [speaker]
    assert folder.manifest() == {speaker: profile(speaker).sha256}
    assert folder.manifest() != {speaker: profile(speaker, 0.5).sha256}


def test_a_folder_without_a_profile_of_these_speakers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="there is no profile store"):
        KnownProfiles.open(tmp_path / "none", ("a",), fingerprint=FINGERPRINT)
    save_profile(profile("b"), tmp_path / "profiles")
    with pytest.raises(ProfileError, match=r"no profile of any speaker asked for \('a'\); try '.*/profiles'"):
        KnownProfiles.open(tmp_path, ("a",), fingerprint=FINGERPRINT)


def test_a_profile_of_another_model_is_refused(tmp_path: Path) -> None:
    save_profile(profile("a"), tmp_path)
    with pytest.raises(ProfileError, match="was learnt for model ffffffffffff, this model is 000000000000"):
        KnownProfiles.open(tmp_path, ("a",), fingerprint="0" * 64)


def test_who_was_learnt_under_other_settings_than_most_is_known() -> None:
    adapt = {"a": {"lr": 0.8}, "b": {"lr": 0.4}, "c": {"lr": 0.8}}
    profiles = {who: profile(who, adapt=own, key=who, utterances=[who]) for who, own in adapt.items()}
    assert KnownProfiles(Path(), FINGERPRINT, profiles).unlike_most == ("b",)
    assert KnownProfiles(Path(), FINGERPRINT).unlike_most == ()


def test_everybody_is_recognised_with_their_own_profile() -> None:
    network = Dnn(DnnConfig(num_layers=1, hidden_dim=4, context=0), feat_dim=3, num_outputs=2).eval()
    known = KnownProfiles(Path(), FINGERPRINT, {"a": profile("a", 1.0), "b": profile("b", -1.0)})
    adapting = known.adapting(network, {name: name[0] for name in ("a-1", "b-1", "c-1")})
    found = {}
    for utterance in ("a-1", "b-1", "c-1"):
        with adapting(utterance), torch.no_grad():
            found[utterance] = network(torch.ones(1, 5, 3))
    assert len({float(output.sum()) for output in found.values()}) == 3
    assert torch.equal(found["c-1"], network(torch.ones(1, 5, 3)))
