"""The one door to ``torchaudio.compliance.kaldi``: loads it when first used, and says the remedy where it cannot."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from lhuc_asr.errors import DependencyError


@cache
def kaldi() -> ModuleType:
    """Torchaudio's functions with Kaldi's definitions.

    Raises:
        DependencyError: torchaudio is absent or was built for another torch.
    """
    try:
        from torchaudio.compliance import kaldi as functions
    except (ImportError, OSError) as error:
        raise DependencyError(
            f"torchaudio cannot be loaded beside the installed torch ({error}); install the tested pair: "
            "pip install torch==2.11.0 torchaudio==2.11.0 --index-url https://download.pytorch.org/whl/cpu"
        ) from error
    module: ModuleType = functions
    return module
