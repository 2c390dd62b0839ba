"""Priors of scales: what is estimated, what is kept in the file, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.errors import ConfigError, ProfileError
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.profiles.prior import ScalePrior, load_prior, save_prior
from lhuc_asr.profiles.prior_learning import Centre, learn_prior
from lhuc_asr.profiles.profile import Profile

FINGERPRINT = "f" * 64


def profiles(num_speakers: int, *, seed: int = 0, kind: Amplitude = Amplitude.exp) -> list[Profile]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Profile(
            speaker=f"José/{number}",
            base_fingerprint=FINGERPRINT,
            amplitude=kind,
            r={"a.b": torch.randn(5, generator=generator), "c": 0.1 * torch.randn(2, 3, generator=generator)},
            layouts={"a.b": "*H", "c": "BHHT"},
        )
        for number in range(num_speakers)
    ]


def matrix(given: list[Profile]) -> np.ndarray:
    return np.stack([np.concatenate([r.double().numpy().ravel() for r in profile.r.values()]) for profile in given])


def test_without_shrinkage_it_is_numpys_mean_and_variance_and_sklearns_directions() -> None:
    speakers = profiles(6)
    prior, r_SD = learn_prior(speakers, shrinkage=0.0), matrix(speakers)
    joined = np.concatenate([value.numpy().ravel() for value in prior.mean.values()])
    np.testing.assert_allclose(joined, r_SD.mean(0), atol=1e-6)
    spread = np.concatenate([value.numpy().ravel() for value in prior.variance.values()])
    np.testing.assert_allclose(spread, r_SD.var(0, ddof=1), rtol=1e-5)
    values, vectors = np.linalg.eigh(np.cov(r_SD.T))
    np.testing.assert_allclose(prior.direction_variance.numpy(), values[::-1][:5], rtol=1e-5)
    basis_KD = torch.cat([own.flatten(1) for own in prior.directions.values()], dim=1).numpy()
    np.testing.assert_allclose(np.abs(basis_KD @ vectors[:, ::-1][:, :5]), np.eye(5), atol=1e-5)


@given(shrinkage=st.floats(0, 1e6), num_speakers=st.integers(2, 9), centre=st.sampled_from(Centre))
@settings(max_examples=30)
def test_variances_lie_between_their_own_and_the_layers(shrinkage: float, num_speakers: int, centre: Centre) -> None:
    speakers = profiles(num_speakers)
    own, found, layer = (learn_prior(speakers, shrinkage=s, centre=centre) for s in (0.0, shrinkage, 1e12))
    for name, variance in found.variance.items():
        low, high = (f(own.variance[name], layer.variance[name]) for f in (torch.minimum, torch.maximum))
        assert bool((variance >= low * (1 - 1e-5)).all()) and bool((variance <= high * (1 + 1e-5)).all())
        assert float(layer.variance[name].std()) < 1e-5
        torch.testing.assert_close(variance.mean(), own.variance[name].mean(), rtol=1e-4, atol=0)


def test_the_identity_as_centre() -> None:
    speakers = profiles(4, kind=Amplitude.identity)
    prior = learn_prior(speakers, shrinkage=0.0, centre=Centre.identity)
    assert all(bool((mean == 1).all()) for mean in prior.mean.values())
    spread = np.concatenate([value.numpy().ravel() for value in prior.variance.values()])
    np.testing.assert_allclose(spread, np.square(matrix(speakers) - 1).mean(0), rtol=1e-5)
    assert prior.num_directions == 4


def test_it_comes_back_from_the_file_bit_for_bit(tmp_path: Path) -> None:
    for number, directions in enumerate((None, 0, 2)):
        prior = learn_prior(profiles(5), num_directions=directions)
        path = tmp_path / f"{number}.safetensors"
        save_prior(prior, path)
        again = load_prior(path, fingerprint=FINGERPRINT)
        assert again.sha256 == prior.sha256
        assert (again.sources, again.settings, again.layouts) == (prior.sources, prior.settings, prior.layouts)
        assert again.num_directions == (4 if directions is None else directions)
        save_prior(again, tmp_path / "twice")
        assert (tmp_path / "twice").read_bytes() == path.read_bytes()


def test_the_order_of_speakers_does_not_matter() -> None:
    speakers = profiles(5)
    for one, other in zip(
        learn_prior(speakers)._tensors.values(), learn_prior(speakers[::-1])._tensors.values(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_is_refused(tmp_path: Path) -> None:
    speakers = profiles(4)
    for wrong, told in [
        (speakers[:1], "at least two speakers, got 1"),
        ([speakers[0], speakers[0]], "some speaker was given twice"),
        ([speakers[0], replace(speakers[0], speaker="x")], "of 'a.b' are all the same"),
        ([speakers[0], replace(speakers[1], base_fingerprint="g")], "only profiles of one model"),
        ([speakers[0], replace(speakers[1], amplitude=Amplitude.relu)], "of one amplitude"),
    ]:
        with pytest.raises(ProfileError, match=told):
            learn_prior(wrong)
    with pytest.raises(ProfileError, match="4 speakers differ in 3 directions, 4 were asked for"):
        learn_prior(speakers, num_directions=4)
    with pytest.raises(ConfigError, match="shrinkage must be 0 or more"):
        learn_prior(speakers, shrinkage=-1.0)
    path = tmp_path / "prior"
    with pytest.raises(ProfileError, match="No such file"):
        load_prior(path, fingerprint=None)
    save_prior(learn_prior(speakers), path)
    with pytest.raises(ProfileError, match="was learnt for model ffffffffffff, this model is ggg"):
        load_prior(path, fingerprint="ggg")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ProfileError, match="is damaged"):
        load_prior(path, fingerprint=None)
    path.write_bytes(content[:-9])
    with pytest.raises(ProfileError, match="cannot read"):
        load_prior(path, fingerprint=None)
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ProfileError, match="is no prior"):
        load_prior(path, fingerprint=None)


def test_it_fits_its_own_layers_only() -> None:
    prior = learn_prior(profiles(4))
    a, c = Site("a.b", (5,), Layout("*H")), Site("c", (2, 3), Layout("BHHT"))
    prior.require_fits([a, c], Amplitude.exp, all_sites=True)
    prior.require_fits([a], Amplitude.exp)
    with pytest.raises(ProfileError, match=r"of other layers: it knows a\.b 5"):
        prior.require_fits([a], Amplitude.exp, all_sites=True)
    with pytest.raises(ProfileError, match=r"to be scaled are a.b 6"):
        prior.require_fits([Site("a.b", (6,), Layout("*H"))], Amplitude.exp)
    with pytest.raises(ProfileError, match=r"take lhuc\.amplitude=exp"):
        prior.require_fits([a, c], Amplitude.relu)


def test_a_variance_must_be_positive() -> None:
    zero = {"a": torch.zeros(3)}
    with pytest.raises(ProfileError, match="more than 0; those of 'a' are not"):
        ScalePrior(base_fingerprint="f", amplitude=Amplitude.exp, mean=zero, variance=zero)
