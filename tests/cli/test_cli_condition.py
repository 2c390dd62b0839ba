"""``lhuc-condition`` and what ``lhuc-decode --conditioned`` makes of it, as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from helpers.tones import ONE_CORE, Adapted, Run, TinyWorld, changed_since, flags_of, times_of
from lhuc_asr.cli import adapt, decode, profiles
from lhuc_asr.cli.condition import build_parser, main
from lhuc_asr.data.load import load_manifest
from lhuc_asr.data.splits import hold_out_speakers
from lhuc_asr.decoding.words.hypothesis import read_hypotheses
from lhuc_asr.models import streaming
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.system.model_directory import load_system

SHORT = [
    *("condition=few_speakers", "condition.projection.num_dims=2", "condition.frames_per_epoch=2000"),
    *("condition.training.newbob.max_epochs=2", "build.valid_fraction=0.25", "runtime=one_core"),
]


def words_of(directory: Path) -> dict[str, str]:
    return {name: item.text for name, item in read_hypotheses(directory).items()}


@pytest.fixture(scope="module")
def gate(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gate for the world's model; tests must not write into it."""
    out = tmp_path_factory.mktemp("gate")
    assert main(command(world, out)) == 0
    return out


def command(world: TinyWorld, out: Path, *more: str) -> list[str]:
    return ["--model", str(world.model), "--data", str(world.train), "--out", str(out), *SHORT, *more]


def test_the_flags_are_these() -> None:
    assert flags_of(build_parser()) == {"--model", "--data", "--out", "--scales", "--allow-commands"}


def test_a_gate_belongs_to_its_model_and_tells_how_it_was_trained(world: TinyWorld, gate: Path) -> None:
    page = json.loads((gate / "condition.json").read_text())
    assert page["base_fingerprint"] == load_system(world.model).fingerprint
    assert page["report"]["held_out"].keys() == {"without", "average", "heard", "num_speakers"}
    assert page["report"]["held_out"]["num_speakers"] == 1
    assert page["settings"]["projection"]["num_dims"] == 2
    assert (gate / "provenance.json").is_file() and (gate / "config.yaml").is_file()


