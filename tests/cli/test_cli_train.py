"""``lhuc-train`` as it is typed: a model directory, and a second run that does only what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from helpers.tones import Run, TinyWorld, changed_since, flags_of, times_of
from lhuc_asr.cli.train import build_parser, main
from lhuc_asr.lang.arpa import read_arpa
from lhuc_asr.system.model_directory import load_system
from lhuc_asr.training.checkpoint import CheckpointStore

PROVENANCE = {"config.yaml", "provenance.json"}
LANGUAGE = {"lm.arpa", "HCLG.fst"}


@pytest.fixture
def model(world: TinyWorld, tmp_path: Path) -> Path:
    """A copy of the trained model that a test may change."""
    return Path(shutil.copytree(world.model, tmp_path / "si"))


def fingerprint(directory: Path) -> str:
    return load_system(directory).fingerprint


def test_the_flags_are_these() -> None:
    flags = {
        "--data",
        "--lexicon",
        "--out",
        "--dev",
        "--dev-words",
        "--text",
        "--arpa",
        "--mix-text",
        "--allow-commands",
    }
    assert flags_of(build_parser()) == flags


def test_a_model_directory_tells_how_it_was_made(world: TinyWorld) -> None:
    report = json.loads((world.model / "build.json").read_text())
    assert (report["training_utterances"], report["training_speakers"], report["lm_order"]) == (48, 4, 2)
    assert report["gmm"]["failed_alignments"] == 0
    assert report["minutes"].keys() == {"gmm", "model", "network-0"}
    memory = report["peak_memory_gb"]
    assert memory.keys() == {*report["minutes"], "all"}
    assert memory["all"] == max(memory.values()) > 0.1
    assert json.loads((world.model / "provenance.json").read_text())["overrides"]
    assert not list(world.model.rglob("*.part"))


def test_a_second_run_changes_nothing(world: TinyWorld, model: Path, run: Run) -> None:
    before = times_of(model)
    code, out, err = run(main, world.train_command(model))
    assert code == 0
    assert [name for name in ("gmm", "network-0", "model") if f"{name}: up to date" not in err] == []
    assert changed_since(before, model) <= PROVENANCE
    assert fingerprint(model)[:16] in out


def test_other_sentences_change_the_language_and_not_the_network(
    world: TinyWorld, model: Path, tmp_path: Path, run: Run
) -> None:
    text = tmp_path / "text"
    text.write_text("ONE TWO\nWOO\n")
    before = times_of(model)
    assert run(main, world.train_command(model, "--text", str(text)))[0] == 0
    changed = changed_since(before, model)
    assert changed >= LANGUAGE
    assert not any(name.startswith(("work/network-0", "work/gmm")) for name in changed)
    assert fingerprint(model) == fingerprint(world.model)
    assert (model / "lm.arpa").read_text() != (world.model / "lm.arpa").read_text()


def test_texts_are_mixed_with_the_weights_that_suit_development_speech(
    world: TinyWorld, model: Path, tmp_path: Path, run: Run
) -> None:
    dev = ["--dev", str(world.test), "tuning.acoustic_scales=[0.1]", "tuning.insertion_penalties=[0.0]"]
    texts = {"near": "ONE TWO NOT\nWOO ONE TWO\n" * 20, "far": "TWO TWO TWO TWO TWO TWO TWO TWO TWO\n" * 20}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    flags = [*dev, *(f"--mix-text={tmp_path / name}" for name in texts)]
    code, _, err = run(main, world.train_command(model, *flags))
    assert code == 0, err
    weights = json.loads((model / "build.json").read_text())["lm_weights"]
    assert len(weights) == 3 and sum(weights) == pytest.approx(1.0, abs=1e-4) and weights[2] < weights[0]
    dev_words = [line.split()[1:] for line in (world.test / "text").read_text().splitlines()]
    mixed, alone = (read_arpa(directory / "lm.arpa") for directory in (model, world.model))
    assert mixed.perplexity(dev_words).value <= alone.perplexity(dev_words).value + 1e-3
    code, _, err = run(main, world.train_command(model, *flags))
    assert code == 0 and "model: up to date" in err
    code, _, err = run(main, world.train_command(model, *dev))
    assert code == 0 and (model / "lm.arpa").read_bytes() == (world.model / "lm.arpa").read_bytes()


def test_a_given_language_model_is_used_as_it_is(world: TinyWorld, model: Path, tmp_path: Path, run: Run) -> None:
    arpa = tmp_path / "uniform.arpa"
    entries = "".join(f"-0.7\t{word}\n" for word in ("<s>", "</s>", "<UNK>", "ONE", "TWO", "NOT", "WOO"))
    arpa.write_text(f"\\data\\\nngram 1=7\n\n\\1-grams:\n{entries}\n\\end\\\n")
    assert run(main, world.train_command(model, "--arpa", str(arpa)))[0] == 0
    assert json.loads((model / "build.json").read_text())["lm_order"] == 1
    assert (model / "HCLG.fst").read_bytes() != (world.model / "HCLG.fst").read_bytes()


def test_a_lost_graph_is_made_again(world: TinyWorld, model: Path, run: Run) -> None:
    (model / "HCLG.fst").unlink()
    assert run(main, world.train_command(model))[0] == 0
    assert (model / "HCLG.fst").read_bytes() == (world.model / "HCLG.fst").read_bytes()
    assert fingerprint(model) == fingerprint(world.model)


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(
    world: TinyWorld, model: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for directory in (model / "work" / "network-0", model / "work" / "model"):
        shutil.rmtree(directory)
    (model / "model.json").unlink()
    save, calls = CheckpointStore.save, []

    def save_twice(self: CheckpointStore, *args: object, **kwargs: object) -> None:
        save(self, *args, **kwargs)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", save_twice)
        code, _, err = run(main, world.train_command(model))
    assert code == 130
    assert "run the same command again" in err.splitlines()[-1]
    assert not (model / "model.json").exists()
    code, _, err = run(main, world.train_command(model, "training.batch_size=100"))
    assert code == 2
    assert "began with other settings (batch_size was" in err and "start anew" in err
    code, _, err = run(main, world.train_command(model))
    assert code == 0
    assert "resuming after 2 epochs" in err
    assert "gmm: up to date" in err
    assert fingerprint(model) == fingerprint(world.model)


def test_other_settings_train_another_network_in_the_same_place(world: TinyWorld, model: Path, run: Run) -> None:
    code, _, err = run(main, world.train_command(model, "training.newbob.max_epochs=1"))
    assert code == 0, err
    assert "gmm: up to date" in err
    assert fingerprint(model) != fingerprint(world.model)


def test_realignment_trains_once_more(world: TinyWorld, model: Path, run: Run) -> None:
    command = world.train_command(model, "build.num_realignments=1", "training.newbob.max_epochs=8")
    assert run(main, command)[0] == 0
    report = json.loads((model / "build.json").read_text())
    assert report["realignment-1"]["failed_alignments"] == 0
    assert (model / "work" / "network-1" / "network.safetensors").is_file()
    assert fingerprint(model) != fingerprint(world.model)
    assert report["minutes"].keys() == {"gmm", "model", "network-0", "alignments-1", "network-1"}
    assert run(main, world.train_command(model, "training.newbob.max_epochs=8"))[0] == 0
    report = json.loads((model / "build.json").read_text())
    assert report["minutes"].keys() == {"gmm", "model", "network-0"}, "and none of the stages that are of no use now"


def test_development_speech_chooses_the_decoding_settings_once(world: TinyWorld, model: Path, run: Run) -> None:
    grid = ["tuning.acoustic_scales=[0.05,0.3]", "tuning.insertion_penalties=[0.2]"]
    code, out, _ = run(main, world.train_command(model, "--dev", str(world.test), *grid))
    assert code == 0
    assert f"WER % on {world.test}" in out
    report = json.loads((model / "build.json").read_text())
    assert "tuning" in report["minutes"]
    assert report["peak_memory_gb"]["tuning"] <= report["peak_memory_gb"]["all"]
    tuned = load_system(model).decoding
    assert tuned.insertion_penalty == 0.2
    assert tuned.acoustic_scale in (0.05, 0.3)
    assert fingerprint(model) == fingerprint(world.model)
    code, again, err = run(main, world.train_command(model, "--dev", str(world.test), *grid))
    assert (code, again) == (0, out)
    assert "tuning: up to date" in err
    assert run(main, world.train_command(model))[0] == 0
    assert load_system(model).decoding == tuned


def test_development_speech_calibrates_the_confidences_once(world: TinyWorld, model: Path, run: Run) -> None:
    grid = ["tuning.acoustic_scales=[0.1]", "tuning.insertion_penalties=[0.0]"]
    code, out, _ = run(main, world.train_command(model, "--dev", str(world.test), *grid))
    assert code == 0
    assert f"confidences on {world.test}:\nword posteriors   normalised cross-entropy" in out
    assert "calibration" in json.loads((model / "build.json").read_text())["minutes"]
    assert fingerprint(model) == fingerprint(world.model)
    fitted = (model / "calibration.json").read_bytes()
    code, again, err = run(main, world.train_command(model, "--dev", str(world.test), *grid))
    assert (code, again, "calibration: up to date" in err) == (0, out, True)
    (model / "calibration.json").unlink()
    code, again, err = run(main, world.train_command(model, "--dev", str(world.test), *grid))
    assert (code, again, "calibration: up to date" in err) == (0, out, False)
    assert (model / "calibration.json").read_bytes() == fitted


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data", "/no/such/data"], "'/no/such/data' does not exist"),
        (["--lexicon", "/no/such/lexicon"], "/no/such/lexicon"),
        (["--text", "/no/such/text"], "/no/such/text"),
        (["--arpa", "/no/such/arpa"], "there is no language model '/no/such/arpa'"),
        (["--dev", "/no/such/dev"], "'/no/such/dev' does not exist"),
        (["--text", "a", "--arpa", "b"], "not allowed with argument"),
        (["--mix-text", "a"], "--mix-text needs --dev DIR, whose words decide the weights, and excludes --arpa"),
        (["speaker=X"], "speaker is a flag"),
        (["model.num_layers=0"], "model.num_layers must be at least 1, got 0"),
        (["training.newbob.initial_lr=fast"], "initial_lr"),
        (["lm=pentagram"], "lm has no preset 'pentagram'; there are: bigram, trigram"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    flags: list[str], said: str, world: TinyWorld, tmp_path: Path, run: Run
) -> None:
    code, out, err = run(main, world.train_command(tmp_path / "out", *flags))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told_before_anything_starts(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, _, err = run(main, world.train_command(tmp_path / "out", "training.device=cuda"))
    assert code == 2 and "finds 0 GPUs" in err
    assert not (tmp_path / "out").exists()


def test_training_needs_transcripts(world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run) -> None:
    (spoilt / "text").unlink()
    code, _, err = run(main, world.train_command(tmp_path / "out", "--data", str(spoilt)))
    assert code == 2
    assert "training needs transcripts: 0 of 18 utterances have one" in err
    code, _, err = run(main, world.train_command(tmp_path / "out", "--dev", str(spoilt)))
    assert code == 2
    assert "has no transcripts" in err


def test_what_cannot_be_learnt_from_is_named(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    data = Path(shutil.copytree(world.train, tmp_path / "train"))
    rows = (data / "text").read_text().splitlines()
    rows[:3] = ["ann-00", f"ann-01 {'ONE ' * 80}", "ann-02"]
    (data / "text").write_text("\n".join(rows) + "\n")
    command = world.train_command(tmp_path / "out", "--data", str(data), "training.newbob.max_epochs=1")
    code, _, err = run(main, command)
    assert code == 0
    assert "2 of 48 utterances have an empty transcript and are taken for silence: 'ann-00', 'ann-02'" in err
    assert "gmm: left out: 'ann-01'; 'ann-01' cannot be aligned: " in err and "its words need 720" in err
    assert json.loads((tmp_path / "out" / "build.json").read_text())["gmm"]["failed_alignments"] == 1
    (data / "text").write_text("".join(f"{row.split()[0]}\n" for row in rows))
    code, _, err = run(main, world.train_command(tmp_path / "none", "--data", str(data)))
    assert code == 2 and "training needs words: the transcripts of all 48 utterances are empty" in err


def test_commands_need_permission(world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run) -> None:
    scp = (spoilt / "wav.scp").read_text().splitlines()
    (spoilt / "wav.scp").write_text("".join(f"{line.partition(' ')[0]} cat {line.split()[1]} |\n" for line in scp))
    command = world.train_command(tmp_path / "out", "--data", str(spoilt), "--lexicon", "/no/such/lexicon")
    assert "--allow-commands permits it" in run(main, command)[2]
    assert "/no/such/lexicon" in run(main, [*command, "--allow-commands"])[2]
