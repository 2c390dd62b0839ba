"""``lhuc-adapt`` as it is typed: protocols, supervision, speakers, and what it leaves for people and programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.tones import Adapted, Run, TinyWorld, changed_since, flags_of, times_of
from lhuc_asr.cli import decode, score
from lhuc_asr.cli.adapt import build_parser, main
from lhuc_asr.decoding.words.hypothesis import read_hypotheses
from lhuc_asr.files import sha256
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.system.model_directory import load_system

ALWAYS_WRITTEN = ("si/", "adapted/", "status/", "results.json", "config.yaml", "provenance.json")


def results_of(directory: Path) -> Any:
    return json.loads((directory / "results.json").read_text(encoding="utf-8"))


def words_of(directory: Path) -> dict[str, str]:
    return {name: item.text for name, item in read_hypotheses(directory).items()}


def test_the_flags_are_these() -> None:
    assert flags_of(build_parser()) == {
        "--model", "--data", "--speaker", "--speaker-list", "--all-speakers", "--out", "--features", "--first-pass",
        "--no-second-pass", "--keep-going", "--allow-commands", "--transforms", "--no-transforms", "--groups",
        "--conditioned",
    }  # fmt: skip


def test_every_speaker_has_a_line_and_all_have_a_table(adapted: Adapted) -> None:
    lines = adapted.said.splitlines()
    assert lines[0] == ("two_pass, supervision one_best; exp scales of 128 units in 2 layers; lr 0.8, 3 epochs")
    assert [line.partition(":")[0] for line in lines[1:4]] == ["12_3", "José", "eve"]
    assert all("objective" in line and "WER" in line and line.endswith("%") for line in lines[1:4])
    assert "system" in lines[5]
    assert lines[7].startswith("SI ")
    assert lines[8].startswith("LHUC ")
    assert "done before" not in adapted.said
    assert "oracle" not in adapted.said
    assert all(f"{stage}: " in adapted.said for stage in ("first pass", "update", "second pass"))


def test_strange_speakers_are_understood_better(adapted: Adapted) -> None:
    found = results_of(adapted.out)["systems"]
    assert found["LHUC"]["total"]["errors"] < found["SI"]["total"]["errors"]
    assert found["LHUC"]["speakers"].keys() == {"12_3", "José", "eve"}


def test_results_can_be_read_by_a_program(world: TinyWorld, adapted: Adapted) -> None:
    found = results_of(adapted.out)
    assert found["model_fingerprint"] == load_system(world.model).fingerprint
    assert found["settings"]["adapt"]["lr"] == 0.8
    assert found["settings"]["protocol"]["name"] == "two_pass"
    assert found["speed"].keys() == {"first_pass", "update", "second_pass"}
    assert (found["failed_speakers"], found["left_out_utterances"], found["oracle"]) == ({}, {}, False)
    assert found["comparisons"][0]["first"] == "SI"
    assert found["comparisons"][0]["speakers_better"]
    assert found["peak_memory_gb"] > 0.1


def test_results_name_the_model_and_each_profile_by_its_content(world: TinyWorld, adapted: Adapted) -> None:
    """From the figures to every number that was learnt: results -> profile -> page -> tensors, and all -> model."""
    found = results_of(adapted.out)
    model = json.loads((world.model / "model.json").read_text(encoding="utf-8"))
    assert found["model_fingerprint"] == model["fingerprint"]
    pages = {json.loads(path.read_text())["speaker"]: path for path in (adapted.out / "profiles").glob("*.json")}
    assert found["profiles"].keys() == pages.keys() == {"12_3", "José", "eve"}
    for speaker, path in pages.items():
        page = json.loads(path.read_text(encoding="utf-8"))
        assert found["profiles"][speaker] == page["sha256"] == load_profile(path, fingerprint=None).sha256
        assert page["base_fingerprint"] == model["fingerprint"]
        assert page["tensors_sha256"] == sha256(path.with_suffix(".safetensors"))


def test_the_model_is_untouched_and_profiles_name_it(world: TinyWorld, adapted: Adapted) -> None:
    fingerprint = load_system(world.model).fingerprint
    profile = load_profile(adapted.out / "profiles" / "Jos%C3%A9.json", fingerprint=fingerprint)
    assert profile.speaker == "José"
    assert profile.objective_after is not None
    assert profile.objective_before is not None
    assert profile.objective_after < profile.objective_before
    assert not list(adapted.out.rglob("*.part"))


def test_finished_speakers_are_not_done_again(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    assert run(main, world.command(tmp_path, "--speaker", "José"))[0] == 0
    before = times_of(tmp_path)
    code, out, _ = run(main, world.command(tmp_path, "--all-speakers"))
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines() if "done before" in line] == ["José"]
    changed = {name for name in changed_since(before, tmp_path) if name in before}
    assert not any("Jos" in name for name in changed if not name.startswith("status/"))
    code, again, _ = run(main, world.command(tmp_path, "--all-speakers"))
    assert code == 0
    assert again.count("(done before)") == 3
    assert len(results_of(tmp_path)["profiles"]) == 3
    assert "first pass:" not in again


def test_other_settings_learn_again_but_share_the_first_pass(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    shared = ["--speaker", "José", "--first-pass", str(tmp_path / "shared")]
    assert run(main, world.command(tmp_path / "a", *shared))[0] == 0
    before = times_of(tmp_path / "shared")
    code, out, _ = run(main, world.command(tmp_path / "b", *shared, "lhuc.amplitude=sigmoid2", "adapt.lr=0.4"))
    assert code == 0
    assert "sigmoid2 scales" in out
    assert "lr 0.4" in out
    assert "first pass:" not in out
    assert not changed_since(before, tmp_path / "shared")
    assert not (tmp_path / "b" / "first_pass").exists()
    digests = {sha256(tmp_path / name / "profiles" / "Jos%C3%A9.safetensors") for name in "ab"}
    assert len(digests) == 2


def test_without_a_second_pass_there_are_profiles_and_no_comparison(
    world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    code, out, _ = run(main, world.command(tmp_path, "--all-speakers", "--no-second-pass"))
    assert code == 0
    assert "WER" not in out
    assert not (tmp_path / "second_pass").exists()
    assert not (tmp_path / "adapted").exists()
    assert list(results_of(tmp_path)["systems"]) == ["SI"]
    assert results_of(tmp_path)["comparisons"] == []
    for path in (adapted.out / "profiles").glob("*.safetensors"):
        assert (tmp_path / "profiles" / path.name).read_bytes() == path.read_bytes()


def test_speakers_are_chosen_by_flag_and_list(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    some = tmp_path / "some"
    some.write_text("José\n", encoding="utf-8")
    flags = ["--speaker", "eve", "--speaker", "12_3", "--speaker-list", str(some), "--no-second-pass"]
    assert run(main, world.command(tmp_path / "three", *flags))[0] == 0
    assert {path.stem for path in (tmp_path / "three" / "profiles").glob("*.json")} == {"eve", "12_3", "Jos%C3%A9"}
    assert run(main, world.command(tmp_path / "one", "--speaker", "12_3", "--no-second-pass"))[0] == 0
    assert {path.stem for path in (tmp_path / "one" / "profiles").glob("*.json")} == {"12_3"}


@pytest.mark.parametrize("amount", ["protocol.num_utterances=2", "protocol.seconds=1.5", "protocol.fraction=0.34"])
def test_enrolment_scores_what_was_not_learnt_from(amount: str, world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, out, _ = run(main, world.command(tmp_path, "--speaker", "12_3", "protocol=enrolment", amount))
    assert code == 0
    assert out.startswith("enrolment, ")
    assert sorted(words_of(tmp_path / "adapted")) == [f"12_3-0{number}" for number in range(2, 6)]
    assert words_of(tmp_path / "si").keys() == words_of(tmp_path / "adapted").keys()
    assert results_of(tmp_path)["systems"]["LHUC"]["num_utterances"] == 4
    profile = json.loads((tmp_path / "profiles" / "12_3.json").read_text())
    assert profile["settings"]["utterances"] == ["12_3-00", "12_3-01"]


def test_the_oracle_arm_is_marked_everywhere(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, out, _ = run(main, world.command(tmp_path, "--all-speakers", "adapt=oracle"))
    assert code == 0
    assert "supervision oracle (research: the targets are the aligned references)" in out.splitlines()[0]
    assert "\nLHUC, oracle targets " in out
    found = results_of(tmp_path)
    assert found["oracle"] is True
    assert list(found["systems"]) == ["SI", "LHUC, oracle targets"]
    assert json.loads((tmp_path / "profiles" / "eve.json").read_text())["settings"]["adapt"]["supervision"] == "oracle"


def test_speakers_are_followed_utterance_by_utterance(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    arguments = ("--speaker", "eve", "protocol=online", "adapt.num_epochs=1", "adapt.min_seconds=0.1")
    code, out, _ = run(main, world.command(tmp_path, *arguments, "protocol.forgetting=0.1"))
    assert code == 0
    assert out.startswith("online, supervision one_best; ") and " s of one core per second of speech" in out
    assert words_of(tmp_path / "si").keys() == words_of(tmp_path / "adapted").keys()
    steps = json.loads((tmp_path / "profiles" / "eve.json").read_text())["settings"]["online"]
    assert [step["utterance"] for step in steps] == sorted(words_of(tmp_path / "adapted"))
    code, _, err = run(main, world.command(tmp_path, "--speaker", "eve", "protocol=online", "guard=decoded"))
    assert code == 2 and "leave it out with protocol=online" in err


def test_one_layer_can_be_chosen(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, out, _ = run(main, world.command(tmp_path, "--speaker", "eve", "lhuc.layers=[2]", "--no-second-pass"))
    assert code == 0
    assert "64 units in 1 layers" in out
    page = json.loads((tmp_path / "profiles" / "eve.json").read_text())
    assert list(page["sites"]) == ["layers.1.activation"]


@pytest.mark.parametrize("amplitude", ["sigmoid2", "identity", "relu"])
def test_every_amplitude_can_be_learnt(amplitude: str, world: TinyWorld, tmp_path: Path, run: Run) -> None:
    command = world.command(tmp_path, "--speaker", "José", f"lhuc.amplitude={amplitude}", "--no-second-pass")
    code, out, _ = run(main, command)
    assert code == 0 and f"{amplitude} scales of 128 units in 2 layers" in out
    profile = load_profile(tmp_path / "profiles" / "Jos%C3%A9.json", fingerprint=None)
    assert profile.amplitude.name == amplitude
    assert profile.objective_before is not None and profile.objective_after is not None
    assert profile.objective_after < profile.objective_before


def test_what_was_learnt_is_recognised_with_and_learnt_from_anew(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, out, _ = run(main, world.command(tmp_path, "--speaker", "José", "protocol=rounds"))
    assert code == 0
    assert re.search(r"round \d of [123] kept", out)
    assert list((tmp_path / "rounds").iterdir())


def test_two_processes_learn_the_same(world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run) -> None:
    assert run(main, world.command(tmp_path, "--all-speakers", "runtime.num_jobs=2", "runtime.num_threads=2"))[0] == 0
    for path in (adapted.out / "profiles").glob("*.safetensors"):
        assert (tmp_path / "profiles" / path.name).read_bytes() == path.read_bytes()
    assert words_of(tmp_path / "adapted") == words_of(adapted.out / "adapted")


def test_speech_without_transcripts_is_adapted_to_all_the_same(
    world: TinyWorld, adapted: Adapted, spoilt: Path, tmp_path: Path, run: Run
) -> None:
    (spoilt / "text").unlink()
    code, out, _ = run(main, world.command(tmp_path / "out", "--all-speakers", data=spoilt))
    assert code == 0
    assert "WER" not in out
    assert words_of(tmp_path / "out" / "adapted") == words_of(adapted.out / "adapted")
    assert (results_of(tmp_path / "out")["systems"], results_of(tmp_path / "out")["comparisons"]) == ({}, [])


def test_lattice_targets_are_named_everywhere_and_their_first_pass_keeps_lattices(
    world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    code, out, _ = run(main, world.command(tmp_path, "--all-speakers", "adapt=lattice", "adapt.kl=0.25"))
    assert code == 0
    assert out.splitlines()[0].startswith("two_pass, supervision lattice, kl 0.25; exp scales of ")
    assert "\nLHUC, lattice targets " in out
    found = results_of(tmp_path)
    assert list(found["systems"]) == ["SI", "LHUC, lattice targets"]
    assert (found["supervision"], found["oracle"]) == ("lattice, kl 0.25", False)
    assert words_of(tmp_path / "si") == words_of(adapted.out / "si")
    assert len(list(tmp_path.glob("first_pass/*/lattices.safetensors"))) == 3
    assert not list(adapted.out.glob("first_pass/*/lattices.safetensors"))
    profile = load_profile(tmp_path / "profiles" / "eve.json", fingerprint=found["model_fingerprint"])
    assert profile.supervision == "lattice"
    assert "% of the speech kept" not in out


def test_how_much_speech_confidences_left_is_told(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    arguments = ("--all-speakers", "adapt=confident", "adapt.best_share=0.5")
    code, out, _ = run(main, world.command(tmp_path, *arguments))
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith(
        "two_pass, supervision one_best, min_confidence 0.5, best_share 0.5, weights word, confidence of each word; "
    )
    assert lines[1].startswith("confidences are word posteriors, not calibrated")
    assert out.count("% of the speech kept") == 3
    kept = results_of(tmp_path)["kept"]["eve"]
    assert (kept["num_kept_utterances"], kept["num_utterances"]) == (3, 6)
    status = json.loads((tmp_path / "status" / "eve.json").read_text(encoding="utf-8"))
    page = json.loads((tmp_path / "profiles" / "eve.json").read_text(encoding="utf-8"))
    assert status["kept"] == page["settings"]["kept"] == kept


def test_another_systems_words_are_learnt_from(world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run) -> None:
    arguments = ("--all-speakers", "--first-pass", str(adapted.out / "first_pass"), "adapt=cross")
    code, out, _ = run(main, world.command(tmp_path, *arguments, f"adapt.words_from={adapted.out / 'si'}"))
    assert code == 0
    assert f"supervision words, from {adapted.out / 'si'}, as far as both agree; " in out.splitlines()[0]
    for path in (adapted.out / "profiles").glob("*.safetensors"):  # its own words are no other ones
        assert (tmp_path / "profiles" / path.name).read_bytes() == path.read_bytes()
    code, _, err = run(main, world.command(tmp_path / "none", "--all-speakers", "adapt=cross"))
    assert code == 2 and "give adapt.words_from" in err


def test_targets_that_teach_nothing_are_refused(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, _, err = run(main, world.command(tmp_path, "--all-speakers", "adapt.supervision=soft"))
    assert code == 2
    assert "adapt.supervision=soft learns nothing by itself" in err


def test_other_numbers_than_scales_are_learnt_compared_and_refused_as_profiles(
    world: TinyWorld, adapted: Adapted, run: Run, tmp_path: Path
) -> None:
    shared = ["--speaker", "eve", "--first-pass", str(adapted.out / "first_pass"), "adapt=lin"]
    code, out, _ = run(main, world.command(tmp_path / "lin", *shared))
    assert code == 0 and "parameters of kind lin; lr 0.02" in out
    found = results_of(tmp_path / "lin")
    assert found["systems"].keys() == {"SI", "lin"} and found["profiles"].keys() == {"eve"}
    runs = [str(adapted.out), str(tmp_path / "lin")]
    data = ["--ref", str(world.test), "--out", str(tmp_path / "score")]
    code, out, _ = run(score.main, [*data, "--compare", *runs])
    assert code == 0 and "1 speakers, 6 utterances" in out and "12 utterances left out" in out
    wanted = ["--model", str(world.model), "--data", str(world.test), "--speaker", "eve", "--out", str(tmp_path / "no")]
    code, _, err = run(decode.main, [*wanted, "--profiles", str(tmp_path / "lin" / "parameters")])
    assert code == 2 and "it holds 'lin' parameters of a speaker, not scales" in err
