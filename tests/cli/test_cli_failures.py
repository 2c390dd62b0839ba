"""Speakers who fail: for want of a sound file, or under other settings than before; what that costs, and whom."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.tones import Adapted, Run, Samples, TinyWorld, add_speaker, speak
from lhuc_asr.cli import adapt, decode, score, train
from lhuc_asr.data.kaldi import read_kaldi_dir
from lhuc_asr.data.lhotse_manifests import write_lhotse
from lhuc_asr.decoding.words.hypothesis import read_hypotheses


def words_of(out: Path, name: str = "adapted") -> dict[str, str]:
    return {name: item.text for name, item in read_hypotheses(out / name).items()}


def sentences(count: int) -> dict[str, Samples]:
    rng = np.random.default_rng(3)
    return {f"{number:02}": speak(("ONE", "TWO", "NOT", "ONE"), 1.0, rng) for number in range(count)}


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_who_has_no_sound_file_fails_and_the_others_go_on(
    num_jobs: int, world: TinyWorld, adapted: Adapted, spoilt: Path, tmp_path: Path, run: Run
) -> None:
    jobs = f"runtime.num_jobs={num_jobs}"
    add_speaker(spoilt, "zoe", sentences(2))
    for path in spoilt.glob("zoe-*.wav"):
        path.unlink()
    code, out, _ = run(adapt.main, world.command(tmp_path / "out", "--all-speakers", "--keep-going", jobs, data=spoilt))
    assert code == 1
    assert out.splitlines()[-2] == "1 of 4 speakers failed:"
    assert out.splitlines()[-1].endswith(f"does not exist: '{spoilt / 'zoe-0.wav'}' (and 1 more of 2 utterances)")
    assert words_of(tmp_path / "out") == words_of(adapted.out)
    code, out, _ = run(adapt.main, world.command(tmp_path / "one", "--speaker", "eve", data=spoilt))
    assert code == 0 and "zoe" not in out


def test_every_speaker_of_a_missing_recording_suffers(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    """Segments of two recordings; of one, in which two people speak, nothing is there."""
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(4)
    add = {"amy": ["there", "there"], "bob": ["there", "gone"], "cal": ["gone"]}
    for table in ("wav.scp", "utt2spk", "text"):
        (data / table).touch()
    add_speaker(data, "there", {"": np.concatenate([speak(("ONE", "TWO"), 1.0, rng) for _ in range(9)])})
    sound = data / "there-0.wav"
    rows = [(f"{who}-{n}", who, where, 0.8 * n) for who, wheres in add.items() for n, where in enumerate(wheres)]
    tables = {
        "wav.scp": [f"gone {data / 'gone.wav'}", f"there {sound}"],
        "segments": [f"{name} {where} {start:.1f} {start + 0.8:.1f}" for name, _, where, start in rows],
        "utt2spk": [f"{name} {who}" for name, who, _, _ in rows],
        "text": [f"{name} ONE" for name, _, _, _ in rows],
    }
    for table, lines in tables.items():
        (data / table).write_text("\n".join(lines) + "\n")
    command = world.command(tmp_path / "out", "--all-speakers", "--no-second-pass", data=data)
    code, out, _ = run(adapt.main, command)
    assert code == 1
    failed = json.loads((tmp_path / "out" / "results.json").read_text())["failed_speakers"]
    assert list(failed) == ["bob", "cal"] and "the audio of 'gone' does not exist" in failed["cal"]
    assert failed["bob"].endswith("; --keep-going uses the good ones")
    assert list(words_of(tmp_path / "out", "si")) == ["amy-0", "amy-1"]
    code, out, _ = run(adapt.main, [*command, "--keep-going"])
    assert code == 1 and "bob: left out: the audio of 'gone' does not exist" in out
    assert list(words_of(tmp_path / "out", "si")) == ["amy-0", "amy-1", "bob-0"]


def test_of_lhotse_manifests_a_missing_file_is_its_speakers_trouble_too(
    world: TinyWorld, adapted: Adapted, spoilt: Path, tmp_path: Path, run: Run
) -> None:
    pytest.importorskip("lhotse")
    add_speaker(spoilt, "zoe", sentences(2))
    data, out = tmp_path / "lhotse", tmp_path / "out"
    write_lhotse(read_kaldi_dir(spoilt), data)
    (spoilt / "zoe-1.wav").unlink()
    command = world.command(out, "--all-speakers", data=data)
    code, printed, _ = run(adapt.main, command)
    assert code == 1 and "zoe: failed: the audio of 'zoe-01' does not exist" in printed
    assert words_of(out) == words_of(adapted.out)
    assert run(adapt.main, [*command, "--keep-going"])[0] == 0
    assert words_of(out).keys() - words_of(adapted.out).keys() == {"zoe-00"}
    hypotheses = [f"--hyp={name}={out / name}" for name in ("si", "adapted")]
    arguments = ["--ref", str(data), *hypotheses, "--common", "--out", str(tmp_path / "score")]
    code, printed, err = run(score.main, arguments)
    assert code == 0, err
    assert "scoring 19 utterances; 1 are not" in printed


def test_where_no_sound_file_exists_nothing_starts(world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run) -> None:
    lines = (line.split()[0] for line in (spoilt / "wav.scp").read_text(encoding="utf-8").splitlines())
    (spoilt / "wav.scp").write_text("".join(f"{name} not/mounted/{name}.wav\n" for name in lines), encoding="utf-8")
    for command, more in ((adapt, ["--all-speakers", "--keep-going"]), (decode, ["--keep-going"])):
        code, _, err = run(command.main, world.command(tmp_path / "out", *more, data=spoilt))
        assert code == 2
        assert "has 18 problems (18 missing_audio): missing_audio: the audio of '12_3-00' does not exist; tried" in err
        assert err.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_training_starts_with_all_sound_files_or_not_at_all(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    data = tmp_path / "train"
    shutil.copytree(world.train, data, ignore=shutil.ignore_patterns("*.wav"))
    first, *others = (data / "wav.scp").read_text().splitlines()
    (data / "wav.scp").write_text("\n".join([f"{first.split()[0]} gone.wav", *others]) + "\n")
    code, _, err = run(train.main, world.train_command(tmp_path / "out", "--data", str(data)))
    assert code == 2 and "1 problem (1 missing_audio)" in err and "lhuc-prepare kaldi" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("trouble", ["settings", "sound file"])
def test_who_fails_keeps_the_profile_of_an_earlier_run_which_passes_for_no_other(
    trouble: str, world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run
) -> None:
    add_speaker(spoilt, "zoe", sentences(1))
    data, out = spoilt, tmp_path / "out"
    assert run(adapt.main, world.command(out, "--all-speakers", data=data))[0] == 0
    page = out / "profiles" / "zoe.json"
    before = page.read_bytes(), page.with_suffix(".safetensors").read_bytes()
    more = ["adapt.lr=0.4"]
    if trouble == "settings":
        more.append("adapt.min_seconds=2")
    else:
        (data / "zoe-0.wav").unlink()
    code, printed, _ = run(adapt.main, world.command(out, "--all-speakers", *more, data=data))
    assert code == 1
    assert printed.splitlines()[-1].startswith("  zoe: ")
    assert printed.splitlines()[-1].endswith("; what an earlier run learnt stays")
    assert (page.read_bytes(), page.with_suffix(".safetensors").read_bytes()) == before
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert "zoe" not in found["profiles"] and "zoe-00" not in words_of(out)
    assert json.loads((out / "status" / "zoe.json").read_text())["state"] == "failed"
    speech = world.command(tmp_path / "new", "--keep-going", "--profiles", str(out / "profiles"), data=data)
    code, printed, _ = run(decode.main, speech)
    assert code == 0
    assert "with profiles that were learnt under other settings than most: zoe\n" in printed
