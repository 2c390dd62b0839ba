"""All settings of a run, as one dataclass made of every room's own."""

from __future__ import annotations

from dataclasses import dataclass

from lhuc_asr.errors import ConfigError
from lhuc_asr.parallel import num_cores


@dataclass(kw_only=True, slots=True)
class RuntimeConfig:
    """What a run may use of the machine, and its random seed.

    Attributes:
        seed: where all random choices begin.
        num_jobs: processes for decoding, features and alignment; 0 is one per core.
        num_threads: threads of torch in this process; 0 is one per core.
    """

    seed: int = 0
    num_jobs: int = 0
    num_threads: int = 0

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        for name in ("seed", "num_jobs", "num_threads"):
            if getattr(self, name) < 0:
                raise ConfigError(f"runtime.{name} must be 0 or more, got {getattr(self, name)}")

    @property
    def jobs(self) -> int:
        """Processes to use, with 0 resolved to the number of cores."""
        return self.num_jobs or num_cores()
