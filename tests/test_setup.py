"""The script that sets all up: one environment, installed once, with all extras that anybody asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETUP = ROOT / "scripts" / "setup.sh"
FAKE_PYTHON = """#!/usr/bin/env bash
# Stands in for an interpreter: makes environments that contain itself, and counts what is installed.
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *" install "*) sleep 0.5; echo "$*" >> "$COUNT" ;;
esac
"""


@pytest.fixture
def setup_environment(tmp_path: Path) -> dict[str, str]:
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    venv, count = tmp_path / "venv", tmp_path / "count"
    return {**os.environ, "PYTHON": str(python), "LHUC_ASR_VENV": str(venv), "COUNT": str(count)}


def start_setup(environment: dict[str, str], *extras: str, script: Path = SETUP) -> subprocess.Popen[str]:
    command = ["bash", str(script), *extras]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def set_up(environment: dict[str, str], *extras: str, script: Path = SETUP) -> tuple[int, str]:
    process = start_setup(environment, *extras, script=script)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_setup_installs_once_and_again_only_for_more_extras(setup_environment: dict[str, str]) -> None:
    count = Path(setup_environment["COUNT"])
    code, said = set_up(setup_environment, "demo", "test")
    assert code == 0
    assert "installing lhuc_asr[demo,test]" in said
    assert set_up(setup_environment, "test") == (0, "")
    assert set_up(setup_environment) == (0, "")
    assert len(count.read_text().splitlines()) == 1
    _, said = set_up(setup_environment, "dev")
    assert "lhuc_asr[demo,dev,test]" in said
    assert len(count.read_text().splitlines()) == 2


def test_two_setups_at_once_install_once(setup_environment: dict[str, str]) -> None:
    both = [start_setup(setup_environment, "test") for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert len(Path(setup_environment["COUNT"]).read_text().splitlines()) == 1


def test_setup_without_a_suitable_python_says_so(setup_environment: dict[str, str]) -> None:
    code, said = set_up({**setup_environment, "PYTHON": "no-such-python"}, "test")
    assert code != 0
    assert said.count("\n") == 1
    assert "no Python 3.10 to 3.13" in said


def test_without_extras_the_package_alone_is_installed(setup_environment: dict[str, str]) -> None:
    assert set_up(setup_environment)[0] == 0
    assert Path(setup_environment["COUNT"]).read_text().endswith(f" -e {ROOT}\n")
    assert set_up(setup_environment) == (0, "")


def test_after_a_change_of_requirements_no_extras_are_forgotten(
    setup_environment: dict[str, str], tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(SETUP, checkout / "scripts")
    for requirements in ("torch==1", "torch==2"):
        for name in ("pyproject.toml", "constraints.txt"):
            (checkout / name).write_text(requirements)
        extras = ["test"] if requirements == "torch==1" else []
        assert set_up(setup_environment, *extras, script=checkout / "scripts" / "setup.sh")[0] == 0
    lines = Path(setup_environment["COUNT"]).read_text().splitlines()
    assert [line.split(" -e ")[1] for line in lines] == [f"{checkout}[test]"] * 2
