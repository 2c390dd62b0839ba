"""Training that begins with a finished model, as it is typed: weights, states, words, alignments where kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.tones import Run, TinyWorld
from lhuc_asr.cli import adapt, decode, train
from lhuc_asr.hmm.alignment import AlignmentSet
from lhuc_asr.system.model_directory import load_system
from lhuc_asr.system.trained_objective import objective_path, read_objective
from lhuc_asr.system.trained_scales import TrainedScales

STILL = ["training=continued", "training.newbob.max_epochs=1", "training.newbob.initial_lr=1e-30"]
"""Steps too small for float32: what comes out is what training began with."""
TDNN = ["model.kind=tdnn", "model.hidden_dim=16", "model.dilations=[1,3]", "model.subsampling=3"]
SHORT = ["training=adam", "training.newbob.max_epochs=1", "training.newbob.initial_lr=0.01"]
SHORT += ["training.sequences.max_frames=400"]
SHORT += ["chain.min_occupancy=10", "chain.num_leaves=30"]
SEEN_BY_GMM = ["gmm_features.kind=fbank", "gmm_features.fbank.num_mel_bins=16", "gmm_features.delta_order=0"]
"""The network's features for the GMM, too."""


def without(path: Path, target: Path, *parts: str) -> Path:
    """A copy of a model directory that lacks parts of its work."""
    shutil.copytree(path, target)
    for part in parts:
        shutil.rmtree(target / "work" / part)
    return target


def command(world: TinyWorld, out: Path, start: Path, *settings: str) -> list[str]:
    """Training on, from features that were taken before."""
    if not (out / "work").exists():
        shutil.copytree(world.model / "work" / "features", out / "work" / "features")
    typed = world.train_command(out, f"criterion.start={start}", *settings)
    is_dnn = not any(setting.startswith("model.kind") for setting in settings)
    return [one for one in typed if is_dnn or not one.startswith(("model=", "model.context"))]


def weights(model: Path) -> dict[str, torch.Tensor]:
    return dict(load_system(model).network.state_dict())


