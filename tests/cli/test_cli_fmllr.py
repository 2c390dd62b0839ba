"""``lhuc-fmllr`` as it is typed: a model trained on transformed features, transforms of new speakers, LHUC on top."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.tones import TESTED, Run, TinyWorld, flags_of
from lhuc_asr.cli import adapt, decode, train
from lhuc_asr.cli.fmllr import build_parser, main
from lhuc_asr.decoding.words.hypothesis import read_hypotheses
from lhuc_asr.features.fmllr import SpeakerTransforms
from lhuc_asr.files import read_json
from lhuc_asr.system.model_directory import load_system

MFCC = ["features=mfcc", "features.sampling_rate=8000"]


def commanded(world: TinyWorld, out: Path, *more: str) -> list[str]:
    command = world.train_command(out, *MFCC, *more)
    return [one for one in command if one not in ("features=fbank40_8khz", "features.fbank.num_mel_bins=16")]


@pytest.fixture(scope="module")
def fmllr_world(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """The world with a model of transformed features; the tests must not write into it."""
    out = tmp_path_factory.mktemp("fmllr") / "si"
    assert train.main(commanded(world, out, "fmllr=sat", "--dev", str(world.test), "tuning.acoustic_scales=[0.1]")) == 0
    return replace(world, model=out)


@pytest.fixture(scope="module")
def transforms(fmllr_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all tested speakers, from a first pass by the GMM; the tests must not write into it."""
    out = tmp_path_factory.mktemp("transforms")
    assert main(fmllr_world.command(out, "--all-speakers", "fmllr.min_frames=300")) == 0
    return out


def copy_alignments(model: Path, other: Path) -> None:
    """What training did before the network, so that another one need not do it again."""
    for stage in ("gmm", "gmm_features", "fmllr"):
        shutil.copytree(model / "work" / stage, other / "work" / stage)


def wer(text: str) -> float:
    return float(text.split()[1])


def test_the_flags_are_these() -> None:
    assert flags_of(build_parser()) == {
        "--model", "--data", "--speaker", "--speaker-list", "--all-speakers", "--out", "--keep-going",
        "--allow-commands", "--text",
    }  # fmt: skip


def test_training_says_what_the_rounds_gave(fmllr_world: TinyWorld) -> None:
    page = read_json(fmllr_world.model / "build.json")
    assert page["fmllr"]["log_like_per_frame"] > page["gmm"]["log_like_per_frame"]
    assert page["fmllr"]["speakers_without_transform"] == 0
    assert load_system(fmllr_world.model).wants_transforms


def test_transforms_help_and_lhuc_goes_on_top(
    fmllr_world: TinyWorld, transforms: Path, tmp_path: Path, run: Run
) -> None:
    found = SpeakerTransforms.load(transforms)
    assert {*found} == {*TESTED} and not found.unchanged
    code, out, err = run(decode.main, fmllr_world.command(tmp_path / "with", "--transforms", str(transforms)))
    assert code == 0, err
    code, without, _ = run(decode.main, fmllr_world.command(tmp_path / "without", "--no-transforms"))
    assert code == 0
    assert wer(out) < wer(without)
    pages = [json.loads((tmp_path / name / "decode.json").read_text()) for name in ("with", "without")]
    assert [page["transforms"] for page in pages] == [found.sha256, None]
    flags = ["--all-speakers", "--transforms", str(transforms)]
    code, _, err = run(adapt.main, fmllr_world.command(tmp_path / "lhuc", *flags))
    assert code == 0, err
    first = read_hypotheses(tmp_path / "lhuc" / "si")
    assert {name: one.text for name, one in first.items()} == {
        name: one.text for name, one in read_hypotheses(tmp_path / "with").items()
    }
    assert read_json(tmp_path / "lhuc" / "results.json")["transforms"] == found.sha256


def test_words_of_another_model_may_be_given(
    fmllr_world: TinyWorld, transforms: Path, tmp_path: Path, run: Run
) -> None:
    code, _, err = run(
        main, fmllr_world.command(tmp_path / "a", "--text", str(transforms / "first_pass"), "fmllr.min_frames=300")
    )
    assert code == 0, err
    given, own = SpeakerTransforms.load(tmp_path / "a"), SpeakerTransforms.load(transforms)
    for speaker in own:
        np.testing.assert_allclose(given[speaker].matrix, own[speaker].matrix)
    code, _, err = run(main, fmllr_world.command(tmp_path / "b", "--text", str(fmllr_world.train / "text")))
    assert code == 2 and "none of the 18 utterances has words" in err


def test_enrolment_learns_from_enrolment_alone(fmllr_world: TinyWorld, tmp_path: Path, run: Run) -> None:
    settings = ["protocol=enrolment", "protocol.num_utterances=1", "fmllr.min_frames=200"]
    code, out, err = run(main, fmllr_world.command(tmp_path, "--speaker", "eve", *settings))
    assert code == 0, err
    assert len(read_hypotheses(tmp_path / "first_pass")) == 1
    assert "eve: features stay as they are" in out and "200 needed" in out
    assert list(SpeakerTransforms.load(tmp_path).unchanged) == ["eve"]


