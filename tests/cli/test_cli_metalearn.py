"""``lhuc-metalearn``, and ``lhuc-adapt`` with what it learns, as they are typed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.tones import Run, TinyWorld, changed_since, flags_of, times_of
from lhuc_asr.cli import adapt
from lhuc_asr.cli.metalearn import build_parser, main
from lhuc_asr.data.load import load_manifest
from lhuc_asr.errors import ConfigError
from lhuc_asr.metalearning.run import StartTraining
from lhuc_asr.metalearning.settings import MetalearnConfig
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.profiles.prior import load_prior
from lhuc_asr.system.model_directory import load_system

SHORT = ["metalearn.adapt_seconds=2", "metalearn.test_seconds=2", "build.valid_fraction=0.25", "runtime=one_core"]


def command(world: TinyWorld, out: Path, *more: str) -> list[str]:
    return ["--model", str(world.model), "--data", str(world.train), "--out", str(out), *SHORT, *more]


def settings_told(said: str) -> list[str]:
    """What the last line tells to give to lhuc-adapt."""
    return said.splitlines()[-1].rpartition(": ")[2].split()


def test_the_flags_are_these() -> None:
    assert flags_of(build_parser()) == {"--model", "--data", "--out", "--allow-commands"}


def test_from_training_speech_to_adapted_scales(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    before, out = times_of(world.model), tmp_path / "start"
    code, said, err = run(main, command(world, out, "metalearn.num_epochs=3", "metalearn.outer_lr=0.05"))
    assert code == 0, err
    assert "1 held-out speakers, network alone -> plain start -> learnt start (epoch " in said
    assert not changed_since(before, world.model)
    page, prior = (
        json.loads((out / "metalearn.json").read_text()),
        load_prior(out / "start.safetensors", fingerprint=None),
    )
    assert (page["num_speakers"], page["num_held_out"], len(page["losses"])) == (3, 1, 4)
    assert page["losses"][page["best"]] == min(page["losses"])
    assert prior.base_fingerprint == load_system(world.model).fingerprint
    assert prior.settings["metalearn"]["num_epochs"] == 3 and prior.sha256 in said
    assert (out / "provenance.json").is_file()
    speaker = ["--speaker", "eve", "--no-second-pass"]
    code, _, err = run(adapt.main, world.command(tmp_path / "adapted", *speaker, *settings_told(said)))
    assert code == 0, err
    profile = load_profile(tmp_path / "adapted" / "profiles" / "eve.json", fingerprint=None)
    assert profile.settings["prior"] == prior.sha256
    wrong = world.command(tmp_path / "wrong", *speaker, *settings_told(said), "lhuc.amplitude=relu")
    code, _, err = run(adapt.main, wrong)
    assert code == 2 and "the prior is of exp scales" in err


def test_without_an_epoch_adaptation_is_what_it_was(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "start"
    code, said, err = run(main, command(world, out, "metalearn.num_epochs=0"))
    assert code == 0, err
    assert "no epoch was better for held-out speakers than the plain start, which this is" in said
    told, r = settings_told(said), {}
    plain = [setting for setting in told if "prior" not in setting]
    assert len(told) - len(plain) == 2
    for name, settings in (("told", told), ("plain", plain)):
        flags = ["--speaker", "eve", "--no-second-pass", *settings]
        assert run(adapt.main, world.command(tmp_path / name, *flags))[0] == 0
        r[name] = load_profile(tmp_path / name / "profiles" / "eve.json", fingerprint=None).r
    assert all(torch.equal(value, r["plain"][name]) for name, value in r["told"].items())


def test_what_cannot_be_meant_is_refused_before_anything_is_written(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    for more, told in (
        (["lhuc.layers=[9]"], "9"),
        (["metalearn.num_steps=0"], "metalearn.num_steps must be at least 1, got 0"),
        (["metalearn.speeds=all"], "metalearn.speeds"),
    ):
        code, _, err = run(main, command(world, out, *more))
        assert code == 2 and told in err.splitlines()[-1]
    (untold := tmp_path / "untold").mkdir()
    for table in ("wav.scp", "utt2spk"):
        (untold / table).write_text((world.train / table).read_text())
    code, _, err = run(main, [*command(world, out), "--data", str(untold)])
    assert code == 2 and "learning needs transcripts: 0 of 48 utterances have one" in err
    assert not out.exists()


def test_networks_of_whole_utterances_are_refused(world: TinyWorld, tmp_path: Path) -> None:
    system = load_system(world.model)
    other = Tdnn(TdnnConfig(), feat_dim=system.network.feat_dim, num_outputs=system.network.num_outputs)
    training = StartTraining(
        system=replace(system, network=other),
        manifest=load_manifest(world.train),
        config=MetalearnConfig(),
        directory=tmp_path / "out",
    )
    with pytest.raises(ConfigError, match=r"whole utterances. Possible: dnn, cnn, maxout, maxout_cnn"):
        training.check()
