"""What is installed: declared dependencies, the lock, and the wheel with its presets."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
DISTRIBUTIONS = {"hydra": "hydra-core", "yaml": "pyyaml"}


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def pyproject() -> dict[str, list[str]]:
    """Extra (or "") -> requirements, read without a TOML parser, which Python 3.10 lacks."""
    text = (ROOT / "pyproject.toml").read_text()
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    lists = {"": text.partition("\ndependencies = ")[2].partition("\n]")[0] + "]"}
    for part in _assignments(section):
        name, _, value = part.partition("=")
        lists[name.strip()] = value.strip()
    return {name: ast.literal_eval(value) for name, value in lists.items()}


def _assignments(section: str) -> list[str]:
    found: list[str] = []
    for line in section.strip().splitlines():
        if line[:1].isalpha():
            found.append(line)
        else:
            found[-1] += "\n" + line
    return found


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_imported_package_is_declared() -> None:
    declared = {canonical(Requirement(need).name) for needs in pyproject().values() for need in needs}
    for source in (ROOT / "lhuc_asr").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in {name.partition(".")[0] for name in names} - {"lhuc_asr", "__future__"}:
                if name not in sys.stdlib_module_names:
                    assert canonical(DISTRIBUTIONS.get(name, name)) in declared, f"{source}: {name} is not declared"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_one_version_of_every_dependency_in_every_python(python: str) -> None:
    locked: dict[str, list[str]] = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            locked.setdefault(canonical(pin.name), []).append(str(pin.specifier))
    assert {name: found for name, found in locked.items() if len(found) > 1} == {}
    for need in (Requirement(text) for needs in pyproject().values() for text in needs):
        found = locked.get(canonical(need.name))
        assert found is not None, f"{need.name} is not locked for Python {python}"
        assert need.specifier.contains(found[0].removeprefix("==")), f"{need} against the locked {found[0]}"


def test_torch_and_torchaudio_are_locked_as_a_pair_and_the_decoders_exactly() -> None:
    locked = {canonical(pin.name): str(pin.specifier) for pin in pins()}
    assert locked["torch"] == locked["torchaudio"] == "==2.11.0"
    core = pyproject()[""]
    assert "kaldifst==1.8.3" in core
    assert "kaldi-decoder==0.3.2" in core


def test_every_command_is_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]")[2].partition("\n[")[0]
    commands = {source.stem for source in (ROOT / "lhuc_asr" / "cli").glob("[a-z]*.py")}
    for command in commands:
        assert f'lhuc-{command} = "lhuc_asr.cli.{command}:main"' in text


def test_the_wheel_carries_the_presets_and_works_from_any_folder(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    installed = tmp_path / "site"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
        names = wheel.namelist()
    assert "lhuc_asr/configs/config.yaml" in names
    assert not [name for name in names if name.startswith(("tests/", "scripts/", "recipes/", "configs/"))]
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    code = (
        "import lhuc_asr; from lhuc_asr.config.compose import compose, preset_directory\n"
        "print(preset_directory(), compose(['model=dnn_paper', 'experiment=demo']).model.hidden_dim)"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == f"{installed / 'lhuc_asr' / 'configs'} 2048", done.stderr
