"""Recipes whose commands only tell what they are given, in a copy that needs no set-up."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

RECIPES = Path(__file__).parent.parent.parent / "recipes"
TELL = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$TOLD"
printf '%q ' "$(basename "$0")" "$@" >> "$TOLD.quoted" && echo >> "$TOLD.quoted"
"""
LEFT = """
while (($#)); do
  [[ $1 != --out ]] || for file in {si/,adapted/,}text decoding.json work/{features,gmm,gmm_features}/done; do
    mkdir -p "$(dirname "$2/$file")" && touch "$2/$file"
  done
  shift
done
"""
"""Empty files in ``--out``, where recipes look for what commands of theirs leave."""


def quoted(told: Path) -> list[list[str]]:
    """The commands that were told, each as a list of its words."""
    return [shlex.split(line) for line in Path(f"{told}.quoted").read_text().splitlines()]


def tell_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, scripts: list[str], commands: list[str], *, leaving: bool = False
) -> Path:
    """Copy scripts of recipes/ and put tellers in the commands' place; returns where those write, one line each.

    ``leaving``: they leave empty files as well, so that a recipe goes on to its end.
    """
    for name in ("stages.sh", *scripts):
        (copy := folder / "recipes" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(RECIPES / name, copy)
    for name in ("scripts/setup.sh", *(f"venv/bin/{command}" for command in commands)):
        (program := folder / name).parent.mkdir(parents=True, exist_ok=True)
        program.write_text("" if name.endswith(".sh") else TELL + LEFT * leaving)
        program.chmod(0o755)
    monkeypatch.setenv("LHUC_ASR_VENV", str(folder / "venv"))
    monkeypatch.setenv("TOLD", str(folder / "told"))
    return folder / "told"
