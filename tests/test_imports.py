"""The package and every --help answer before torch is imported; packages that clash are never imported together."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import lhuc_asr
import lhuc_asr.cli

COMMANDS = sorted(module.name for module in pkgutil.iter_modules(lhuc_asr.cli.__path__) if module.name[0] != "_")
HEAVY = ("torch", "torchaudio", "numpy", "hydra", "omegaconf", "librosa", "kaldifst", "matplotlib", "lhotse")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)


def heavy_after(code: str) -> str:
    done = run_python(f"import sys\n{code}\nprint('HEAVY', *(name for name in {HEAVY!r} if name in sys.modules))")
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("HEAVY")[2].strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert heavy_after("import lhuc_asr") == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    code = f"from lhuc_asr.cli.{command} import main\nassert main(['--help']) == 0"
    assert heavy_after(code) == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_flag_is_refused_before_anything_heavy(command: str) -> None:
    code = f"from lhuc_asr.cli.{command} import main\nassert main(['--no-such-flag']) == 2"
    assert heavy_after(code) == ""


@pytest.mark.parametrize("package", ["lhuc_asr", "lhuc_asr.cli"])
def test_version_is_told(package: str) -> None:
    assert run_python(f"import {package}, lhuc_asr; print(lhuc_asr.__version__)").stdout.strip() == lhuc_asr.__version__


@pytest.mark.parametrize("order", ["kaldifst, kaldi_decoder, torch", "torch, kaldi_decoder, kaldifst"])
def test_the_native_packages_load_in_any_order(order: str) -> None:
    code = f"import faulthandler; faulthandler.dump_traceback_later(60, exit=True)\nimport {order}\nprint('loaded')"
    done = run_python(code)
    assert done.stdout.strip() == "loaded", done.stderr
