"""Projected features as they are typed: training on them, transforms and scales on top, training on, and refusals."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.tones import TESTED, Run, TinyWorld
from lhuc_asr.cli import adapt, condition, decode, fmllr, profiles, train
from lhuc_asr.features.fmllr import SpeakerTransforms
from lhuc_asr.features.projection import FrameProjection
from lhuc_asr.files import read_json
from lhuc_asr.system.model_directory import load_system

STILL = ["training=continued", "training.newbob.max_epochs=1", "training.newbob.initial_lr=1e-30"]
"""Steps too small for float32: what comes out is what training began with."""
LDA = ["lda=mllt", "lda.dim=12", "lda.context=2", "lda.mllt_passes=[1,2]"]


def commanded(world: TinyWorld, out: Path, *more: str) -> list[str]:
    return world.train_command(out, *LDA, *more)


def copy_stages(model: Path, other: Path, *stages: str) -> None:
    """What training did before the network, so that another one need not do it again."""
    for stage in ("gmm", "gmm_features", *stages):
        shutil.copytree(model / "work" / stage, other / "work" / stage)


@pytest.fixture(scope="module")
def projected(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """The world with a model of projected features; the tests must not write into it."""
    out = tmp_path_factory.mktemp("lda") / "si"
    copy_stages(world.model, out)
    assert train.main(commanded(world, out, "--dev", str(world.test), "tuning.acoustic_scales=[0.1]")) == 0
    return replace(world, model=out)


@pytest.fixture(scope="module")
def transformed(projected: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """The same with transforms of speakers on top; the tests must not write into it."""
    out = tmp_path_factory.mktemp("lda_fmllr") / "si"
    copy_stages(projected.model, out, "lda", "features")
    assert train.main(commanded(projected, out, "fmllr=sat")) == 0
    return replace(projected, model=out)


def wer(text: str) -> float:
    return float(text.split()[1])


def test_the_network_sees_what_the_model_directory_says(projected: TinyWorld, world: TinyWorld) -> None:
    system, plain = load_system(projected.model), load_system(world.model)
    assert system.projection is not None and plain.projection is None
    assert (system.projection.dim, system.projection.context, system.projection.feat_dim) == (12, 2, plain.features.dim)
    assert system.network.feat_dim == 12 and system.features == plain.features
    found = FrameProjection.load(projected.model / "work" / "lda" / "projection.safetensors")
    assert found.sha256 == system.projection.sha256
    page = read_json(projected.model / "build.json")
    assert page["lda"]["failed_alignments"] == 0 and {"gmm", "lda"} <= page["minutes"].keys()


def test_people_are_recognised_and_adapted_to(projected: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, out, err = run(decode.main, projected.command(tmp_path / "si", "--all-speakers"))
    assert code == 0, err
    before = wer(out)
    assert before < 60
    code, out, err = run(adapt.main, projected.command(tmp_path / "lhuc", "--all-speakers"))
    assert code == 0, err
    store = ["--store", str(tmp_path / "lhuc" / "profiles"), "--model", str(projected.model)]
    code, out, err = run(profiles.main, ["verify", *store])
    assert code == 0 and all(f"{name}: proved" in out for name in TESTED), (out, err)


def test_a_model_directory_whose_projection_was_changed_or_lost_is_refused(
    projected: TinyWorld, tmp_path: Path, run: Run
) -> None:
    copy = shutil.copytree(projected.model, tmp_path / "si", ignore=shutil.ignore_patterns("work"))
    path = copy / "projection.safetensors"
    found = FrameProjection.load(path)
    found.turned(2 * np.eye(found.dim)).save(path)
    spoilt = replace(projected, model=copy)
    code, _, err = run(decode.main, spoilt.command(tmp_path / "out", "--all-speakers"))
    assert code == 2 and "projection.safetensors' was altered" in err
    path.unlink()
    code, _, err = run(decode.main, spoilt.command(tmp_path / "out", "--all-speakers"))
    assert code == 2 and "has no 'projection.safetensors'" in err


def test_transforms_of_speakers_go_on_top_and_scales_on_top_of_these(
    transformed: TinyWorld, tmp_path: Path, run: Run
) -> None:
    system = load_system(transformed.model)
    assert system.wants_transforms and system.projection is not None
    assert system.speaker_gmm().unadapted.feat_dim == 12
    flags = ["--all-speakers", "fmllr.min_frames=300"]
    code, _, err = run(fmllr.main, transformed.command(tmp_path / "transforms", *flags))
    assert code == 0, err
    found = SpeakerTransforms.load(tmp_path / "transforms")
    assert not found.unchanged and {one.dim for one in found.values()} == {12}
    flags = ["--all-speakers", "--transforms", str(tmp_path / "transforms")]
    code, out, err = run(adapt.main, transformed.command(tmp_path / "lhuc", *flags))
    assert code == 0 and "SI " in out, err


def test_transforms_are_of_models_that_want_them(projected: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, _, err = run(fmllr.main, projected.command(tmp_path))
    assert code == 2 and "was trained without speakers' transforms" in err


def test_training_goes_on_from_transforms_on_top(transformed: TinyWorld, tmp_path: Path, run: Run) -> None:
    more = ["fmllr=sat", "fmllr.min_frames=300", f"criterion.start={transformed.model}", *STILL]
    code, _, err = run(train.main, commanded(transformed, tmp_path, *more))
    assert code == 0, err
    assert f"the alignments in '{transformed.model / 'work' / 'fmllr'}' are kept" in err
    assert load_system(tmp_path).fingerprint == load_system(transformed.model).fingerprint


@pytest.mark.parametrize("criterion", ["cross_entropy", "smbr"])
def test_training_goes_on_with_the_same_projection(
    projected: TinyWorld, tmp_path: Path, run: Run, criterion: str
) -> None:
    start = [f"criterion={criterion}", f"criterion.start={projected.model}"]
    code, _, err = run(train.main, commanded(projected, tmp_path / "on", *start, *STILL))
    assert code == 0, err
    assert load_system(tmp_path / "on").fingerprint == load_system(projected.model).fingerprint
    assert not (tmp_path / "on" / "work" / "lda").exists()
    if criterion == "cross_entropy":
        assert f"the alignments in '{projected.model / 'work' / 'lda'}' are kept" in err


def test_a_start_with_another_projection_is_refused(
    world: TinyWorld, projected: TinyWorld, tmp_path: Path, run: Run
) -> None:
    start = [f"criterion.start={projected.model}", "training=continued"]
    code, _, err = run(train.main, world.train_command(tmp_path, *start))
    assert code == 2 and "of 5 frames projected to 12 values: add lda.dim=12 lda.context=2" in err
    start = [f"criterion.start={world.model}", "training=continued"]
    code, _, err = run(train.main, commanded(world, tmp_path, *start))
    assert code == 2 and "was trained on features without a projection: leave out lda.dim (lda=mllt)" in err


def test_tied_states_of_a_chain_are_found_on_projected_features(projected: TinyWorld, tmp_path: Path, run: Run) -> None:
    copy_stages(projected.model, tmp_path / "si", "lda")
    chain = ["criterion=lfmmi", "training.newbob.max_epochs=1"]
    code, _, err = run(train.main, commanded(projected, tmp_path / "si", *chain))
    assert code == 0, err
    assert load_system(tmp_path / "si").network.feat_dim == 12


def test_perturbed_speech_is_projected_as_the_original_is(projected: TinyWorld, tmp_path: Path, run: Run) -> None:
    copy_stages(projected.model, tmp_path / "si", "lda")
    code, _, err = run(train.main, commanded(projected, tmp_path / "si", "perturbation.speeds=[0.9,1.0]"))
    assert code == 0 and "lda: up to date" in err, err
    assert load_system(tmp_path / "si").network.feat_dim == 12


def test_frames_may_come_at_another_rate_than_those_of_the_first_gmm(
    projected: TinyWorld, tmp_path: Path, run: Run
) -> None:
    copy_stages(projected.model, tmp_path / "si")
    code, _, err = run(train.main, commanded(projected, tmp_path / "si", "features.fbank.frame_shift_ms=8"))
    assert code == 0, err
    page = read_json(tmp_path / "si" / "build.json")
    assert page["lda"]["failed_alignments"] == 0


def test_other_settings_into_the_same_directory_do_anew_what_they_concern(
    world: TinyWorld, projected: TinyWorld, tmp_path: Path, run: Run
) -> None:
    model = tmp_path / "si"
    copy_stages(projected.model, model, "lda", "features")
    code, _, err = run(train.main, commanded(projected, model))
    assert code == 0 and "gmm: up to date" in err and "lda: up to date" in err, err
    assert load_system(model).fingerprint == load_system(projected.model).fingerprint
    code, _, err = run(train.main, commanded(projected, model, "lda.mllt_passes=[1]"))
    assert code == 0 and "gmm: up to date" in err and "lda: done" in err and "network-0: done" in err, err
    assert load_system(model).fingerprint != load_system(projected.model).fingerprint
    code, _, err = run(train.main, world.train_command(model))
    assert code == 0 and "network-0: done" in err, err
    assert load_system(model).projection is None and not (model / "projection.safetensors").exists()
    assert load_system(model).fingerprint == load_system(world.model).fingerprint
    code, _, err = run(train.main, world.train_command(tmp_path / "on", f"criterion.start={model}", *STILL))
    assert code == 0 and f"the alignments in '{model / 'work' / 'gmm'}' are kept" in err, "those of lda are not its own"


def test_more_values_than_tied_states_tell_apart_are_refused(projected: TinyWorld, tmp_path: Path, run: Run) -> None:
    copy_stages(projected.model, tmp_path / "si")
    code, _, err = run(train.main, commanded(projected, tmp_path / "si", "lda.dim=40"))
    assert code == 2 and "does not determine a projection to 40 values (lda.dim): " in err
    assert "classes differ along no more than" in err


def test_scales_of_training_speakers_are_learnt_on_projected_features(
    projected: TinyWorld, tmp_path: Path, run: Run
) -> None:
    copy_stages(projected.model, tmp_path / "si", "lda", "features")
    code, _, err = run(train.main, commanded(projected, tmp_path / "si", "sat=frame", "sat.share=0.5"))
    assert code == 0, err
    assert load_system(tmp_path / "si").network.feat_dim == 12 and (tmp_path / "si" / "speakers").is_dir()


@pytest.mark.parametrize("kind", ["cnn", "maxout_cnn"])
def test_networks_that_need_neighbouring_frequencies_are_refused(
    world: TinyWorld, tmp_path: Path, run: Run, kind: str
) -> None:
    command = [one for one in commanded(world, tmp_path) if not one.startswith("model")]
    code, _, err = run(train.main, [*command, f"model={kind}"])
    assert code == 2 and f"model={kind} convolves over neighbouring frequencies, of which lda.dim leaves none" in err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["lda.dim=81"], "lda.dim must be at most 80, the values of 5 frames (lda.context) of 16 features; got 81"),
        (["lda.mllt_passes=[1,99]"], "lda.mllt_passes must lie below gmm.triphone_iterations, which is"),
        (["lda.mllt_passes=[-1]"], "lda.mllt_passes must be 0 or more"),
        (["features.delta_order=1"], "features.delta_order must be 0 (features=mfcc_static), got 1"),
        (["criterion=ctc"], "lda.dim needs tied states, which criterion=ctc does without"),
        (["augmentation=spec_augment"], "change mel bins, which lda.dim projects: leave one out"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_done(
    world: TinyWorld, tmp_path: Path, run: Run, settings: list[str], message: str
) -> None:
    code, _, err = run(train.main, commanded(world, tmp_path, *settings))
    assert code == 2 and message in err, err
    assert not (tmp_path / "work").exists()


def test_gates_are_refused_in_one_line(projected: TinyWorld, tmp_path: Path, run: Run) -> None:
    command = ["--model", str(projected.model), "--data", str(projected.train), "--out", str(tmp_path / "gate")]
    code, _, err = run(condition.main, [*command, "runtime=one_core"])
    assert code == 2 and "was trained on projected features (lda)" in err
    assert err.count("lhuc-condition:") == 1
