"""Every command of every recipe is one that its program understands, settings included."""

from __future__ import annotations

import importlib
import subprocess
from functools import cache
from pathlib import Path

import pytest

from helpers.told_commands import RECIPES, quoted, tell_commands
from lhuc_asr.cli._common import parse_arguments
from lhuc_asr.config.compose import compose
from lhuc_asr.config.sweep import expand

SCRIPTS = sorted(str(path.relative_to(RECIPES)) for path in RECIPES.glob("*/*.sh"))
SHARED = [path.name for path in RECIPES.glob("*.*") if path.suffix in (".sh", ".py")]
COMMANDS = sorted(f"lhuc-{path.stem}" for path in (RECIPES.parent / "lhuc_asr" / "cli").glob("[a-z]*.py"))
WRITTEN = [
    *(f"data/{name}/{table}" for name in ("dev", "test") for table in ("spk2age", "utt2spk")),
    *("exp/si/decoding.json", "exp/two/test/both/text"),
    *(f"data/without-anna/test/{table}" for table in ("text", "utt2spk")),
    *(f"data/without-anna/environments/test/{table}" for table in ("text", "utt2spk", "spk2condition")),
]
"""What scripts read, and other scripts or programs would have written."""
MORE = {"speechocean762/compare.sh": ["--amounts", "rest"]}
"""Fewer of what is all alike."""


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_is_understood(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tell_commands(tmp_path, monkeypatch, [*SHARED, *SCRIPTS], [*COMMANDS, "python"], leaving=True)
    for name in WRITTEN:
        (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    command = ["bash", str(tmp_path / "recipes" / script)]
    asked = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    for option in ("--corpus", "--lexicon"):
        command += [option, "somewhere"] if f"{option} VALUE" in asked else []
    command += ["--out", str(tmp_path), *MORE.get(script, [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    commands = [words for words in quoted(told) if words[0] != "python"]
    for program, *arguments in commands:
        understood(program, arguments)
    assert commands or "python" in told.read_text()


def understood(program: str, arguments: list[str]) -> None:
    """Parse a command as its program does, and put its settings together."""
    module = importlib.import_module(f"lhuc_asr.cli.{program.removeprefix('lhuc-')}")
    if parser := getattr(module, f"{arguments[0]}_parser", None):  # its first word is a verb with flags of its own
        arguments = arguments[1:]
    overrides = getattr(parse_arguments((parser or module.build_parser)(), arguments), "overrides", [])
    if program == "lhuc-sweep":
        first, *_, last = expand(overrides)
        composed(tuple(first))
        composed(tuple(last))
    else:
        composed(tuple(overrides))


@cache
def composed(overrides: tuple[str, ...]) -> None:
    compose(list(overrides))
