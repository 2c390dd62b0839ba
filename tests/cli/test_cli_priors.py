"""From training speakers' profiles to a prior, and from a prior to new profiles, in process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.tones import TESTED, Adapted, Run, TinyWorld
from lhuc_asr.cli.adapt import main as adapt
from lhuc_asr.cli.profiles import main as profiles
from lhuc_asr.profiles.format import load_profile, profile_path
from lhuc_asr.profiles.prior import load_prior
from lhuc_asr.profiles.profile import Profile


def profile_of(out: Path, speaker: str) -> Profile:
    return load_profile(profile_path(out / "profiles", speaker), fingerprint=None)


def status_of(out: Path, speaker: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "status" / f"{speaker}.json").read_text())
    return found


def joined(values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Of all sites, in the order of their names."""
    return torch.cat([values[name].flatten() for name in sorted(values)])


@pytest.fixture
def prior(adapted: Adapted, run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "prior.safetensors"
    command = ["prior", "--store", str(adapted.out / "profiles"), "--out", str(path), "--shrinkage", "2"]
    code, out, _ = run(profiles, command)
    assert code == 0
    assert f"prior {path} of 3 speakers, {load_prior(path, fingerprint=None).sha256}" in out
    assert "2 directions hold " in out
    return path


def test_what_is_learnt_from_whom(prior: Path, adapted: Adapted, run: Run, tmp_path: Path) -> None:
    found, speakers = load_prior(prior, fingerprint=None), [profile_of(adapted.out, name) for name in TESTED]
    assert found.sources == {speaker.speaker: speaker.sha256 for speaker in speakers}
    assert found.settings == {"shrinkage": 2.0, "num_directions": 2, "centre": "mean"}
    for name, mean in found.mean.items():
        torch.testing.assert_close(mean, torch.stack([speaker.r[name] for speaker in speakers]).mean(0))
    other = tmp_path / "other"
    command = ["prior", "--store", str(adapted.out / "profiles"), "--out", str(other), "--centre", "identity"]
    assert run(profiles, [*command, "--directions", "1", "--speaker", "eve", "--speaker", "José"])[0] == 0
    found = load_prior(other, fingerprint=None)
    assert (set(found.sources), found.num_directions) == ({"eve", "José"}, 1)
    assert not any(bool(mean.any()) for mean in found.mean.values())
    code, _, err = run(profiles, [*command, "--directions", "9"])
    assert code == 2
    assert "3 speakers differ in 3 directions, 9 were asked for" in err


def test_speakers_are_learnt_with_it(prior: Path, world: TinyWorld, adapted: Adapted, run: Run, tmp_path: Path) -> None:
    first_pass = ["--first-pass", str(adapted.out / "first_pass"), "--speaker", "eve", "--no-second-pass"]
    found, r = load_prior(prior, fingerprint=None), {}
    for name, settings in {
        "strong": [f"adapt.prior_from={prior}", "adapt.prior=1e20"],
        "weak": [f"adapt.prior_from={prior}", "adapt.prior=1e-3"],
        "subspace": [f"adapt.subspace={prior}", "adapt.num_directions=1"],
        "bayesian": ["adapt=bayesian", "adapt.num_epochs=2"],
        "map": ["adapt=map"],
    }.items():
        out = tmp_path / name
        code, _, err = run(adapt, world.command(out, *first_pass, *settings))
        assert code == 0, err
        profile = profile_of(out, "eve")
        r[name] = joined(profile.r)
        assert profile.settings.get("prior") == (None if name in ("bayesian", "map") else found.sha256)
        assert len(profile.settings.get("coefficients", [])) == (1 if name == "subspace" else 0)
    mean, basis_D = joined(found.mean), joined({name: values[0] for name, values in found.directions.items()})
    torch.testing.assert_close(r["strong"], mean, rtol=0, atol=1e-6)
    (weight,) = profile_of(tmp_path / "subspace", "eve").settings["coefficients"]
    torch.testing.assert_close(r["subspace"], mean + weight * basis_D, rtol=0, atol=1e-6)
    assert all(not torch.equal(r[one], r[other]) for one in r for other in r if one != other)
    again = run(adapt, world.command(tmp_path / "weak", *first_pass, f"adapt.prior_from={prior}", "adapt.prior=1e-3"))
    assert "(done before)" in again[1]
    run(profiles, ["prior", "--store", str(adapted.out / "profiles"), "--out", str(prior), "--shrinkage", "9"])
    again = run(adapt, world.command(tmp_path / "weak", *first_pass, f"adapt.prior_from={prior}", "adapt.prior=1e-3"))
    assert again[0] == 0
    assert "(done before)" not in again[1]


def test_mistakes_in_one_line(prior: Path, world: TinyWorld, run: Run, tmp_path: Path) -> None:
    for settings, told in [
        (["adapt.prior_from=/no/such"], "cannot read the prior '/no/such': No such file"),
        ([f"adapt.prior_from={prior}", "lhuc.amplitude=relu"], "take lhuc.amplitude=exp or learn the prior again"),
        ([f"adapt.subspace={prior}", "lhuc.layers=[1]"], "the prior is of other layers"),
        ([f"adapt.subspace={prior}", "adapt.num_directions=3"], "asks for 3 directions, the file of adapt.subspace"),
        (["adapt.estimation=bayesian"], "needs a prior"),
        (["adapt.held_out_share=0.9"], "adapt.held_out_share must be from 0 to 0.5, got 0.9"),
    ]:
        code, _, err = run(adapt, world.command(tmp_path / "out", "--all-speakers", *settings))
        assert code == 2
        assert told in err.splitlines()[-1]


def test_what_held_out_speech_says_stands_in_the_profile(
    world: TinyWorld, adapted: Adapted, run: Run, tmp_path: Path
) -> None:
    first_pass = ["--first-pass", str(adapted.out / "first_pass"), "--all-speakers", "--no-second-pass"]
    out = tmp_path / "kept"
    code, said, _ = run(adapt, world.command(out, *first_pass, "adapt=held_out", "adapt.num_epochs=3"))
    assert code == 0
    assert said.count("held-out objective ") == 3
    for speaker in TESTED:
        guard = profile_of(out, speaker).guard
        assert guard is not None
        assert guard["verdict"] in ("accepted", "fell back")
        assert len(guard["objectives"]) > 1
    assert status_of(out, "eve")["held_out"] == profile_of(out, "eve").guard
    fallen = tmp_path / "fallen"
    strict = ["adapt=held_out", "adapt.held_out_gain=99"]
    code, said, _ = run(adapt, world.command(fallen, *first_pass, *strict))
    assert (code, said.count("fell back, held-out objective")) == (0, 3)
    profile = profile_of(fallen, "eve")
    assert all(bool((factors == 1).all()) for factors in profile.adapter().scales().values())
    store = ["--store", str(fallen / "profiles")]
    assert run(profiles, ["verify", *store, "--model", str(world.model)])[0] == 0
    code, _, err = run(profiles, ["prior", *store, "--out", str(tmp_path / "none")])
    assert code == 2
    assert "at least two speakers, got 0" in err
    assert "(done before)" in run(adapt, world.command(fallen, *first_pass, *strict))[1]