def test_features_as_they_are_and_transformed_ones_do_not_mix(
    world: TinyWorld, fmllr_world: TinyWorld, transforms: Path, tmp_path: Path, run: Run
) -> None:
    code, _, err = run(decode.main, fmllr_world.command(tmp_path))
    assert code == 2 and "give --transforms DIR of lhuc-fmllr" in err
    code, _, err = run(decode.main, world.command(tmp_path, "--transforms", str(transforms)))
    assert code == 2 and "was trained without speakers' transforms" in err
    code, _, err = run(main, world.command(tmp_path))
    assert code == 2 and "trained with fmllr=sat" in err
    assert not list(tmp_path.iterdir())


def test_transforms_of_another_model_or_speaker_are_refused(
    fmllr_world: TinyWorld, transforms: Path, tmp_path: Path, run: Run
) -> None:
    found = SpeakerTransforms.load(transforms)
    replace(found, model="other").save(tmp_path / "foreign")
    code, _, err = run(decode.main, fmllr_world.command(tmp_path / "a", "--transforms", str(tmp_path / "foreign")))
    assert code == 2 and "with fingerprint 'other'" in err
    replace(found, transforms={"eve": found["eve"]}).save(tmp_path / "few")
    code, _, err = run(decode.main, fmllr_world.command(tmp_path / "b", "--transforms", str(tmp_path / "few")))
    assert code == 2 and "2 speakers have no transform, such as '12_3'" in err


def test_a_model_directory_without_its_mixtures_is_refused(fmllr_world: TinyWorld, tmp_path: Path, run: Run) -> None:
    copy = shutil.copytree(fmllr_world.model, tmp_path / "si", ignore=shutil.ignore_patterns("work"))
    (copy / "fmllr" / "adapted.safetensors").unlink()
    code, _, err = run(main, replace(fmllr_world, model=copy).command(tmp_path / "out"))
    assert code == 2 and "has no 'fmllr/adapted.safetensors'" in err


def test_scales_of_training_speakers_are_learnt_on_transformed_features(
    fmllr_world: TinyWorld, transforms: Path, tmp_path: Path, run: Run
) -> None:
    model = tmp_path / "sat"
    copy_alignments(fmllr_world.model, model)
    beside = "features.fbank.num_mel_bins=17"  # of a kind that is not computed
    code, _, err = run(train.main, commanded(fmllr_world, model, "fmllr=sat", "sat=frame", "sat.share=0.5", beside))
    assert code == 0, err
    assert "fmllr: up to date" in err
    assert load_system(model).wants_transforms and (model / "speakers").is_dir()
    assert load_system(model).fingerprint != load_system(fmllr_world.model).fingerprint
    adaptive = replace(fmllr_world, model=model)
    words = ["--text", str(transforms / "first_pass"), "fmllr.min_frames=300"]
    code, _, err = run(main, adaptive.command(tmp_path / "transforms", *words))
    assert code == 0, err
    flags = ["--all-speakers", "--transforms", str(tmp_path / "transforms")]
    code, out, err = run(adapt.main, adaptive.command(tmp_path / "lhuc", *flags))
    assert code == 0 and "SI " in out, err


def test_every_speed_of_a_speaker_has_a_transform_of_its_own(fmllr_world: TinyWorld, tmp_path: Path, run: Run) -> None:
    model, known = tmp_path / "si", SpeakerTransforms.load(fmllr_world.model / "work" / "fmllr")
    copy_alignments(fmllr_world.model, model)
    code, _, err = run(train.main, commanded(fmllr_world, model, "fmllr=sat", "perturbation.speeds=[0.9,1.0]"))
    assert code == 0 and "fmllr: up to date" in err, err
    slower = SpeakerTransforms.load(model / "work" / "fmllr_perturbed")
    assert {*slower} == {f"sp0.9-{speaker}" for speaker in known} and not slower.unchanged
    assert all(np.abs(slower[f"sp0.9-{speaker}"].matrix - one.matrix).max() > 0.01 for speaker, one in known.items())
    assert load_system(model).wants_transforms


CHAIN = ["fmllr=sat", "criterion=lfmmi", "training.newbob.max_epochs=1"]


def test_a_network_of_other_states_is_tuned_by_the_words_of_another_model(
    fmllr_world: TinyWorld, transforms: Path, tmp_path: Path, run: Run
) -> None:
    model = tmp_path / "si"
    copy_alignments(fmllr_world.model, model)
    dev = ["--dev", str(fmllr_world.test), "tuning.acoustic_scales=[0.3]", "tuning.insertion_penalties=[0.0]"]
    code, _, err = run(train.main, commanded(fmllr_world, model, *CHAIN, *dev))
    assert code == 2 and "--dev-words DIR of lhuc-decode" in err and not (model / "model.json").exists()
    words = ["--dev-words", str(transforms / "first_pass")]
    code, out, err = run(train.main, commanded(fmllr_world, model, *CHAIN, *dev, *words))
    assert code == 0 and f"WER % on {fmllr_world.test}:" in out, err
    assert {*SpeakerTransforms.load(model / "work" / "dev_transforms")} == {*TESTED}


