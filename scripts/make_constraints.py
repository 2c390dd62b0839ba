"""Resolve every dependency and extra for several Pythons and write constraints.txt, with markers where they differ.

    python scripts/make_constraints.py python3.11 python3.10 python3.12 python3.13

The first interpreter (3.11 or later) decides; the others follow its versions where they can. Run the tests before
committing the result.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib

ROOT = Path(__file__).parent.parent
HEAD = """\
# The tested set, for Python 3.10 to 3.13; written by scripts/make_constraints.py.
# torch and torchaudio are a pair: another torchaudio does not load beside this torch.
# What belongs to CUDA is left to torch's own pins, so that a CPU build of torch satisfies this file too.
"""
FREE = ("nvidia-", "cuda-", "triton")
PAIR = "torch==2.11.0\ntorchaudio==2.11.0\n"


def requirements() -> list[str]:
    """What the package and all its extras ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(need for extra in project["optional-dependencies"].values() for need in extra)]


def resolve(python: str, constraints: str) -> dict[str, str] | None:
    """Name -> version of everything that pip would install, or None when that cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        pins, report, venv = Path(folder, "pins.txt"), Path(folder, "report.json"), Path(folder, "venv")
        pins.write_text(constraints)
        subprocess.run([python, "-m", "venv", venv], check=True)
        command = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--prefer-binary", "--report", report, "-c", pins, *requirements()]
        if subprocess.run(command, check=False).returncode:
            return None
        found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    versions = {item["name"].lower().replace("_", "-"): item["version"] for item in found}
    return {name: version for name, version in sorted(versions.items()) if not name.startswith(FREE)}


def version_of(python: str) -> tuple[int, int]:
    """An interpreter's (major, minor)."""
    text = subprocess.check_output([python, "-c", "import sys; print(*sys.version_info[:2])"], text=True)
    major, minor = map(int, text.split())
    return major, minor


def main(pythons: list[str]) -> None:
    base = resolve(pythons[0], PAIR)
    assert base is not None
    pins = "".join(f"{name}=={version}\n" for name, version in base.items())
    lines = {(name, version): [version_of(pythons[0])] for name, version in base.items()}
    for python in pythons[1:]:
        found = resolve(python, pins) or resolve(python, PAIR)
        assert found is not None, python
        for pin in found.items():
            lines.setdefault(pin, []).append(version_of(python))
    text = HEAD
    for (name, version), where in sorted(lines.items()):
        only = [f'python_version == "{major}.{minor}"' for major, minor in sorted(where)]
        text += f"{name}=={version}" + ("" if len(where) == len(pythons) else f" ; {' or '.join(only)}") + "\n"
    (ROOT / "constraints.txt").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
