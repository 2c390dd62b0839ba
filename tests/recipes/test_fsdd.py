"""Digits: which commands the recipe runs for every speaker who is left out, told by others in their place."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from helpers.told_commands import tell_commands

SPEAKERS = ("anna", "ben")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands write what they are given; the data lie there."""
    for speaker in SPEAKERS:
        (test := tmp_path / "data" / f"without-{speaker}" / "test").mkdir(parents=True)
        for table in ("text", "utt2spk"):
            (test / table).write_text(f"{speaker} {table}\n")
    return tell_commands(tmp_path, monkeypatch, ["fsdd/run.sh"], ["lhuc-train", "lhuc-adapt", "lhuc-score"])


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(tmp_path / "recipes" / "fsdd" / "run.sh"), "--out", str(tmp_path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def recognised(tmp_path: Path, run: str) -> None:
    """Words of every speaker, as an adaptation would have written them."""
    for speaker in SPEAKERS:
        for name in ("si", "adapted"):
            (path := tmp_path / "exp" / f"without-{speaker}" / run / name).mkdir(parents=True)
            (path / "text").write_text(f"{speaker} {name}\n")


@pytest.mark.parametrize("script", ["run.sh", "environments.sh"])
def test_without_prepared_speech_nothing_starts(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tell_commands(tmp_path, monkeypatch, [f"fsdd/{script}"], ["lhuc-train", "lhuc-environments"])
    stage = ["--stage", "train"] if script == "run.sh" else []
    command = ["bash", str(tmp_path / "recipes" / "fsdd" / script), "--out", str(tmp_path), *stage]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and "run run.sh --stop-stage prepare first" in done.stderr
    assert not told.exists()


def test_every_speaker_is_left_out_once_and_all_are_scored_together(told: Path, tmp_path: Path) -> None:
    recognised(tmp_path, "lhuc")
    done = run(tmp_path, "--stage", "train", "--stop-stage", "score", "model=cnn")
    assert done.returncode == 0, done.stderr
    *lines, score = told.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["lhuc-train"] * 2 + ["lhuc-adapt"] * 2
    assert all(line.endswith("experiment=fsdd model=cnn") for line in lines)
    for line, speaker in zip(lines, 2 * SPEAKERS, strict=True):
        assert f"{tmp_path}/data/without-{speaker}/" in line and f"{tmp_path}/exp/without-{speaker}/" in line
    assert score.split("--hyp SI=")[1].startswith(f"{tmp_path}/exp/lhuc/si --hyp LHUC={tmp_path}/exp/lhuc/adapted")
    assert (tmp_path / "exp" / "lhuc" / "adapted").read_text() == "anna adapted\nben adapted\n"
    assert (tmp_path / "exp" / "utt2spk").read_text() == "anna utt2spk\nben utt2spk\n"


@pytest.mark.parametrize(
    ("stage", "runs"),
    [
        ("amounts", ["seconds_10", "seconds_30", "seconds_60"]),
        ("enrolment", ["enrolment", "enrolment_oracle"]),
        ("smbr", ["smbr_lhuc"]),
        (
            "settings",
            [
                *(f"lhuc.amplitude={name}" for name in ("identity", "sigmoid2", "relu")),
                *(f"adapt.num_epochs={number}" for number in (1, 2, 5)),
                *(f"lhuc.layers={number}" for number in (1, 2, 3, 4)),
                *("protocol=rounds", "sigmoid2_3.2"),
            ],
        ),
    ],
)
def test_what_is_learnt_from_is_drawn_and_scored_run_by_run(
    stage: str, runs: list[str], told: Path, tmp_path: Path
) -> None:
    for name in runs:
        recognised(tmp_path, name)
    done = run(tmp_path, "--stage", stage, "--stop-stage", stage)
    assert done.returncode == 0, done.stderr
    lines = told.read_text().splitlines()
    assert [line.split("--out ")[1].split()[0] for line in lines if line.startswith("lhuc-score")] == [
        f"{tmp_path}/exp/{name}/score" for name in runs
    ]
    adapted = [line for line in lines if line.startswith("lhuc-adapt")]
    assert len(adapted) == len(SPEAKERS) * len(runs)
    assert all("protocol.shuffle=0" in line for line in adapted) == (stage in ("amounts", "enrolment"))
    starts = [line.split("criterion.start=")[1].split()[0] for line in lines if line.startswith("lhuc-train")]
    assert starts == ([f"{tmp_path}/exp/without-{speaker}/si" for speaker in SPEAKERS] if stage == "smbr" else [])
