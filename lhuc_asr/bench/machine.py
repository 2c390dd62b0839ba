"""The machine that figures were measured on."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from lhuc_asr.errors import ConfigError
from lhuc_asr.parallel import num_cores

_MATRIX_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a reader must know to judge a figure.

    Attributes:
        processor: model of the CPU.
        num_cores: cores that this process may use.
        instructions: those for matrix products that the CPU has.
        system: operating system.
        python: version.
        torch: version.
        device: where the nets ran, with the name of the accelerator.
    """

    processor: str
    num_cores: int
    instructions: tuple[str, ...]
    system: str
    python: str
    torch: str
    device: str


def describe_machine(device: torch.device) -> Machine:
    """The machine that this process runs on."""
    facts = _cpu_facts()
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    flags = facts.get("flags", "").split()
    return Machine(
        processor=facts.get("model name") or platform.processor() or platform.machine(),
        num_cores=num_cores(),
        instructions=tuple(flag for flag in _MATRIX_FLAGS if flag in flags),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        device=f"{device}{name}",
    )


def usable_device(name: str) -> torch.device:
    """The device of that name, or ConfigError when this machine has none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but torch finds no accelerator here; cpu is possible")
    return torch.device(name)


def _cpu_facts() -> dict[str, str]:
    """Name -> value of the first processor, as Linux tells them; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text(encoding="utf-8").partition("\n\n")[0]
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
