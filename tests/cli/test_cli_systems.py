"""Every kind of network and each criterion from speech to adapted words, as they are typed."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.tones import Run, TinyWorld
from lhuc_asr.cli import adapt, decode, train
from lhuc_asr.data.audio import write_audio
from lhuc_asr.data.load import load_manifest
from lhuc_asr.decoding.lattices.store import read_lattices
from lhuc_asr.decoding.words.hypothesis import read_hypotheses
from lhuc_asr.files import read_json
from lhuc_asr.system.model_directory import load_system
from lhuc_asr.system.trained_objective import objective_path

ADAM = ["training=adam", "training.newbob.max_epochs=6", "training.newbob.initial_lr=0.01"]
ADAM += ["training.sequences.max_frames=400", "chain.min_occupancy=10", "chain.num_leaves=30"]
CTC_EPOCHS = ["training.newbob.min_epochs=8", "training.newbob.max_epochs=10"]
SYSTEMS = {
    "cnn": ["model.kind=cnn", "model.num_filters=8", "model.num_layers=1", "model.hidden_dim=32"],
    "tdnn": ["model.kind=tdnn", "model.hidden_dim=32", "model.dilations=[1,1,2]"],
    "tdnn every third frame": [
        *("model.kind=tdnn", "model.hidden_dim=48", "model.dilations=[1,3]", "model.subsampling=3"),
        "training.newbob.max_epochs=12",
    ],
    "lfmmi": [
        *("model.kind=tdnnf", "model.hidden_dim=32", "model.bottleneck_dim=8", "model.dilations=[1,1,3]"),
        *("model.subsampling=3", "criterion=lfmmi", "training.newbob.max_epochs=12"),
    ],
    "lfmmi in pieces": [
        *("model.kind=tdnnf", "model.hidden_dim=32", "model.bottleneck_dim=8", "model.dilations=[1,1,3]"),
        *("model.subsampling=3", "criterion=lfmmi", "training.newbob.max_epochs=12"),
        *("training.sequences.longest=60", "training.sequences.chunk_context=6"),
    ],
    "blstm": ["model.kind=blstm", "model.hidden_dim=16", "model.num_layers=1"],
    "dnn of today": [
        *("model.kind=dnn", "model.num_layers=2", "model.hidden_dim=48", "model.context=3", "model.activation=relu"),
        *("model.batch_norm=true", "model.dropout=0.1", "training.label_smoothing=0.1", "training.num_averaged=2"),
    ],
    "maxout": ["model.kind=maxout", "model.num_layers=2", "model.hidden_dim=32", "model.context=3"],
    "conformer that follows streams": [
        *("model.kind=conformer", "model.num_layers=1", "model.stream_dim=16", "model.hidden_dim=32"),
        *("model.num_heads=2", "model.kernel_size=7", "model.num_channels=8", "model.chunk_size=10"),
    ],
    "ctc of phones": [
        *("model.kind=tdnn", "model.hidden_dim=32", "model.dilations=[1,3]", "model.subsampling=3"),
        *("criterion=ctc", *CTC_EPOCHS),
    ],
    "ctc of characters": [
        *("model.kind=tdnn", "model.hidden_dim=32", "model.dilations=[1,2,6]", "model.subsampling=2"),
        *("criterion=ctc", "criterion.ctc.units=characters", *CTC_EPOCHS),
    ],
    "ctc of word pieces": [
        *("model.kind=tdnn", "model.hidden_dim=32", "model.dilations=[1,2,6]", "model.subsampling=2"),
        *("criterion=ctc", "criterion.ctc.units=pieces", "criterion.ctc.num_pieces=24", *CTC_EPOCHS),
    ],
}
CRITERIA = {
    "lfmmi": [
        ["adapt=lfmmi"],
        ["adapt=lfmmi_lattice"],
        ["adapt=lfmmi", "adapt.supervision=oracle", "adapt.smoothing=0.1"],
    ],
    "ctc of phones": [["adapt=ctc"]],
    "tdnn": [["adapt=smbr"]],
}
"""How else these are adapted."""
STATES = {"tdnn every third frame": 1, "lfmmi": 1, "lfmmi in pieces": 1}
STATES |= {"ctc of phones": 2, "ctc of characters": 2, "ctc of word pieces": 2}


def trained(world: TinyWorld, out: Path, run: Run, *settings: str) -> Path:
    """A model of other kind on the alignments of the one that all tests share."""
    needs_gmm = not {"criterion=ctc", "criterion=smbr"} & {*settings}
    for stage in ("gmm", "gmm_features", "features") if needs_gmm else ("features",):
        shutil.copytree(world.model / "work" / stage, out / "work" / stage)
    command = world.train_command(out, *ADAM, *settings)
    command = [argument for argument in command if not argument.startswith(("model=", "model.context"))]
    code, _, err = run(train.main, command)
    assert code == 0, err
    assert ("gmm: up to date" in err) is needs_gmm
    assert (out / "work" / "gmm").exists() is needs_gmm
    return out


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_is_trained_decoded_and_adapted(name: str, world: TinyWorld, tmp_path: Path, run: Run) -> None:
    model = trained(world, tmp_path / "si", run, *SYSTEMS[name])
    system = load_system(model)
    assert system.hmm.num_states == STATES.get(name, 3)
    assert objective_path(model).is_file() is name.startswith("lfmmi")
    flags = ["--model", str(model), "--data", str(world.test), "--speaker", "eve", "runtime=one_core"]
    code, out, err = run(decode.main, [*flags, "--out", str(tmp_path / "words")])
    assert code == 0, err
    assert float(out.split()[1]) < 25
    if name.startswith("ctc"):
        _assert_decoded_greedily(model, flags, tmp_path / "greedy", run)
    for settings in ([], *CRITERIA.get(name, [])):
        command = [*flags, "--out", str(tmp_path / "lhuc"), "adapt.min_seconds=0.5", *settings]
        code, out, err = run(adapt.main, command)
        assert code == 0, err
        assert (", criterion " in out) is bool(settings)
        before, after = re.search(r"objective (\S+) -> ([^\s,]+)", out).groups()  # type: ignore[union-attr]
        assert float(after) <= float(before)
        code, out, err = run(adapt.main, command)
        assert code == 0, err
        assert "(done before)" in out


def _assert_decoded_greedily(model: Path, flags: list[str], out: Path, run: Run) -> None:
    """What the network hears is what a plain collapse of its best outputs gives; nothing keeps it to the lexicon."""
    code, said, err = run(decode.main, [*flags, "--out", str(out), "--greedy"])
    assert code == 0, err
    system, found = load_system(model), read_hypotheses(out)
    spells = system.hmm.phones[0] in system.hmm.phones[1:] or "▁" in "".join(system.hmm.phones)
    assert ("%WER" in said) is spells and ("phones were written down" in said) is not spells
    assert read_json(out / "decode.json")["greedy"] is True
    assert {one.frame_shift_ms for one in found.values()} == {system.output_shift_ms}
    silence = system.hmm.phones[0]
    for hypothesis in found.values():
        outputs = system.hmm.pdfs(hypothesis.transition_ids)
        kept = [int(outputs[t]) for t in range(len(outputs)) if outputs[t] and (t == 0 or outputs[t] != outputs[t - 1])]
        heard = "".join(system.hmm.phones[label] for label in kept)
        written = heard.replace(silence, "").replace("▁", "")
        assert "".join(word.text for word in hypothesis.words).replace("▁", "") == written


@pytest.mark.parametrize(
    ("settings", "prefixes"),
    [
        (["perturbation=speed"], {"", "sp0.9-", "sp1.1-"}),
        (["perturbation.num_copies=1", "perturbation.warp=0.1", "perturbation.level_db=3"], {"", "aug1-"}),
        (["perturbation=rooms_and_noise", "perturbation.noise.kinds=[files]"], {"", "aug1-"}),
    ],
)
def test_perturbed_speech_makes_another_network(
    world: TinyWorld, tmp_path: Path, run: Run, settings: list[str], prefixes: set[str]
) -> None:
    if "perturbation=rooms_and_noise" in settings:
        hum = 0.1 * np.sin(np.arange(4000) / 9).astype(np.float32)
        write_audio(tmp_path / "noises" / "hum.wav", hum, 8000)
        settings = [*settings, f"perturbation.noise.folder={tmp_path / 'noises'}"]
    model = trained(world, tmp_path / "si", run, *SYSTEMS["tdnn"], *settings, "training.newbob.max_epochs=1")
    speech = (model / "work" / "features" / "utt2num_frames").read_text()
    assert {line.split()[0] for line in speech.splitlines()} == {
        f"{prefix}{utterance.id}" for prefix in prefixes for utterance in load_manifest(world.train)
    }
    assert load_system(model).fingerprint != load_system(world.model).fingerprint


def test_realigning_asks_for_an_output_for_every_frame(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    command = world.train_command(tmp_path / "si", "model.kind=tdnnf", "criterion=lfmmi", "build.num_realignments=1")
    command = [argument for argument in command if not argument.startswith(("model=", "model.context"))]
    code, _, err = run(train.main, command)
    assert code == 2
    assert "build.num_realignments needs an output for every frame" in err
    assert not (tmp_path / "si" / "work").exists()


CTC = [*ADAM, *SYSTEMS["ctc of phones"], "training.newbob.min_epochs=0", "training.newbob.max_epochs=1"]


def with_texts(world: TinyWorld, out: Path, texts: list[str]) -> TinyWorld:
    """The same world, but these are the transcripts of its first utterances."""
    shutil.copytree(world.train, out)
    rows = [row.split(maxsplit=1) for row in (out / "text").read_text().splitlines()]
    texts = [*texts, *(text for _, text in rows[len(texts) :])]
    (out / "text").write_text("".join(f"{name} {text}\n" for (name, _), text in zip(rows, texts, strict=True)))
    return replace(world, train=out)


def test_ctc_leaves_out_what_is_too_short_for_its_transcript(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    changed = with_texts(world, tmp_path / "train", [" ".join(["ONE"] * 50)])
    command = changed.train_command(tmp_path / "si", *CTC)
    code, _, err = run(train.main, [one for one in command if not one.startswith(("model=", "model.context"))])
    assert code == 0, err
    assert "1 of 48 utterances cannot be learnt from, such as 'ann-00': " in err
    assert "outputs of the network, 150 needed; they are left out" in err
    assert read_json(tmp_path / "si" / "build.json")["ctc"] == {"outputs": 7, "left_out": 1, "left_out_share": 0.02083}


def test_ctc_stops_where_most_speech_is_too_short(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    changed = with_texts(world, tmp_path / "train", [" ".join(["ONE"] * 50)] * 30)
    command = changed.train_command(tmp_path / "si", *CTC)
    code, _, err = run(train.main, [one for one in command if not one.startswith(("model=", "model.context"))])
    assert code == 2
    assert "30 of 48 utterances cannot be learnt from, such as 'ann-00': " in err


TDNN = SYSTEMS["tdnn"]


@pytest.fixture(scope="module")
def start(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished system that is not very good; the tests must not write into it."""
    out = tmp_path_factory.mktemp("start") / "si"
    for stage in ("gmm", "gmm_features", "features"):
        shutil.copytree(world.model / "work" / stage, out / "work" / stage)
    command = world.train_command(out, *ADAM, *TDNN, "training.newbob.max_epochs=2")
    assert train.main([one for one in command if not one.startswith(("model=", "model.context"))]) == 0
    return out


