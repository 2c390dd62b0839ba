"""lhuc-sweep in process, with a model that lhuc-train made: points, what is shared, what is not done twice."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from lhuc_asr.cli.adapt import main as adapt
from lhuc_asr.cli.sweep import build_parser, main
from lhuc_asr.data.audio import write_audio


@pytest.fixture
def own_data(world, tmp_path):
    """A copy of the tables, to be changed; the sound files are shared."""
    copy = tmp_path / "data"
    copy.mkdir()
    for table in ("wav.scp", "utt2spk", "text"):
        shutil.copy(world.test / table, copy)
    return copy


def points(out):
    return {path.name for path in (out / "points").iterdir()}


def figures(out):
    return json.loads((out / "sweep.json").read_text(encoding="utf-8"))["points"]


def test_the_flags():
    flags = {option for action in build_parser()._actions for option in action.option_strings}
    assert flags == {
        *("-h", "--help", "--debug", "--version", "--model", "--data", "--speaker", "--speaker-list"),
        *("--all-speakers", "--out", "--features", "--first-pass", "--keep-going", "--allow-commands"),
        *("--transforms", "--no-transforms", "--groups"),
    }


def test_two_grids_in_one_directory(world, run, tmp_path):
    out = tmp_path / "sweep"
    grid = world.command(out, "--all-speakers", "adapt.num_epochs=1,3", "lhuc.amplitude=exp,relu")
    code, printed, _ = run(main, grid)
    assert code == 0
    base = "adapt.min_seconds=0.5"
    assert points(out) == {
        base,
        f"adapt.num_epochs=1+{base}",
        f"lhuc.amplitude=relu+{base}",
        f"lhuc.amplitude=relu+adapt.num_epochs=1+{base}",
    }
    table = printed[printed.index("num_epochs  amplitude") :].splitlines()
    assert [line.split()[:2] for line in table[2:6]] == [["1", "exp"], ["1", "relu"], ["3", "exp"], ["3", "relu"]]
    assert "everywhere: min_seconds 0.5; 3 speakers, 54 words" in printed
    assert "figures: " in printed and "4 points\n" in printed
    assert len(list(out.glob("*.png"))) == 1
    assert not list(out.glob("points/*/first_pass")) and len(list((out / "first_pass").iterdir())) == 3

    code, printed, _ = run(main, world.command(out, "--all-speakers", "lhuc.layers=[],[1],[1,2]", "adapt.num_epochs=3"))
    assert code == 0 and printed.count("(done before)") == 1
    assert "6 points (3 of them from other sweeps)" in printed
    assert len(figures(out)) == 6 and len(list(out.glob("*.png"))) == 2
    learnt = {json.dumps(point["settings"]["lhuc.layers"]): point for point in figures(out)}
    assert learnt["[1]"]["objective_after"] != learnt["[1, 2]"]["objective_after"]

    before = {path: path.stat().st_mtime_ns for path in out.glob("points/*/profiles/*")}
    code, printed, _ = run(main, grid)
    assert code == 0 and printed.count("(done before)") == 4
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("points/*/profiles/*")}


def test_a_point_is_what_lhuc_adapt_gives(world, run, tmp_path):
    settings = ["--all-speakers", "protocol=enrolment", "adapt.lr=0.5"]
    assert run(adapt, world.command(tmp_path / "adapt", *settings))[0] == 0
    command = world.command(tmp_path / "sweep", "--first-pass", str(tmp_path / "adapt" / "first_pass"), *settings)
    code, printed, _ = run(main, command)
    assert code == 0 and "picture" not in printed and not (tmp_path / "sweep" / "first_pass").exists()
    (page,) = (
        json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "sweep").glob("points/*/results.json")
    )
    alone = json.loads((tmp_path / "adapt" / "results.json").read_text(encoding="utf-8"))
    assert page["systems"] == alone["systems"] and page["comparisons"] == alone["comparisons"]
    assert (tmp_path / "sweep" / "points").is_dir() and page["settings"]["protocol.name"] == "enrolment"


def test_other_searches_have_first_passes_of_their_own(world, run, tmp_path):
    assert run(main, world.command(tmp_path, "--speaker", "12_3", "decoding.beam=13,4"))[0] == 0
    assert {path.name for path in tmp_path.glob("first_pass*")} == {"first_pass", "first_pass@decoding.beam=4.0"}


def add_short_speaker(data, speaker):
    """Somebody who says next to nothing."""
    samples = 0.01 * np.random.default_rng(0).standard_normal(2400).astype(np.float32)
    write_audio(data / "short.wav", samples, 8000)
    for table, value in (("wav.scp", data / "short.wav"), ("utt2spk", speaker), ("text", "ONE")):
        lines = (data / table).read_text(encoding="utf-8").splitlines()
        (data / table).write_text("\n".join(sorted([*lines, f"{speaker}-a {value}"])) + "\n", encoding="utf-8")


def test_a_speaker_who_fails_is_named_and_counts_as_before(world, run, tmp_path, own_data):
    add_short_speaker(own_data, "mute")
    command = world.command(tmp_path / "out", "--all-speakers", "adapt.lr=0.4,0.8", data=own_data)
    code, printed, _ = run(main, command)
    assert code == 1
    assert printed.count("mute: failed:") == 2 and "mute, adapt.lr=0.4" in printed.partition("speakers failed:")[2]
    for point in figures(tmp_path / "out"):
        assert list(point["failed_speakers"]) == ["mute"] and point["SI"]["num_words"] == 55
    assert printed[printed.index("lr   ") :].splitlines()[0].endswith("failed")


def test_bad_audio_fails_its_speaker_unless_it_may_be_left_out(world, run, tmp_path, own_data):
    rows = dict(line.split() for line in (own_data / "wav.scp").read_text(encoding="utf-8").splitlines())
    for name in ("eve-00", *(name for name in rows if name.startswith("12_3"))):
        rows[name] = str(tmp_path / f"{name}.wav")
    (tmp_path / "eve-00.wav").write_bytes(b"no sound")  # and those of 12_3 do not exist
    (own_data / "wav.scp").write_text("".join(f"{name} {path}\n" for name, path in rows.items()), encoding="utf-8")
    command = world.command(tmp_path / "out", "--all-speakers", "adapt.num_epochs=1", data=own_data)
    code, printed, _ = run(main, command)
    failures = printed.partition("speakers failed:\n")[2].splitlines()
    assert code == 1 and [line.split()[0] for line in failures] == ["12_3,", "eve,"]
    assert failures[0].endswith("(and 5 more of 6 utterances)")
    assert failures[1].endswith("; --keep-going uses the good ones")
    code, printed, _ = run(main, [*command, "--keep-going"])
    assert code == 1 and "eve: left out: the audio of 'eve-00'" in printed
    (point,) = figures(tmp_path / "out")
    assert list(point["failed_speakers"]) == ["12_3"] and point["SI"]["num_words"] == 33


def test_a_point_where_everybody_fails_has_no_figures(world, run, tmp_path):
    code, printed, _ = run(main, world.command(tmp_path, "--speaker", "eve", "adapt.lr=0.4,1e35"))
    assert code == 1 and "eve: failed:" in printed and "adapt.lr=1e%2B35" in printed
    assert [point["settings"]["adapt.lr"] for point in figures(tmp_path)] == [0.4]


def test_points_that_are_not_comparable_are_refused(world, run, tmp_path):
    assert run(main, world.command(tmp_path, "--speaker", "eve"))[0] == 0
    code, _, complaint = run(main, world.command(tmp_path, "--speaker", "12_3", "adapt.lr=0.1,0.2"))
    assert code == 2 and "another speech" in complaint and "--out" in complaint
    assert points(tmp_path) == {"adapt.min_seconds=0.5"}


def test_mistakes_are_told_before_any_work(world, run, tmp_path, own_data):
    (own_data / "text").write_text("")
    for more, data, text in (
        (["runtime.seed=1,2"], world.test, "can be swept"),
        (["lhuc.layers=[1],[9]"], world.test, "no hidden layer 9"),
        (["adapt.lr=0.1,x"], world.test, "'adapt.lr=x'"),
        (["adapt.lr=0.1,0.2"], own_data, "no transcript"),
        (["features.fbank.num_mel_bins=40"], world.test, "features.fbank.num_mel_bins is 16, not 40"),
    ):
        code, printed, complaint = run(main, world.command(tmp_path / "out", "--all-speakers", *more, data=data))
        assert (code, printed) == (2, "") and text in complaint and complaint.count("lhuc-sweep:") == 1
    assert not (tmp_path / "out").exists()
