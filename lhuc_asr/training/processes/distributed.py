"""Several processes that train one network together, as torchrun starts them::

    torchrun --nproc-per-node 4 $(which lhuc-train) --data ... --out ...

They talk through gloo, between GPUs through nccl; on several machines, which torchrun joins as well, ``--out`` lies on
a disk that all of them share. A process that was not started by torchrun is alone, and nothing here costs it anything.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lhuc_asr.errors import ConfigError, WorkerError
from lhuc_asr.parallel import num_cores
from lhuc_asr.training.processes.shares import ALL, Share

Value = TypeVar("Value")

_PATIENCE = timedelta(days=7)
"""A process may wait as long as the first one is at work alone; that one has died is noticed at once."""

logger = logging.getLogger(__name__)


class Device(Enum):
    """Where a network learns; auto is a GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def own_device(device: Device) -> torch.device:
    """The device of this process; of several processes on a machine each has a GPU of its own.

    Raises:
        ConfigError: there is no GPU, or there are fewer than processes.
    """
    if device is Device.cpu or (device is Device.auto and not torch.cuda.is_available()):
        return torch.device("cpu")
    number, num_devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= num_devices:
        raise ConfigError(
            f"process {number} of this machine finds {num_devices} GPUs: start no more processes than there are GPUs, "
            "or choose training.device=cpu"
        )
    return torch.device("cuda", number)


@contextmanager
def joined() -> Iterator[Share]:
    """Join the other processes inside the block, if torchrun started several; all but the first keep quiet.

    Processes of one machine divide its cores.

    Raises:
        ConfigError: torchrun's environment variables are incomplete.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALL
        return
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    except ValueError as error:
        raise ConfigError(f"WORLD_SIZE is set, but this is no process of torchrun's: {error}") from error
    local = int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
    torch.set_num_threads(min(torch.get_num_threads(), max(1, num_cores() // local)))
    try:
        if not is_first():
            logging.getLogger("lhuc_asr").setLevel(logging.WARNING)
            os.environ["TQDM_DISABLE"] = "1"
        logger.info("%d processes train together", dist.get_world_size())
        yield own_share()
    finally:
        dist.destroy_process_group()


def own_share() -> Share:
    """Which of the processes this is."""
    return Share(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALL


def is_first() -> bool:
    """Whether this process is the one that writes, also where it is alone."""
    return own_share().number == 0


_is_apart = False


@contextmanager
def first_alone(*, when: bool = True) -> Iterator[None]:
    """Let the first process through the block while the others wait; when they go through it, they find it done.

    Inside, nobody waits for anybody: a block within is gone through as if the process were alone.

    Args:
        when: false lets all through at once.
    """
    global _is_apart
    if not when or _is_apart or not dist.is_initialized():
        yield
        return
    if not is_first():
        wait_for_all()
    _is_apart = True
    try:
        yield
    finally:
        _is_apart = False
    if is_first():
        wait_for_all()  # and not where the block failed: then the others hear that this process has ended


def by_first(make: Callable[[], Value]) -> Value:
    """What the first process makes, given to all of them.

    Raises:
        WorkerError: another process has ended.
    """
    if _is_apart or not dist.is_initialized():
        return make()
    held = [make() if is_first() else None]
    with _together():
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    made: Value = held[0]  # type: ignore[assignment]
    return made


def wait_for_all() -> None:
    """Go on when all processes are here.

    Raises:
        WorkerError: another process has ended.
    """
    add_up(torch.zeros(1))


def add_up(values: Tensor) -> None:
    """Put the sum over all processes in the place of values; it is the same in all of them, bit for bit.

    Raises:
        WorkerError: another process has ended.
    """
    if dist.is_initialized() and not _is_apart:
        with _together():
            dist.all_reduce(values)


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        num_processes = own_share().of
        raise WorkerError(
            f"another of the {num_processes} processes has ended, and its own message tells why; what is done is kept: "
            "run the same command again to continue"
        ) from error
