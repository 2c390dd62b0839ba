"""Recipes whose commands only tell what they are given, in a copy that needs no set-up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

RECIPES = Path(__file__).parent.parent.parent / "recipes"
TELL = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$TOLD"
"""


def tell_commands(folder: Path, monkeypatch: pytest.MonkeyPatch, scripts: list[str], commands: list[str]) -> Path:
    """Copy scripts of recipes/ and put tellers in the commands' place; returns where those write, one line each."""
    for name in ("stages.sh", *scripts):
        (copy := folder / "recipes" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(RECIPES / name, copy)
    for name in ("scripts/setup.sh", *(f"venv/bin/{command}" for command in commands)):
        (program := folder / name).parent.mkdir(parents=True, exist_ok=True)
        program.write_text("" if name.endswith(".sh") else TELL)
        program.chmod(0o755)
    monkeypatch.setenv("LHUC_ASR_VENV", str(folder / "venv"))
    monkeypatch.setenv("TOLD", str(folder / "told"))
    return folder / "told"
