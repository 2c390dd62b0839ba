"""Speaker-adaptive training as it is typed: a model directory like any other, and its speakers' scales beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from helpers.tones import Run, TinyWorld
from lhuc_asr.cli import adapt, decode, profiles, train
from lhuc_asr.files import read_json
from lhuc_asr.profiles.store import ProfileStore
from lhuc_asr.system.model_directory import load_system
from lhuc_asr.system.trained_scales import TrainedScales

ADAM = ["training=adam", "training.newbob.max_epochs=3", "training.newbob.initial_lr=0.01"]
NETWORKS = {
    "dnn": [],
    "blstm": ["model.kind=blstm", "model.hidden_dim=16", "model.num_layers=1", "training.sequences.max_frames=400"],
}


def command(world: TinyWorld, out: Path, *settings: str) -> list[str]:
    """Training on the alignments of the model that all tests share."""
    for stage in ("gmm", "gmm_features", "features"):
        shutil.copytree(world.model / "work" / stage, out / "work" / stage)
    typed = world.train_command(out, *ADAM, *settings)
    is_dnn = not any(setting.startswith("model.kind") for setting in settings)
    return [one for one in typed if is_dnn or not one.startswith(("model=", "model.context"))]


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_model_is_trained_decoded_and_adapted(kind: str, world: TinyWorld, tmp_path: Path, run: Run) -> None:
    model = tmp_path / "sat"
    typed = command(world, model, *NETWORKS[kind], "sat=frame", "sat.share=0.4")
    code, _, err = run(train.main, typed)
    assert code == 0, err
    scales = TrainedScales.load(model / "work" / "network-0")
    assert scales is not None and bool((scales.r != 0).any(dim=1).all())
    store = ProfileStore.open(model / "speakers", fingerprint=load_system(model).fingerprint)
    assert sorted(store.speakers()) == sorted(scales.row_of)
    first = store.speakers()[0]
    flat = torch.cat([r.flatten() for r in store.get(first).r.values()])
    assert torch.equal(flat, scales.r[scales.row_of[first]] - scales.r[0])
    assert store.get(first).seconds > 1
    flags = ["--model", str(model), "--data", str(world.test), "--speaker", "eve", "runtime=one_core"]
    code, _, err = run(decode.main, [*flags, "--out", str(tmp_path / "words")])
    assert code == 0, err
    prior = tmp_path / "prior.safetensors"
    code, _, err = run(profiles.main, ["prior", "--store", str(model / "speakers"), "--out", str(prior)])
    assert code == 0, err
    adapted = ["--out", str(tmp_path / "lhuc"), "adapt.min_seconds=0.5", f"adapt.prior_from={prior}", "adapt.prior=1"]
    code, out, err = run(adapt.main, [*flags, *adapted])
    assert code == 0, err
    assert "objective" in out
    code, _, err = run(train.main, typed)
    assert code == 0 and "network-0: up to date" in err


def test_scales_that_do_not_learn_give_the_plain_model(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    settings = ["sat=frame", "sat.lr_factor=0", "sat.keep_speakers=false"]
    for name, own in (("plain", []), ("sat", settings)):
        code, _, err = run(train.main, command(world, tmp_path / name, *own))
        assert code == 0, err
    plain, adaptive = load_system(tmp_path / "plain"), load_system(tmp_path / "sat")
    assert plain.fingerprint == adaptive.fingerprint
    assert not (tmp_path / "sat" / "speakers").exists()


def test_scales_do_not_outlive_the_training_that_gave_them(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    model, plain = tmp_path / "sat", tmp_path / "plain"
    for out, own in ((model, ["sat=frame"]), (plain, [])):
        code, _, err = run(train.main, command(world, out, *own))
        assert code == 0, err
    network = model / "work" / "network-0"
    (network / "stage.json").unlink()
    typed = world.train_command(model, *ADAM)
    code, _, err = run(train.main, typed)
    assert code == 2 and "began with other settings (conditioning was" in err
    shutil.rmtree(network / "training")
    code, _, err = run(train.main, typed)
    assert code == 0, err
    assert load_system(model).fingerprint == load_system(plain).fingerprint
    assert not (model / "speakers").exists()


def test_what_cannot_be_is_told_before_training(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, _, err = run(train.main, command(world, tmp_path, "sat.share=1.5"))
    assert code == 2 and "sat.share must lie in [0, 1], or be null" in err
    shutil.rmtree(tmp_path / "work")
    code, _, err = run(train.main, command(world, tmp_path, "sat=frame", "sat.layers=[7]"))
    assert code == 2 and "there is no hidden layer 7" in err
    assert not (tmp_path / "work" / "network-0" / "training").exists()
    assert read_json(world.model / "build.json")