def test_smbr_raises_the_expected_accuracy_of_a_finished_system(
    world: TinyWorld, start: Path, tmp_path: Path, run: Run
) -> None:
    small_steps = ["training.newbob.initial_lr=0.001", "training.newbob.max_epochs=4", "training.newbob.min_epochs=4"]
    model = trained(world, tmp_path / "smbr", run, *TDNN, "criterion=smbr", f"criterion.start={start}", *small_steps)
    history = read_json(model / "work" / "network-0" / "history.json")
    assert history[-1]["train_accuracy"] > history[0]["train_accuracy"]
    report = read_json(model / "build.json")
    assert report["lattices"]["failed"] == 0 and 0 <= report["lattices"]["missing_share"] < 0.5
    assert len(read_lattices(model / "work" / "lattices")) == 48
    first, then = load_system(start), load_system(model)
    assert then.fingerprint != first.fingerprint and then.decoding == first.decoding
    assert then.lm_path.read_bytes() == first.lm_path.read_bytes()
    flags = ["--model", str(model), "--data", str(world.test), "--speaker", "eve", "runtime=one_core"]
    code, out, err = run(decode.main, [*flags, "--out", str(tmp_path / "words")])
    assert code == 0, err
    assert float(out.split()[1]) < 25
    code, out, err = run(adapt.main, [*flags, "--out", str(tmp_path / "lhuc"), "adapt.min_seconds=0.5"])
    assert code == 0, err
    before, after = re.search(r"objective (\S+) -> ([^\s,]+)", out).groups()  # type: ignore[union-attr]
    assert float(after) < float(before), "adapted by the cross-entropy of frames"