def test_training_begins_exactly_with_the_finished_model(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, _, err = run(train.main, command(world, tmp_path, world.model, *STILL))
    assert code == 0, err
    start, model = load_system(world.model), load_system(tmp_path)
    assert model.fingerprint == start.fingerprint and model.decoding == start.decoding
    assert model.lm_path.read_bytes() == start.lm_path.read_bytes()
    assert model.graph_path.read_bytes() == start.graph_path.read_bytes()
    assert f"the alignments in '{world.model / 'work' / 'gmm'}' are kept" in err
    assert not (tmp_path / "work" / "gmm").exists()
    code, _, err = run(train.main, command(world, tmp_path, world.model, *STILL))
    assert code == 0
    assert all(f"{stage}: up to date" in err for stage in ("start", "network-0", "model"))


def test_it_learns_from_there_and_can_be_begun_with_again(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    steps = ["training=continued", "training.newbob.max_epochs=1", "training.newbob.initial_lr=0.001"]
    code, _, err = run(train.main, command(world, tmp_path / "once", world.model, *steps))
    assert code == 0, err
    learnt, begun = weights(tmp_path / "once"), weights(world.model)
    assert not any(torch.equal(learnt[name], begun[name]) for name in begun)
    code, _, err = run(train.main, command(world, tmp_path / "twice", tmp_path / "once", *STILL))
    assert code == 0, err
    assert f"the alignments in '{tmp_path / 'once' / 'work' / 'start'}' are kept" in err
    assert load_system(tmp_path / "twice").fingerprint == load_system(tmp_path / "once").fingerprint


def test_speaker_adaptive_training_begins_there_and_folds(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    still, moved = tmp_path / "still", tmp_path / "moved"
    code, _, err = run(train.main, command(world, still, world.model, *STILL, "sat=frame"))
    assert code == 0, err
    for name, wanted in weights(world.model).items():
        torch.testing.assert_close(weights(still)[name], wanted, rtol=1e-6, atol=1e-7)
    scales_alone = ["training.newbob.initial_lr=1e-9", "sat.lr_factor=1e7", "sat.learn_independent=false"]
    code, _, err = run(train.main, command(world, moved, world.model, *STILL[:2], *scales_alone, "sat=frame"))
    assert code == 0, err
    scales = TrainedScales.load(moved / "work" / "network-0")
    assert scales is not None and bool((scales.r[1:].abs().amax(dim=1) > 1e-3).sum() >= 3)
    for name, wanted in weights(world.model).items():
        torch.testing.assert_close(weights(moved)[name], wanted, rtol=1e-4, atol=1e-5)
    flags = ["--model", str(moved), "--data", str(world.test), "--speaker", "eve", "runtime=one_core"]
    code, _, err = run(decode.main, [*flags, "--out", str(tmp_path / "words")])
    assert code == 0, err
    code, out, err = run(adapt.main, [*flags, "--out", str(tmp_path / "lhuc"), "adapt.min_seconds=0.5"])
    assert code == 0 and "objective" in out, err


def test_alignments_are_made_anew_where_none_are_kept(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    start = without(world.model, tmp_path / "si", "gmm")
    code, _, err = run(train.main, command(world, tmp_path / "out", start, *STILL))
    assert code == 0, err
    assert f"the network of '{start}' aligns the speech" in err
    made, kept = (AlignmentSet.load(path) for path in (tmp_path / "out/work/start", world.model / "work/gmm"))
    assert made.alignments.keys() == kept.alignments.keys()
    frames = [np.mean(made.alignments[name] == path) for name, path in kept.alignments.items()]
    assert np.mean(frames) > 0.5


def test_alignments_of_a_part_of_the_speech_are_kept(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    data = shutil.copytree(world.train, tmp_path / "train")
    for table in ("text", "utt2spk", "wav.scp"):
        rows = (data / table).read_text().splitlines(keepends=True)
        (data / table).write_text("".join(row for row in rows if not row.startswith("ann")))
    typed = [*command(world, tmp_path / "out", world.model, *STILL), "build.valid_fraction=0.34"]
    typed[typed.index(str(world.train))] = str(data)
    code, _, err = run(train.main, typed)
    assert code == 0 and "are kept" in err, err
    assert len(AlignmentSet.load(tmp_path / "out" / "work" / "start").alignments) == 36


def test_alignments_of_other_words_are_not_kept(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    data = shutil.copytree(world.train, tmp_path / "train")
    rows = (data / "text").read_text().splitlines()
    (data / "text").write_text("\n".join([f"{rows[0].split()[0]} TWO TWO TWO", *rows[1:]]) + "\n")
    typed = command(world, tmp_path / "out", world.model, *STILL)
    typed[typed.index(str(world.train))] = str(data)
    code, _, err = run(train.main, typed)
    assert code == 0, err
    assert f"are not kept: utterance '{rows[0].split()[0]}' says something else" in err
    assert "aligns the speech" in err


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["model.hidden_dim=31"], "is another model than was asked for: model.hidden_dim is"),
        (["features.fbank.num_mel_bins=17"], "features.fbank.num_mel_bins is 16 there, 17 was asked for"),
        (["criterion=lfmmi"], "was trained by cross_entropy; criterion=lfmmi goes on from lfmmi"),
        (["build.num_realignments=1"], "build.num_realignments trains networks from random weights"),
        (["fmllr=sat", *SEEN_BY_GMM], "was trained without speakers' transforms: leave out fmllr.sat_rounds"),
    ],
)
def test_another_model_is_refused(world: TinyWorld, tmp_path: Path, run: Run, settings: list[str], told: str) -> None:
    code, _, err = run(train.main, command(world, tmp_path, world.model, *STILL, *settings))
    assert code == 2
    assert told in err and err.count("\n") <= 2
    assert not (tmp_path / "work" / "start").exists()


def test_other_words_are_refused_and_so_is_its_own_place(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    sentences = tmp_path / "text"
    sentences.write_text("ONE TWO\n")
    code, _, err = run(train.main, [*command(world, tmp_path / "a", world.model, *STILL), "--text", str(sentences)])
    assert code == 2 and "leave out --text, --mix-text and --arpa" in err
    model = without(world.model, tmp_path / "si")
    code, _, err = run(train.main, command(world, model, model, *STILL))
    assert code == 2 and "choose another --out" in err
    code, _, err = run(train.main, command(world, tmp_path / "b", tmp_path / "none", *STILL))
    assert code == 2 and "there is no model directory" in err


@pytest.mark.parametrize("criterion", ["lfmmi", "ctc"])
def test_criteria_of_whole_utterances_go_on_as_well(criterion: str, world: TinyWorld, tmp_path: Path, run: Run) -> None:
    kind, begun, out = [*TDNN, f"criterion={criterion}"], tmp_path / "begun", tmp_path / "out"
    for stage in ("gmm", "gmm_features", "features"):
        shutil.copytree(world.model / "work" / stage, begun / "work" / stage)
    typed = world.train_command(begun, *SHORT, *kind)
    code, _, err = run(train.main, [one for one in typed if not one.startswith(("model=", "model.context"))])
    assert code == 0, err
    code, _, err = run(train.main, command(world, out, begun, *kind, *SHORT[3:], *STILL))
    assert code == 0, err
    first, then = load_system(begun), load_system(out)
    for name, begun_with in first.network.named_parameters():  # running statistics of batch normalisation move on
        assert torch.equal(then.network.get_parameter(name), begun_with)
    assert objective_path(out).is_file() is (criterion == "lfmmi")
    if criterion == "lfmmi":
        told = [read_objective(system) for system in (first, then)]
        assert told[0] is not None and told[1] is not None
        assert torch.equal(told[0].log_prior, told[1].log_prior)
        code, _, err = run(
            train.main, command(world, tmp_path / "lost", without(begun, tmp_path / "si", "gmm"), *kind, *STILL)
        )
        assert code == 2 and "its network cannot align every frame" in err
