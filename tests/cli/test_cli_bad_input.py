"""What people get wrong, and what ids and audio can be like: one line each, an exit code, and the others go on."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.tones import RATE, Adapted, Run, Samples, TinyWorld, add_speaker, speak, times_of
from lhuc_asr.cli import adapt, decode
from lhuc_asr.data.audio import write_audio
from lhuc_asr.data.kaldi import read_kaldi_dir
from lhuc_asr.data.lhotse_manifests import write_lhotse
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.decoding.words.hypothesis import read_hypotheses
from lhuc_asr.files import escape_id


def sentence(*, rate: int = RATE, words: tuple[str, ...] = ("ONE", "TWO", "NOT", "ONE")) -> Samples:
    return speak(words, 1.0, np.random.default_rng(3), rate=rate)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--speaker", "Jose"], "no speaker 'Jose' among the 3 of this data; nearest: 'José'"),
        (["--speaker", "eve", "--speaker", "123"], "no speaker '123' among the 3 of this data; nearest: '12_3'"),
        (["--all-speakers", "--speaker", "eve"], "--all-speakers excludes --speaker and --speaker-list"),
        ([], "say who: --speaker ID (repeatable), --speaker-list FILE or --all-speakers"),
        (["--speaker-list", "/no/such/list"], "cannot read the speaker list '/no/such/list'"),
        (["speaker=eve"], "speaker is a flag: write --speaker ID, not 'speaker=eve'"),
        (["--all-speakers", "lhuc.amplitude=tanh"], "tanh"),
        (
            ["--all-speakers", "lhuc=tanh"],
            "lhuc has no preset 'tanh'; there are: exp, identity, lowest, relu",
        ),
        (["--all-speakers", "lhuc.layers=[7]"], "there is no hidden layer 7; the model has 1 to 2 from the bottom"),
        (["--all-speakers", "lhuc.layers=['conv*']"], "'conv*' matches no layer; the model has: layers"),
        (["--all-speakers", "adapt.lr=-1"], "adapt.lr must be positive, got -1"),
        (["--all-speakers", "adapt.rl=1"], "adapt.rl"),
        (["--all-speakers", "protocol.fraction=0.3"], "protocol.fraction is for protocol=enrolment"),
        (["--all-speakers", "adapt=cross"], "learns from another system's words: give adapt.words_from"),
        (["--all-speakers", "adapt=cross", "adapt.words_from=/no/words"], "there are no words in '/no/words'"),
        (["--all-speakers", "adapt.prior=0.1", "adapt.prior_from=/no/prior"], "/no/prior"),
        (["--all-speakers", "--data", "/no/such/data"], "'/no/such/data' does not exist"),
        (["--all-speakers", "--model", "/no/such/model"], "there is no model directory '/no/such/model'"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    more: list[str], said: str, world: TinyWorld, tmp_path: Path, run: Run
) -> None:
    code, out, err = run(adapt.main, world.command(tmp_path / "out", *more))
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("lhuc-adapt: ")
    assert said in err
    assert not (tmp_path / "out").exists()


def test_the_amplitudes_that_exist_are_named(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    _, _, err = run(adapt.main, world.command(tmp_path, "--all-speakers", "lhuc.amplitude=tanh"))
    assert all(name in err for name in ("exp", "sigmoid2", "identity", "relu"))


def test_an_empty_speaker_list_is_refused(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    nobody = tmp_path / "nobody"
    nobody.write_text("\n \n")
    for command in (adapt, decode):
        code, _, err = run(command.main, world.command(tmp_path / "out", "--speaker-list", str(nobody)))
        assert code == 2
        assert f"the speaker list '{nobody}' names nobody" in err


def test_an_empty_test_set_is_refused(world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run) -> None:
    for table in ("wav.scp", "utt2spk", "text"):
        (spoilt / table).write_text("")
    for command, more in ((adapt, ["--all-speakers"]), (decode, [])):
        code, _, err = run(command.main, world.command(tmp_path / "out", *more, data=spoilt))
        assert code == 2
        assert "holds no utterance: its wav.scp is empty" in err
        assert not (tmp_path / "out").exists()


def test_transcripts_of_another_case_are_told(world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run) -> None:
    (spoilt / "text").write_text((spoilt / "text").read_text(encoding="utf-8").replace("ONE", "one"), encoding="utf-8")
    code, _, err = run(decode.main, world.command(tmp_path / "few", data=spoilt))
    assert code == 0 and "vocabulary" not in err
    text = [line.partition(" ") for line in (spoilt / "text").read_text(encoding="utf-8").splitlines()]
    (spoilt / "text").write_text("".join(f"{name} {words.lower()}\n" for name, _, words in text), encoding="utf-8")
    code, _, err = run(decode.main, world.command(tmp_path / "out", data=spoilt))
    assert code == 0
    assert f"the transcripts of '{spoilt}': 54 of 54 words out of vocabulary" in err
    assert "is their case that of the model's lexicon?" in err


SILENCE = np.zeros(2 * RATE, np.float32)
HISS = (1e-4 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ({"00": SILENCE, "01": SILENCE}, "'zoe' says next to nothing: 0.0 s"),
        ({"00": HISS}, "'zoe' says next to nothing: 0.0 s"),
        ({"00": sentence()[: RATE // 10]}, "'zoe' says next to nothing: 0."),
        ({"00": SILENCE[:0]}, "holds no samples"),
    ],
    ids=["silence", "hiss", "a tenth of a second", "no samples"],
)
def test_a_speaker_who_says_nothing_fails_and_the_others_go_on(
    samples: dict[str, Samples], said: str, world: TinyWorld, adapted: Adapted, spoilt: Path, tmp_path: Path, run: Run
) -> None:
    add_speaker(spoilt, "zoe", samples)
    code, out, _ = run(adapt.main, world.command(tmp_path / "out", "--all-speakers", data=spoilt))
    assert code == 1
    assert said in next(line for line in out.splitlines() if line.startswith("zoe: failed: "))
    assert out.splitlines()[-2] == "1 of 4 speakers failed:"
    assert "not in this table: 1 of 4 speakers, who failed: zoe" in out
    assert words_of(tmp_path / "out") == words_of(adapted.out)
    assert json.loads((tmp_path / "out" / "status" / "zoe.json").read_text())["state"] == "failed"
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())["failed_speakers"]) == ["zoe"]
    assert not (tmp_path / "out" / "profiles" / "zoe.json").exists()


def words_of(out: Path) -> dict[str, str]:
    return {name: item.text for name, item in read_hypotheses(out / "adapted").items()}


def test_a_short_utterance_among_others_is_no_trouble(world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run) -> None:
    add_speaker(spoilt, "zoe", {"00": sentence(), "01": sentence()[: RATE // 10]})
    code, out, _ = run(adapt.main, world.command(tmp_path / "out", "--speaker", "zoe", data=spoilt))
    assert code == 0, out
    assert words_of(tmp_path / "out").keys() == {"zoe-00", "zoe-01"}


def test_a_lower_sampling_rate_is_refused_for_that_speaker(
    world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run
) -> None:
    add_speaker(spoilt, "zoe", {"00": sentence(rate=4000), "01": sentence(rate=4000)}, rate=4000)
    code, out, _ = run(adapt.main, world.command(tmp_path / "out", "--all-speakers", data=spoilt))
    assert code == 1
    line = next(line for line in out.splitlines() if line.startswith("zoe: failed: "))
    assert "the audio of 'zoe-00' has 4000 Hz, the features need 8000 Hz or more" in line
    assert "(and 1 more of 2 utterances)" in line
    assert "--keep-going" not in line


def test_when_nobody_can_be_used_nothing_is_done(world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run) -> None:
    add_speaker(spoilt, "zoe", {"00": sentence(rate=4000)}, rate=4000)
    code, _, err = run(adapt.main, world.command(tmp_path / "out", "--speaker", "zoe", data=spoilt))
    assert code == 2
    assert err.splitlines()[-1].startswith("lhuc-adapt: the audio of 'zoe-00' has 4000 Hz, the features need 8000 Hz")
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_higher_sampling_rate_is_converted(world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run) -> None:
    add_speaker(spoilt, "zoe", {"00": sentence(rate=16000)}, rate=16000)
    code, _, _ = run(adapt.main, world.command(tmp_path / "out", "--speaker", "zoe", data=spoilt))
    assert code == 0
    assert words_of(tmp_path / "out") == {"zoe-00": "ONE TWO NOT ONE"}


@pytest.mark.parametrize("what", ["cannot be read", "does not exist"])
def test_bad_audio_stops_its_speaker_only(
    what: str, world: TinyWorld, adapted: Adapted, spoilt: Path, tmp_path: Path, run: Run
) -> None:
    add_speaker(spoilt, "zoe", {"00": sentence(), "01": sentence(), "02": sentence()})
    (spoilt / "zoe-1.wav").write_bytes(b"this is no sound")
    if what == "does not exist":
        (spoilt / "zoe-1.wav").unlink()
    command = world.command(tmp_path / "out", "--all-speakers", data=spoilt)
    code, out, _ = run(adapt.main, command)
    assert code == 1
    assert out.splitlines()[-1].startswith(f"  zoe: the audio of 'zoe-01' {what}: '{spoilt / 'zoe-1.wav'}'")
    assert out.splitlines()[-1].endswith("; --keep-going uses the good ones")
    assert words_of(tmp_path / "out") == words_of(adapted.out)
    before = times_of(tmp_path / "out" / "features")
    code, out, _ = run(adapt.main, command)
    assert code == 1
    assert out.count("(done before)") == 3
    assert times_of(tmp_path / "out" / "features") == before
    code, out, _ = run(adapt.main, [*command, "--keep-going"])
    assert code == 0
    assert f"zoe: left out: the audio of 'zoe-01' {what}" in out
    assert words_of(tmp_path / "out").keys() - words_of(adapted.out).keys() == {"zoe-00", "zoe-02"}
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())["left_out_utterances"]) == ["zoe-01"]
    write_audio(spoilt / "zoe-1.wav", sentence(), RATE)
    assert run(adapt.main, command)[0] == 0
    assert "zoe-01" in words_of(tmp_path / "out")


def _remove(path: Path) -> None:
    path.unlink()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [_remove, _flip])
@pytest.mark.parametrize(
    "name", ["model.json", "network.safetensors", "hmm.json", "lexicon.txt", "lm.arpa", "HCLG.fst", "decoding.json"]
)
def test_a_model_with_a_missing_or_altered_file_is_refused(
    spoil: Callable[[Path], None], name: str, world: TinyWorld, tmp_path: Path, run: Run
) -> None:
    model = Path(shutil.copytree(world.model, tmp_path / "si", ignore=shutil.ignore_patterns("work")))
    spoil(model / name)
    for command, more in ((adapt, ["--all-speakers"]), (decode, [])):
        code, _, err = run(command.main, world.command(tmp_path / "out", "--model", str(model), *more))
        assert code == 2
        assert name in err
        assert err.count("\n") == 1
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("base_fingerprint", "0" * 64, "was learnt for model 000000000000, this model is"),
        ("format_version", 99, "has format 99; this version reads up to 2: upgrade lhuc_asr"),
        ("amplitude", "tanh", "has amplitude 'tanh'; known are exp, sigmoid2"),
        ("tensors_sha256", "0" * 64, "is damaged or of another profile"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(
    key: str, value: object, said: str, world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    profiles = Path(shutil.copytree(adapted.out / "profiles", tmp_path / "profiles"))
    page = json.loads((profiles / "12_3.json").read_text())
    (profiles / "12_3.json").write_text(json.dumps({**page, key: value}))
    code, _, err = run(decode.main, world.command(tmp_path / "out", "--profiles", str(profiles)))
    assert code == 2
    assert said in err
    assert "12_3" in err
    assert run(decode.main, world.command(tmp_path / "out", "--profiles", str(profiles), "--speaker", "eve"))[0] == 0


PLAIN = {"eve": "a", "12_3": "b", "José": "c"}
STRANGE = {"a": "../../x", "b": "a b", "c": "José"}


def named(manifest: Manifest, names: dict[str, str]) -> Manifest:
    """The same speech by people of other names."""
    from dataclasses import replace

    return Manifest(tuple(replace(utterance, speaker=names[utterance.speaker]) for utterance in manifest))


def test_any_id_gives_safe_files_and_the_same_results(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    plain = named(read_kaldi_dir(world.test), PLAIN)
    outs = {}
    for name, manifest in (("plain", plain), ("strange", named(plain, STRANGE))):
        write_lhotse(manifest, tmp_path / name / "data")
        outs[name] = tmp_path / name / "nested" / "out"
        speakers = [flag for speaker in manifest.speakers for flag in ("--speaker", speaker)]
        command = world.command(outs[name], *speakers, data=tmp_path / name / "data")
        assert run(adapt.main, command)[0] == 0
        profiles = str(outs[name] / "profiles")
        again = world.command(outs[name] / "again", "--profiles", profiles, data=tmp_path / name / "data")
        assert run(decode.main, again)[0] == 0
    assert {path.name for path in (tmp_path / "strange").iterdir()} == {"data", "nested"}
    assert {path.name for path in (tmp_path / "strange" / "nested").iterdir()} == {"out"}
    assert words_of(outs["plain"]) == words_of(outs["strange"])
    assert read_hypotheses(outs["strange"] / "again").keys() == words_of(outs["plain"]).keys()
    for name, other in STRANGE.items():
        pages = [
            out / "profiles" / f"{escape_id(who)}.json" for out, who in zip(outs.values(), (name, other), strict=True)
        ]
        tensors = [page.with_suffix(".safetensors").read_bytes() for page in pages]
        assert tensors[0] == tensors[1]
        assert json.loads(pages[1].read_text(encoding="utf-8"))["speaker"] == other


def test_debug_shows_where_an_error_comes_from(
    world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adapt.main(world.command(tmp_path, "--speaker", "nobody", "--debug")) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("lhuc-adapt: no speaker 'nobody'")
    logging.getLogger("lhuc_asr").setLevel(logging.INFO)


def test_commands_need_permission(world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run) -> None:
    scp = (spoilt / "wav.scp").read_text(encoding="utf-8").splitlines()
    lines = (f"{line.partition(' ')[0]} cat {line.split()[1]} |\n" for line in scp)
    (spoilt / "wav.scp").write_text("".join(lines), encoding="utf-8")
    for command, more in ((adapt, ["--no-second-pass"]), (decode, [])):
        arguments = world.command(tmp_path / "out", "--speaker", "eve", *more, data=spoilt)
        code, _, err = run(command.main, arguments)
        assert code == 2
        assert "--allow-commands" in err
        assert run(command.main, [*arguments, "--allow-commands"])[0] == 0