def test_smbr_is_done_once_wherever_its_start_lies(world: TinyWorld, start: Path, tmp_path: Path, run: Run) -> None:
    once = [*TDNN, "criterion=smbr", "training.newbob.max_epochs=1"]
    model = trained(world, tmp_path / "smbr", run, *once, f"criterion.start={start}")
    moved = shutil.copytree(start, tmp_path / "moved")
    command = world.train_command(model, *ADAM, *once, f"criterion.start={moved}")
    code, _, err = run(train.main, [one for one in command if not one.startswith(("model=", "model.context"))])
    assert code == 0, err
    for stage in ("references", "lattices", "network-0", "model"):
        assert f"{stage}: up to date" in err


def test_smbr_goes_on_from_outputs_for_every_third_frame(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    shape = SYSTEMS["tdnn every third frame"]
    start = trained(world, tmp_path / "si", run, *shape, "training.newbob.max_epochs=2")
    small_steps = ["training.newbob.initial_lr=0.001", "training.newbob.max_epochs=1"]
    model = trained(world, tmp_path / "smbr", run, *shape, "criterion=smbr", f"criterion.start={start}", *small_steps)
    lattices = read_lattices(model / "work" / "lattices").values()
    assert sum(lattice.num_frames for lattice in lattices) == read_json(model / "build.json")["lattices"]["frames"]
    assert load_system(model).hmm.num_states == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["model.kind=tdnn", "model.hidden_dim=31", "model.dilations=[1,1,2]"], "model.hidden_dim is 32 there, 31 was"),
        ([*TDNN, "features.fbank.num_mel_bins=17"], "features.fbank.num_mel_bins is 16 there, 17 was"),
    ],
)
def test_smbr_refuses_another_model(
    world: TinyWorld, start: Path, tmp_path: Path, run: Run, settings: list[str], told: str
) -> None:
    command = world.train_command(tmp_path / "smbr", *ADAM, *settings, "criterion=smbr", f"criterion.start={start}")
    command = [one for one in command if not one.startswith(("model=", "model.context"))]
    code, _, err = run(train.main, command)
    assert code == 2
    assert told in err


def test_smbr_needs_a_model_to_begin_with(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, _, err = run(train.main, world.train_command(tmp_path / "smbr", "criterion=smbr"))
    assert code == 2
    assert "criterion.start names the model directory" in err
