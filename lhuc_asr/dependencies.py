"""Packages that may be installed and still not load, and the one line that says what to do."""

from __future__ import annotations

import importlib
from types import ModuleType

from lhuc_asr.errors import DependencyError

_PAIR = "torch==2.11.0 torchaudio==2.11.0"


def import_torchaudio(submodule: str = "") -> ModuleType:
    """Torchaudio, or one of its modules such as ``compliance.kaldi``; import it through this function everywhere.

    A torchaudio built for another torch (another version, or CUDA beside a CPU build) is found and then fails to load
    its libraries with an OSError, far from anything that the user did.

    Raises:
        DependencyError: it is missing or cannot load; the text names the remedy.

    Example:
        >>> kaldi = import_torchaudio("compliance.kaldi")
        >>> kaldi.fbank.__name__
        'fbank'
    """
    try:
        return importlib.import_module(f"torchaudio.{submodule}" if submodule else "torchaudio")
    except (ImportError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise DependencyError(
            f"torchaudio cannot load beside the installed torch ({reason[0] if reason else type(error).__name__}); "
            f"install the two as a pair: pip install {_PAIR}"
        ) from error
