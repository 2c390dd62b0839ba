"""A torchaudio that is missing or does not load beside torch: one line with the remedy, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import DependencyError

BROKEN = {
    "another_build": "raise OSError('libc10_cuda.so: cannot open shared object file: No such file or directory')",
    "missing": "raise ModuleNotFoundError(\"No module named 'torchaudio'\")",
}


@pytest.fixture(params=BROKEN)
def broken_torchaudio(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a torchaudio that fails at import, as the wheel of another build does."""
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text(BROKEN[request.param] + "\n")
    return tmp_path


def test_a_torchaudio_that_does_not_load_is_told_in_one_line(
    broken_torchaudio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(broken_torchaudio))
    with pytest.raises(DependencyError) as caught:
        import_torchaudio("compliance.kaldi")
    text = str(caught.value)
    assert "\n" not in text
    assert "pip install torch==2.11.0 torchaudio==2.11.0" in text


def test_features_tell_the_remedy_instead_of_a_traceback(broken_torchaudio: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(broken_torchaudio)!r})\n"
        "from lhuc_asr.cli._common import main_guard\n"
        "@main_guard\n"
        "def main(argv):\n"
        "    import numpy as np\n"
        "    from lhuc_asr.features.pipeline import FeatureConfig, compute_feats\n"
        "    compute_feats(np.zeros(16000, np.float32), FeatureConfig())\n"
        "    return 0\n"
        "sys.exit(main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "torchaudio cannot load beside the installed torch" in done.stderr
    assert "pip install torch==" in done.stderr


def test_the_installed_pair_loads() -> None:
    assert hasattr(import_torchaudio("compliance.kaldi"), "fbank")
