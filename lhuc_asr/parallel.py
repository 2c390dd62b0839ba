"""All use of the machine: threads, set once, a pool of forked workers, and the memory that they took."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from lhuc_asr.errors import WorkerError

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_num_threads(num_threads: int) -> None:
    """Give torch, numpy and numba that many threads; call it once, before they are used.

    Args:
        num_threads: 0 means all cores of this process.
    """
    count = num_threads or num_cores()
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(count)
    import torch

    torch.set_num_threads(count)


def peak_memory_gb() -> float:
    """The most memory that one process had until now, this one or a worker that has ended, in units of 2**30 bytes.

    What workers share with this process counts in each of them, so processes do not add up.
    """
    parties = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(party).ru_maxrss for party in parties) / 2**20  # kilobytes on Linux


@contextmanager
def one_thread(*, when: bool = True) -> Iterator[None]:
    """Let torch use one thread inside the block, because other processes share the cores.

    With as many busy processes as cores, two threads that meet after every layer were ten times slower than one. And
    one thread always adds in the same order, so results do not depend on the number of cores.

    Args:
        when: false leaves the threads as they are, for work that has the cores to itself.
    """
    if not when:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_function: Callable[[Any], Any] | None = None


def _start_worker() -> None:
    import sys

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@contextmanager
def _sigint_waits() -> Iterator[None]:
    """Let Ctrl-C wait while a worker may be forked: it must not hit the worker before that has learnt to ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _call(item: Any) -> Any:
    assert _function is not None
    return _function(item)


def map_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_jobs: int, ahead: int = 4
) -> Iterator[Result]:
    """Apply a function to every item in forked workers and yield the results in order.

    What the function closes over (a graph, a model) is shared with the workers copy-on-write and never copied; items
    and results travel through pipes. At most ``ahead`` items per worker are under way, so a long or endless stream of
    big items does not pile up. With one job nothing is forked.

    Raises:
        WorkerError: a worker died (killed, out of memory).
    """
    if num_jobs <= 1:
        yield from map(function, items)
        return
    global _function
    outer, _function = _function, function
    executor = ProcessPoolExecutor(num_jobs, mp_context=multiprocessing.get_context("fork"), initializer=_start_worker)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            with _sigint_waits():
                waiting.append(executor.submit(_call, item))
            if len(waiting) >= num_jobs * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process died, most likely for want of memory; what is done is kept: run the same command again, "
            f"with fewer than {num_jobs} jobs (runtime.num_jobs=1)"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        _function = outer