def test_vectors_of_held_out_speakers_alone_are_refused_at_once(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    (held_out,) = hold_out_speakers(load_manifest(world.train), fraction=0.25, seed=0).held_out.speakers
    (tmp_path / "spk2vec").write_text(f"{held_out} [ 1 2 ]\n")
    more = ["condition.vectors=[file]", f"condition.vectors_from={tmp_path / 'spk2vec'}"]
    code, _, err = run(main, command(world, tmp_path / "gate", *more))
    assert code == 2 and "know 1 of the 4 training speakers" in err
    assert not (tmp_path / "gate").exists()


def test_nothing_of_the_model_is_touched_and_a_second_run_gives_the_same(
    world: TinyWorld, gate: Path, tmp_path: Path, run: Run
) -> None:
    before, tensors = times_of(world.model), (gate / "condition.safetensors").read_bytes()
    code, out, _ = run(main, command(world, gate))
    assert code == 0
    assert "1 held-out speakers, network alone -> average voice -> heard: loss " in out
    assert "statistics (2) -> " in out
    assert (gate / "condition.safetensors").read_bytes() == tensors
    assert not changed_since(before, world.model)


@pytest.mark.parametrize("hearing", ["utterance", "causal", "session"])
def test_utterances_are_heard_without_a_first_pass(
    world: TinyWorld, gate: Path, tmp_path: Path, run: Run, hearing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--conditioned", str(gate), f"condition.hearing={hearing}"]
    assert run(decode.main, world.command(tmp_path, *more))[0] == 0
    monkeypatch.setattr(streaming, "LONGEST", 40)
    assert run(decode.main, world.command(tmp_path / "in_parts", *more))[0] == 0
    assert words_of(tmp_path / "in_parts") == words_of(tmp_path)
    page = json.loads((tmp_path / "decode.json").read_text())
    assert page["conditioned"]["hearing"] == hearing and len(page["conditioned"]["gate"]) == 64
    assert len(words_of(tmp_path)) == 18


def test_a_speaker_alone_sounds_as_among_others(world: TinyWorld, gate: Path, tmp_path: Path, run: Run) -> None:
    assert run(decode.main, world.command(tmp_path / "all", "--conditioned", str(gate)))[0] == 0
    alone = world.command(tmp_path / "one", "--conditioned", str(gate), "--speaker", "eve")
    assert run(decode.main, alone)[0] == 0
    everybody = words_of(tmp_path / "all")
    assert words_of(tmp_path / "one") == {name: everybody[name] for name in everybody if name.startswith("eve")}


def test_a_profile_goes_before_the_gate(
    world: TinyWorld, gate: Path, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    flags = ["--conditioned", str(gate), "--profiles", str(adapted.out / "profiles")]
    assert run(decode.main, world.command(tmp_path, *flags))[0] == 0
    assert words_of(tmp_path) == words_of(adapted.out / "adapted")


def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    world: TinyWorld, gate: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out"
    code, _, err = run(decode.main, world.command(out, "--conditioned", str(world.model)))
    assert code == 2 and "holds no 'condition.json'; make it with lhuc-condition" in err
    code, _, err = run(main, [*command(world, out), "lhuc.layers=[9]"])
    assert code == 2 and "9" in err
    (untold := tmp_path / "untold").mkdir()
    for table in ("wav.scp", "utt2spk"):
        (untold / table).write_text((world.train / table).read_text())
    code, _, err = run(main, [*command(world, out), "--data", str(untold)])
    assert code == 2 and "training needs transcripts: 0 of 48 utterances have one" in err
    assert not out.exists()


def test_speech_of_others_than_the_training_speakers_is_aligned_first(
    world: TinyWorld, tmp_path: Path, run: Run
) -> None:
    code, _, err = run(main, [*command(world, tmp_path / "gate"), "--data", str(world.test)])
    assert code == 0, err
    assert (tmp_path / "gate" / "work" / "alignments" / "alignments.json").is_file()


def test_adaptation_begins_with_the_prediction_in_its_first_pass_too(
    world: TinyWorld, gate: Path, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    flags = ["--speaker", "José", "--conditioned", str(gate)]
    code, out, _ = run(adapt.main, world.command(tmp_path / "held", *flags, "adapt.prior=1e15"))
    assert code == 0 and "conditioned + LHUC" in out
    held = words_of(tmp_path / "held" / "adapted")
    assert held == words_of(tmp_path / "held" / "si")  # a prior that holds everything holds the predicted scales
    assert run(adapt.main, world.command(tmp_path / "free", *flags))[0] == 0
    profiles = {
        name: load_profile(path / "profiles" / "Jos%C3%A9.json", fingerprint=None)
        for name, path in (("held", tmp_path / "held"), ("free", tmp_path / "free"), ("plain", adapted.out))
    }
    assert len({profile.sha256 for profile in profiles.values()}) == 3
    assert any(not torch.allclose(r, torch.zeros_like(r), atol=1e-4) for r in profiles["held"].r.values())
    before = times_of(tmp_path / "free" / "profiles")
    code, out, _ = run(adapt.main, world.command(tmp_path / "free", *flags))
    assert code == 0 and "(done before)" in out and not changed_since(before, tmp_path / "free" / "profiles")


def test_predicted_layers_must_be_learnt_as_well(world: TinyWorld, gate: Path, tmp_path: Path, run: Run) -> None:
    flags = ["--speaker", "eve", "--conditioned", str(gate), "lhuc.layers=[1]"]
    code, out, err = run(adapt.main, world.command(tmp_path, *flags))
    assert code == 1 and "shall not be scaled: set lhuc.layers to all of them" in out + err


def test_one_number_for_each_layer_cannot_begin_with_predicted_scales(
    world: TinyWorld, gate: Path, tmp_path: Path, run: Run
) -> None:
    flags = ["--speaker", "eve", "--conditioned", str(gate), "adapt=tied"]
    code, _, err = run(adapt.main, world.command(tmp_path / "out", *flags))
    assert code == 2 and "adapt.tied has one for each layer: give one" in err and not (tmp_path / "out").exists()


def test_a_network_trained_along_is_the_only_model_of_its_gate(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    before = times_of(world.model)
    code, out, _ = run(main, command(world, tmp_path / "gate", "condition=joint", "condition.frames_per_epoch=2000"))
    assert code == 0 and "the network that goes with this gate" in out
    assert not changed_since(before, world.model)
    model = tmp_path / "gate" / "model"
    assert load_system(model).fingerprint != load_system(world.model).fingerprint
    heard = ["--data", str(world.test), "--conditioned", str(tmp_path / "gate"), "--speaker", "eve", *ONE_CORE]
    assert run(decode.main, ["--model", str(model), "--out", str(tmp_path / "out"), *heard])[0] == 0
    code, _, err = run(decode.main, ["--model", str(world.model), "--out", str(tmp_path / "no"), *heard])
    assert code == 2 and "train it again for this model" in err


def test_an_embedding_is_trained_first_and_says_how_well_it_does(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    small = ["hidden_dim=8", "num_dims=4", "num_chunks=8", "chunk_seconds=0.5", "training.newbob.max_epochs=2"]
    more = ["condition.vectors=[statistics,embedding]", *(f"condition.embedding.{one}" for one in small)]
    code, out, err = run(main, [*command(world, tmp_path / "gate"), *more])
    assert code == 0, err
    assert "of the right one of 3 speakers; of 1 held-out speakers, no two utterances can be compared" in out
    assert "statistics (2), embedding (2) -> " in out
    weights = (tmp_path / "gate" / "condition.safetensors").read_bytes()
    assert run(main, [*command(world, tmp_path / "gate"), *more])[0] == 0
    assert (tmp_path / "gate" / "condition.safetensors").read_bytes() == weights
    heard = world.command(tmp_path / "heard", "--conditioned", str(tmp_path / "gate"), "--speaker", "eve")
    assert run(decode.main, [*heard, "condition=causal"])[0] == 0


def test_a_gate_is_fitted_to_scales_that_are_known(world: TinyWorld, gate: Path, tmp_path: Path, run: Run) -> None:
    store = ["--scales", str(gate / "speakers")]  # what a gate predicts serves as what is known
    code, out, err = run(main, [*command(world, tmp_path / "fitted"), *store, "condition.noise=0.01"])
    assert code == 0, err
    assert " % of 3 speakers' scales are repeated from their vectors" in out
    page = json.loads((tmp_path / "fitted" / "condition.json").read_text())
    assert page["report"]["fit"]["explained"] > 0.5 and "best_epoch" not in page["report"]
    heard = world.command(tmp_path / "heard", "--conditioned", str(tmp_path / "fitted"), "--speaker", "eve")
    assert run(decode.main, heard)[0] == 0
    for wrong, said in (
        ("condition.joint=true", "are of a finished network"),
        ("condition.gate.hidden_dims=[4]", "without hidden layers; leave them out"),
        ("condition.vectors=[table]", "say nothing of a table of speakers"),
    ):
        code, _, err = run(main, [*command(world, tmp_path / "no"), *store, wrong])
        assert code == 2 and said in err and not (tmp_path / "no").exists()
    code, _, err = run(main, [*command(world, tmp_path / "no"), "--scales", str(tmp_path)])
    assert code == 2 and "has profiles of 0 of the 3 speakers to learn from" in err


def test_a_subspace_is_learnt_with_the_network_and_a_new_speaker_takes_a_few_coefficients(
    world: TinyWorld, tmp_path: Path, run: Run
) -> None:
    learnt = ["condition.vectors=[table]", "condition.table.num_dims=2", "condition=joint", "lhuc=sigmoid2"]
    code, out, err = run(main, [*command(world, tmp_path / "gate", *learnt), "condition.frames_per_epoch=2000"])
    assert code == 0, err
    model, store = tmp_path / "gate" / "model", tmp_path / "gate" / "speakers"
    assert f"speakers {store}: what it predicts for those it learnt from, as profiles (lhuc=sigmoid2)" in out
    prior = tmp_path / "directions.safetensors"
    code, out, err = run(profiles.main, ["prior", "--store", str(store), "--out", str(prior)])
    assert code == 0 and "of 3 speakers" in out and "2 directions hold 100 % of the variance" in out, err
    flags = ["--model", str(model), "--data", str(world.test), "--speaker", "eve", *ONE_CORE]
    subspace = [f"adapt.subspace={prior}", "adapt.lr=0.5", "lhuc=sigmoid2"]
    code, out, err = run(adapt.main, [*flags, "--out", str(tmp_path / "lhuc"), *subspace])
    assert code == 0, err
    profile = load_profile(tmp_path / "lhuc" / "profiles" / "eve.json", fingerprint=load_system(model).fingerprint)
    assert len(profile.settings["coefficients"]) == 2 and any(profile.settings["coefficients"])
    code, _, err = run(adapt.main, [*flags, "--out", str(tmp_path / "exp"), *subspace[:-1]])
    assert code == 2 and "the prior is of sigmoid2 scales" in err and "take lhuc.amplitude=sigmoid2" in err


KNOWN = {"ann": ("20", "f"), "ben": ("30", "m"), "cat": ("40", "f"), "dan": ("50", "m"), "eve": ("25", "f")}


@pytest.fixture(scope="module")
def told(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The world's data with tables of age and gender; nobody wrote them down of two of the tested speakers."""
    base, found = tmp_path_factory.mktemp("told"), {}
    for name, data in (("train", world.train), ("test", world.test)):
        found[name] = Path(shutil.copytree(data, base / name))
        for table, place in (("spk2age", 0), ("spk2gender", 1)):
            known = {speaker: values for speaker, values in KNOWN.items() if (speaker == "eve") is (name == "test")}
            lines = [f"{speaker} {values[place]}\n" for speaker, values in known.items()]
            (found[name] / table).write_text("".join(lines))
    (base / "vectors").write_text("".join(f"{speaker}  [ {age} 1 ]\n" for speaker, (age, _) in KNOWN.items()))
    return {**found, "vectors": base / "vectors"}


@pytest.mark.parametrize(
    ("kinds", "joint", "said"),
    [
        ("file", False, "file: not known of 2 of 3 speakers (12 of 18 utterances), such as '12_3'"),
        ("attributes,statistics", True, "attributes: not known of 2 of 3 speakers"),
        ("table,file", True, "table: not known of 3 of 3 speakers"),
    ],
)
def test_what_is_known_of_speakers_is_listened_to(
    world: TinyWorld, told: dict[str, Path], tmp_path: Path, run: Run, kinds: str, joint: bool, said: str
) -> None:
    file = [f"condition.vectors_from={told['vectors']}"] if "file" in kinds else []
    more = [f"condition.vectors=[{kinds}]", *file, *(["condition=joint", "condition.frames_per_epoch=2000"] * joint)]
    train = ["--model", str(world.model), "--data", str(told["train"]), "--out", str(tmp_path / "gate"), *SHORT, *more]
    code, out, err = run(main, train)
    assert code == 0, err
    assert all(f"{kind} (" in out for kind in kinds.split(","))
    assert ("speakers of the table, utterances held out, network alone" in out) is ("table" in kinds)
    model = tmp_path / "gate" / "model" if joint else world.model
    use = [
        "--model",
        str(model),
        "--data",
        str(told["test"]),
        "--conditioned",
        str(tmp_path / "gate"),
        *ONE_CORE,
        *file,
    ]
    code, out, err = run(decode.main, [*use, "--out", str(tmp_path / "heard"), "condition=causal"])
    assert code == 0 and said in out, err
    code, out, err = run(adapt.main, [*use, "--out", str(tmp_path / "lhuc"), "--speaker", "eve", "adapt=map"])
    assert code == 0 and "conditioned + LHUC" in out, err
    if file:
        code, _, err = run(decode.main, [*use[:-1], "--out", str(tmp_path / "no")])
        assert code == 2 and "name that of this data, condition.vectors_from=FILE" in err
