"""How quick a store of very many profiles is: opening, listing, getting, putting, bytes on disk."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.profiles.profile import Profile
from lhuc_asr.profiles.store import ProfileStore
from lhuc_asr.units import Seconds

_FINGERPRINT = "0" * 64


@dataclass(frozen=True)
class StoreFigures:
    """Figures of one store, ready for JSON.

    Attributes:
        num_profiles: in the store.
        profile_bytes: the numbers of one profile.
        puts_per_second: one profile each, one process.
        open_seconds: until the store can be asked.
        list_seconds: until all speakers are known.
        get_ms_p50: median of getting a random speaker's profile, checked and ready to attach; in milliseconds.
        get_ms_p99: 99 of 100 take less.
        get_cpu_ms_p99: the same, of the processor's time alone: what other processes take away does not enter.
        delete_ms: median of deleting one speaker without a trace.
        disk_bytes: blocks that the store takes.
    """

    num_profiles: int
    profile_bytes: int
    puts_per_second: float
    open_seconds: Seconds
    list_seconds: Seconds
    get_ms_p50: float
    get_ms_p99: float
    get_cpu_ms_p99: float
    delete_ms: float
    disk_bytes: int


def measure_store(
    path: Path, *, num_profiles: int = 100_000, num_layers: int = 6, num_units: int = 512, num_gets: int = 5000
) -> dict[str, Any]:
    """Fill a new store with float16 profiles of as many speakers, then open, list, get and delete.

    The store stays where it is; the caller removes it. Files lie in the page cache, as they do on a busy server.

    Args:
        path: of a store that does not exist yet; its name decides between folder and SQLite.
        num_profiles: speakers, one version each.
        num_layers: sites of a profile.
        num_units: of every site.
        num_gets: random speakers to get.

    Example:
        >>> import tempfile
        >>> figures = measure_store(Path(tempfile.mkdtemp()) / "s.sqlite", num_profiles=20, num_gets=5)
        >>> figures["num_profiles"], figures["profile_bytes"]
        (20, 6144)
    """
    store = ProfileStore.open(path, create=True)
    putting = sum(_seconds(partial(store.put, profile)) for profile in _profiles(num_profiles, num_layers, num_units))
    store.close()
    opened: list[ProfileStore] = []
    opening = _seconds(lambda: opened.append(ProfileStore.open(path, fingerprint=_FINGERPRINT)))
    store = opened[0]
    listing = _seconds(lambda: _require(len(store.speakers()) == num_profiles))
    chosen = random.Random(0)
    asked = [_name(chosen.randrange(num_profiles)) for _ in range(num_gets)]
    gets = [_seconds(partial(store.get, speaker)) for speaker in asked]
    cpu = [_seconds(partial(store.get, speaker), clock=time.thread_time) for speaker in asked]
    disk = store.backend.size_bytes()
    deletes = [_seconds(partial(store.delete, _name(number))) for number in range(min(9, num_profiles))]
    store.close()
    figures = StoreFigures(
        num_profiles=num_profiles,
        profile_bytes=num_layers * num_units * 2,
        puts_per_second=num_profiles / putting,
        open_seconds=opening,
        list_seconds=listing,
        get_ms_p50=1000 * float(np.percentile(gets, 50)),
        get_ms_p99=1000 * float(np.percentile(gets, 99)),
        get_cpu_ms_p99=1000 * float(np.percentile(cpu, 99)),
        delete_ms=1000 * float(np.median(deletes)),
        disk_bytes=disk,
    )
    return asdict(figures)


def _profiles(count: int, num_layers: int, num_units: int) -> Iterator[Profile]:
    """Profiles with all that a real one says of itself."""
    generator = torch.Generator().manual_seed(0)
    settings = {"adapt": {"lr": 0.8, "num_epochs": 3, "supervision": "one_best"}, "lhuc": {"amplitude": "exp"}}
    for number in range(count):
        r_LH = 0.1 * torch.randn(num_layers, num_units, generator=generator)
        yield Profile(
            speaker=_name(number),
            base_fingerprint=_FINGERPRINT,
            amplitude=Amplitude.exp,
            r={f"layers.{layer}.activation": r_LH[layer] for layer in range(num_layers)},
            dtype="float16",
            seconds=60.0,
            supervision="one_best",
            objective_before=2.5,
            objective_after=2.0,
            settings={**settings, "utterances": [f"{_name(number)}-{index:02}" for index in range(20)]},
        )


def _name(number: int) -> str:
    return f"speaker-{number * 7919 % 1_000_003:07}"


def _seconds(work: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter) -> Seconds:
    began = clock()
    work()
    return clock() - began


def _require(condition: bool) -> None:
    assert condition
