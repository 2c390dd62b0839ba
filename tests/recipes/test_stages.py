"""The shell that all recipes share: stages by number and name, options, overrides, honest exit codes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RECIPES = Path(__file__).parent.parent.parent / "recipes"
RECIPE = """#!/usr/bin/env bash
# A recipe to try.
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
corpus="" size=full
parse_options "corpus size" "$@"
if stage 1 prepare; then
  echo "prepare corpus=$corpus size=$size ${data#"$out"} ${overrides[*]}"
fi
if stage 2 train; then
  echo train
  [[ $size != broken ]] || (exit 7)
fi
if stage 3 score; then
  echo score
fi
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes" / "trial"
    folder.mkdir(parents=True)
    shutil.copy(RECIPES / "stages.sh", tmp_path / "recipes")
    (folder / "run.sh").write_text(RECIPE)
    return folder / "run.sh"


def run(recipe: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(recipe), *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_all_stages_run_with_options_and_overrides(recipe: Path) -> None:
    done = run(recipe, "adapt.lr=0.4", "--corpus", "a b", "lhuc=exp")
    assert done.stdout.splitlines() == ["prepare corpus=a b size=full /data adapt.lr=0.4 lhuc=exp", "train", "score"]
    assert "trial: stage 2 train" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "stages"),
    [
        (["--stage", "2"], "train score"),
        (["--stage", "train"], "train score"),
        (["--stop-stage", "prepare"], "prepare"),
        (["--stage", "2", "--stop-stage", "train"], "train"),
        (["--stage", "score"], "score"),
    ],
)
def test_stages_are_chosen_by_number_or_name(recipe: Path, arguments: list[str], stages: str) -> None:
    done = run(recipe, *arguments)
    assert [line.split()[0] for line in done.stdout.splitlines()] == stages.split()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stage", "tarin"], "no stage 'tarin'; there are: 1 prepare, 2 train, 3 score"),
        (["--stage"], "--stage needs a value"),
        (["--corpis", "x"], "no option --corpis"),
        (["train"], "'train' is neither an option nor key=value"),
    ],
)
def test_mistakes_are_told_and_nothing_starts(recipe: Path, arguments: list[str], said: str) -> None:
    done = run(recipe, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_failing_stage_ends_the_recipe_with_its_code(recipe: Path) -> None:
    done = run(recipe, "--size", "broken")
    assert done.returncode == 7
    assert "score" not in done.stdout
    assert "stopped with 7 in stage 2 train" in done.stderr


def test_results_go_where_they_are_asked_to(recipe: Path, tmp_path: Path) -> None:
    assert run(recipe, "--out", str(tmp_path / "new" / "place")).returncode == 0
    assert (tmp_path / "new" / "place").is_dir()


def test_help_shows_the_recipe_its_options_and_stages(recipe: Path) -> None:
    done = run(recipe, "--help")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "A recipe to try."
    assert "--corpus VALUE" in done.stdout
    assert "1 prepare, 2 train, 3 score" in done.stdout


def test_every_recipe_is_short_and_has_stages() -> None:
    for recipe in RECIPES.glob("*/*.sh"):
        text = recipe.read_text()
        assert len(text.splitlines()) < 120, recipe
        assert "if stage 1 " in text or "run_paper_stages" in text, recipe
        assert "ln -s" not in text, recipe
        assert subprocess.run(["bash", "-n", str(recipe)], check=False).returncode == 0