def test_words_of_development_speech_need_a_use(
    world: TinyWorld, fmllr_world: TinyWorld, transforms: Path, tmp_path: Path, run: Run
) -> None:
    words = ["--dev-words", str(transforms / "first_pass")]
    code, _, err = run(train.main, commanded(fmllr_world, tmp_path / "a", "fmllr=sat", *words))
    assert code == 2 and "--dev DIR, which was not given" in err
    code, _, err = run(train.main, world.train_command(tmp_path / "b", "--dev", str(world.test), *words))
    assert code == 2 and "only models of fmllr=sat need" in err


def going_on(world: TinyWorld, out: Path, *settings: str) -> list[str]:
    """Training that begins with the world's model."""
    return commanded(world, out, f"criterion.start={world.model}", "fmllr=sat", "fmllr.min_frames=300", *settings)


def test_sequence_training_goes_on_from_transformed_features(
    fmllr_world: TinyWorld, transforms: Path, tmp_path: Path, run: Run
) -> None:
    model, small_steps = tmp_path / "smbr", ["training.newbob.initial_lr=0.0001", "training.newbob.max_epochs=2"]
    code, _, err = run(train.main, going_on(fmllr_world, model, "criterion=smbr", *small_steps))
    assert code == 0, err
    kept = SpeakerTransforms.load(fmllr_world.model / "work" / "fmllr")
    made = SpeakerTransforms.load(model / "work" / "transforms")
    assert made.keys() == kept.keys() and not made.unchanged
    for speaker in kept:  # of the same speech by the same mixtures, from other first alignments
        assert np.median(np.abs(made[speaker].matrix - kept[speaker].matrix)) < 0.05
    page = read_json(model / "build.json")
    assert page["transforms"] == {"speakers_without_transform": 0} and page["lattices"]["failed"] == 0
    start, then = load_system(fmllr_world.model), load_system(model)
    assert then.wants_transforms and then.fingerprint != start.fingerprint
    assert not (model / "work" / "gmm").exists()
    adaptive = replace(fmllr_world, model=model)
    words = ["--text", str(transforms / "first_pass"), "fmllr.min_frames=300"]
    code, _, err = run(main, adaptive.command(tmp_path / "transforms", *words))
    assert code == 0, err
    own, of_start = SpeakerTransforms.load(tmp_path / "transforms"), SpeakerTransforms.load(transforms)
    for speaker in own:  # by the same mixtures
        np.testing.assert_allclose(own[speaker].matrix, of_start[speaker].matrix)
    flags = ["--all-speakers", "--transforms", str(tmp_path / "transforms")]
    code, out, err = run(adapt.main, adaptive.command(tmp_path / "lhuc", *flags))
    assert code == 0 and "SI " in out, err


def test_training_goes_on_exactly_where_transformed_features_led(
    fmllr_world: TinyWorld, tmp_path: Path, run: Run
) -> None:
    still = ["training=continued", "training.newbob.max_epochs=1", "training.newbob.initial_lr=1e-30"]
    code, _, err = run(train.main, going_on(fmllr_world, tmp_path, *still, "perturbation.speeds=[0.9,1.0]"))
    assert code == 0, err
    assert f"the alignments in '{fmllr_world.model / 'work' / 'fmllr'}' are kept" in err
    assert load_system(tmp_path).fingerprint == load_system(fmllr_world.model).fingerprint
    speakers = SpeakerTransforms.load(fmllr_world.model / "work" / "fmllr").keys()
    assert SpeakerTransforms.load(tmp_path / "work" / "transforms").keys() == {
        *speakers, *(f"sp0.9-{speaker}" for speaker in speakers)
    }  # fmt: skip


def test_that_a_model_wants_transforms_must_be_said(fmllr_world: TinyWorld, tmp_path: Path, run: Run) -> None:
    typed = [one for one in going_on(fmllr_world, tmp_path, "criterion=smbr") if one != "fmllr=sat"]
    code, _, err = run(train.main, typed)
    assert code == 2 and "was trained on transformed features: add fmllr=sat" in err


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["features.delta_order=1"], "features and gmm_features differ (mfcc of 26 values, mfcc of 39)"),
        (["criterion=ctc"], "needs tied states, which criterion=ctc does without"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    world: TinyWorld, tmp_path: Path, run: Run, settings: list[str], told: str
) -> None:
    code, _, err = run(train.main, commanded(world, tmp_path / "si", "fmllr=sat", *settings))
    assert code == 2 and told in err
