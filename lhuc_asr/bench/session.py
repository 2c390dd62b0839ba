"""The whole benchmark: every net with every number of threads, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

from lhuc_asr.bench.figures import ForwardFigures, UpdateFigures, forward_figures, update_figures
from lhuc_asr.bench.machine import Machine, describe_machine, usable_device
from lhuc_asr.bench.timing import Rounds
from lhuc_asr.errors import WorkerError
from lhuc_asr.parallel import set_num_threads
from lhuc_asr.units import Seconds


@dataclass(frozen=True, kw_only=True)
class Task:
    """One net with one number of threads.

    Attributes:
        net: key of `lhuc_asr.bench.nets.SHAPES`.
        num_threads: of torch, and processes of our run of all speakers.
        device: cpu or cuda.
        seconds: how long each of the two measurements lasts at least.
        num_known: speakers of the great bank.
        num_frames: of each utterance of the forward passes; 0 leaves what the net's shape says.
        quick: tiny nets and two rounds, for tests; the figures then mean nothing.
        title: of the progress bars.
    """

    net: str
    num_threads: int = 1
    device: str = "cpu"
    seconds: Seconds = 30.0
    num_known: int = 1000
    num_frames: int = 0
    quick: bool = False
    title: str = ""

    @property
    def rounds(self) -> Rounds:
        """How long is measured."""
        return Rounds(seconds=0.0, fewest=2) if self.quick else Rounds(seconds=self.seconds)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found for one net with one number of threads."""

    net: str
    num_threads: int
    device: str
    quick: bool
    machine: Machine
    forward: ForwardFigures
    updates: UpdateFigures


def tasks(nets: Sequence[str], threads: Sequence[int], common: Task) -> list[Task]:
    """Every net with every number of threads, otherwise as ``common`` says."""
    pairs = [(net, num_threads) for net in nets for num_threads in threads]
    return [
        replace(
            common,
            net=net,
            num_threads=num_threads,
            title=f"[{place}/{len(pairs)}] {net}, {num_threads} thread{'s' * (num_threads > 1)}",
        )
        for place, (net, num_threads) in enumerate(pairs, start=1)
    ]


def measure_all(work: Sequence[Task]) -> Iterator[Measured]:
    """Do the tasks one after the other, each in a fresh process, for the number of threads can be set only once.

    Raises:
        LhucError: a task's own.
        WorkerError: a process died.
    """
    for task in work:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            try:
                yield executor.submit(measure, task).result()
            except BrokenProcessPool as error:
                raise WorkerError(
                    f"the process that measured {task.net!r} died, most likely for want of memory"
                ) from error


def measure(task: Task) -> Measured:
    """Do one task in this process."""
    set_num_threads(task.num_threads)
    from lhuc_asr.bench.forward import measure_forward
    from lhuc_asr.bench.nets import build_net
    from lhuc_asr.bench.updates import measure_updates

    device = usable_device(task.device)
    bench = build_net(task.net, device, num_frames=task.num_frames, quick=task.quick)
    num_known = min(task.num_known, 20) if task.quick else task.num_known
    forward = measure_forward(
        bench, replace(task.rounds, warm=True), num_known=num_known, title=f"{task.title}: forward"
    )
    updates = measure_updates(
        bench, task.rounds, num_jobs=task.num_threads, quick=task.quick, title=f"{task.title}: updates"
    )
    return Measured(
        net=task.net,
        num_threads=task.num_threads,
        device=task.device,
        quick=task.quick,
        machine=describe_machine(device),
        forward=forward_figures(bench, forward),
        updates=update_figures(bench, updates),
    )
