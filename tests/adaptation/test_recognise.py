"""A folder of profiles, and recognition of each speaker with the right one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lhuc_asr.adaptation import recognise as module
from lhuc_asr.adaptation.recognise import KnownProfiles, recognise
from lhuc_asr.decoding.hypothesis import Hypothesis
from lhuc_asr.errors import DecodingError, ProfileError
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.profiles.format import Profile, save_profile

FINGERPRINT = "f" * 64


def profile(speaker: str, value: float = 1.0) -> Profile:
    r = {"layers.0.activation": torch.full((4,), value)}
    return Profile(speaker=speaker, base_fingerprint=FINGERPRINT, amplitude=Amplitude.exp, r=r)


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


class SumDecoder:
    """Takes the sum of the log-likelihoods for the acoustic cost, and fails where they are negative."""

    def decode_all(self, items: Any, *, num_jobs: int, meter: Any, on_failure: Any) -> Iterator[Hypothesis]:
        for utterance, log_likes in items:
            if float(log_likes.sum()) > 0:
                on_failure(utterance, DecodingError("positive"))
            else:
                yield Hypothesis(utterance, (), np.ones(len(log_likes), np.int32), 0.0, float(log_likes.sum()))


def test_everybody_is_recognised_with_their_own_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "decoder_of", lambda system: SumDecoder())
    network = Dnn(DnnConfig(num_layers=1, hidden_dim=4, context=0), feat_dim=3, num_outputs=2).eval()

    def log_likes(feats: Any) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(feats)[None])[0].numpy()

    system: Any = SimpleNamespace(network=network, log_likes=log_likes)
    feats = dict.fromkeys(("a-1", "b-1", "c-1"), np.ones((5, 3), np.float32))
    speaker_of = {name: name[0] for name in feats}
    profiles = {"a": profile("a", 1.0), "b": profile("b", -1.0)}
    found = recognise(system, feats, speaker_of, profiles)
    costs = {name: hypothesis.acoustic_cost for name, hypothesis in found.hypotheses.items()}
    assert len(set(costs.values())) == 3
    alone = recognise(system, feats, speaker_of, {})
    assert {hypothesis.acoustic_cost for hypothesis in alone.hypotheses.values()} == {costs["c-1"]}
    assert found.failed == {}


def test_utterances_without_a_path_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "decoder_of", lambda system: SumDecoder())
    system: Any = SimpleNamespace(log_likes=lambda feats: feats)
    feats = {"a-1": np.ones((5, 3), np.float32), "a-2": -np.ones((5, 3), np.float32)}
    found = recognise(system, feats, {"a-1": "a", "a-2": "a"}, {})
    assert (list(found.hypotheses), found.failed) == (["a-2"], {"a-1": "positive"})
