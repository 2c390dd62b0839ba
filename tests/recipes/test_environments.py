"""Speakers and environments: which commands the recipes run, told by others in their place."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from helpers.told_commands import tell_commands

SCRIPTS = ["speechocean762/environments.sh", "fsdd/environments.sh"]
COMMANDS = ["lhuc-environments", "lhuc-train", "lhuc-decode", "lhuc-adapt", "lhuc-profiles", "lhuc-score"]
SYSTEMS = ("SI", "environment", "product", "joint", "alpha_0.5", "alpha_0.7", "speaker", "again")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands write what they are given."""
    return tell_commands(tmp_path, monkeypatch, SCRIPTS, COMMANDS)


def run(tmp_path: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(tmp_path / "recipes" / script), "--out", str(tmp_path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_environments_are_simulated_as_the_experiment_hears_them(told: Path, tmp_path: Path) -> None:
    done = run(tmp_path, SCRIPTS[0], "--experiment", "demo", "environments.noises=[pink]", "model.hidden_dim=8")
    assert done.returncode == 0, done.stderr
    lines = told.read_text().splitlines()
    simulated = [line for line in lines if line.startswith("lhuc-environments")]
    assert [line.split("--data ")[1].split()[0] for line in simulated] == [
        f"{tmp_path}/data/{name}" for name in ("train", "dev", "test")
    ]
    of_networks = [line for line in lines if line.startswith(("lhuc-train", "lhuc-decode", "lhuc-adapt"))]
    assert all("experiment=demo" in line and "model.hidden_dim=8" in line for line in simulated + of_networks)
    assert all("environments.noises=[pink]" in line for line in simulated)
    assert not any("environments.noises" in line for line in of_networks)


def test_of_a_fold_only_the_lexicon_is_shared(told: Path, tmp_path: Path) -> None:
    assert run(tmp_path, SCRIPTS[0], "--fold", "without-anna").returncode == 0
    (train,) = (line for line in told.read_text().splitlines() if line.startswith("lhuc-train"))
    below = f"{tmp_path}/data/without-anna/environments"
    assert f"--data {below}/train --lexicon {tmp_path}/data/lexicon.txt --dev {below}/dev" in train
    assert f"--out {tmp_path}/exp/without-anna/environments/si" in train
    said = told.read_text().replace(f"{tmp_path}/data/lexicon.txt", "")
    assert f"{tmp_path}/data/" not in said.replace(f"{tmp_path}/data/without-anna/", "")
    assert f"{tmp_path}/exp/" not in said.replace(f"{tmp_path}/exp/without-anna/", "")


def test_speakers_who_are_left_out_are_scored_together(told: Path, tmp_path: Path) -> None:
    written_by_the_folds(tmp_path, "anna", "ben")
    done = run(tmp_path, SCRIPTS[1])
    assert done.returncode == 0, done.stderr
    lines = told.read_text().splitlines()
    assert sum(line.startswith("lhuc-train") for line in lines) == 2
    assert all("experiment=fsdd" in line for line in lines if line.startswith(("lhuc-train", "lhuc-environments")))
    all_of_them = tmp_path / "exp" / "environments"
    assert lines[-1].startswith(f"lhuc-score --ref {all_of_them}/text --utt2spk {all_of_them}/utt2spk --hyp SI=")
    for system in SYSTEMS:
        assert f"--hyp {system}={all_of_them}/{system} " in lines[-1]
        assert (all_of_them / system).read_text() == f"anna {system}\nben {system}\n"


def written_by_the_folds(tmp_path: Path, *names: str) -> None:
    """What the commands would have written, each file with its speaker and its system."""
    folders = ("decode/si", "decode/alpha_0", "decode/product", "joint/adapted")
    folders += ("decode/alpha_0.5", "decode/alpha_0.7", "decode/alpha_1", "again/adapted")
    for name in names:
        heard = tmp_path / "data" / f"without-{name}" / "environments" / "test"
        heard.mkdir(parents=True)
        for table in ("text", "utt2spk", "spk2condition"):
            (heard / table).write_text(f"{name} {table}\n")
        for folder, system in zip(folders, SYSTEMS, strict=True):
            (path := tmp_path / "exp" / f"without-{name}" / "environments" / folder).mkdir(parents=True)
            (path / "text").write_text(f"{name} {system}\n")
