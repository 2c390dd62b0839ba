"""The toy recipe: one person's points help that person, and a picture is drawn."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "recipes" / "toy" / "two_moons.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("seed", ["0", "1"])
def test_more_points_are_told_right_with_scales(tmp_path: Path, seed: str) -> None:
    done = run("--out", str(tmp_path), "--seed", seed)
    found = re.fullmatch(r"40 points of a new person, 64 scales: (.*)% -> (.*)% right\n", done.stdout)
    assert found, done.stderr
    assert float(found[2]) > float(found[1]) + 5
    assert (tmp_path / "two_moons.png").read_bytes().startswith(b"\x89PNG")


def test_no_points_are_refused(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path), "--points", "0")
    assert done.returncode == 2 and "--points must be 1 or more, got 0" in done.stderr
