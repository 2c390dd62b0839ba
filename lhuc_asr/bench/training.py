"""How much of the time of training is spent on the network: our loop beside the barest loop on the same minibatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lhuc_asr.bench.timing import Interval, Rounds, Variant, interleave
from lhuc_asr.files import write_json
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig
from lhuc_asr.models.tdnnf import TdnnF, TdnnFConfig
from lhuc_asr.scoring.table import table
from lhuc_asr.training.criteria.criterion import StateCrossEntropy
from lhuc_asr.training.examples.frame_data import FrameData, TrainingData
from lhuc_asr.training.examples.sequence_batches import NO_TARGET, SequenceConfig
from lhuc_asr.training.examples.sequence_data import SequenceData
from lhuc_asr.training.loop import TrainingConfig, train
from lhuc_asr.training.optimiser import build_optimiser, set_lr
from lhuc_asr.training.precision import Precision
from lhuc_asr.training.processes.distributed import Device
from lhuc_asr.training.schedule.newbob import NewbobConfig
from lhuc_asr.training.tasks.frame_task import FrameTask
from lhuc_asr.training.tasks.task import Task
from lhuc_asr.training.utterance_task import UtteranceTask

LOOP, BARE = "our loop", "bare loop"
_FORMAT = 1
_FEAT_DIM, _NUM_STATES = 40, 800
_LR = 0.001

# B utterances, N frames, V states


@dataclass(frozen=True, eq=False)
class Work:
    """One epoch of training on random numbers, whose values do not change the time.

    Attributes:
        name: key of `NETWORKS`.
        build: draws a network anew.
        task: what it learns.
        objective: the same objective by the fewest calls of torch.
        batches: the minibatches of the epoch.
    """

    name: str
    build: Callable[[], AcousticNetwork]
    task: Task[Any]
    objective: Callable[[AcousticNetwork, Any], Tensor]
    batches: Sequence[Any]

    @property
    def config(self) -> TrainingConfig:
        """One epoch, with a checkpoint after it."""
        return TrainingConfig(
            precision=Precision.float32,
            device=Device.cpu,
            newbob=NewbobConfig(initial_lr=_LR, max_epochs=1),
        )


@dataclass(frozen=True, kw_only=True)
class LoopFigures:
    """What was found for one network.

    Attributes:
        name: of the network.
        num_batches: minibatches of the epoch.
        num_frames: frames of the epoch.
        num_rounds: how often each loop ran.
        frames_per_second: name of the loop -> on the wall clock.
        share: throughput of our loop, that of the bare loop being 1; rounds are compared one by one.
        cpu_share: the same on the CPU clock, which other programs on the machine move less.
        largest_difference: between the weights that the two loops end with.
    """

    name: str
    num_batches: int
    num_frames: int
    num_rounds: int
    frames_per_second: Mapping[str, Interval]
    share: Interval
    cpu_share: Interval
    largest_difference: float


def measure_loop(work: Work, rounds: Rounds) -> LoopFigures:
    """Let both loops take turns.

    Our loop is all of `train` for one epoch: minibatches are made, schedules, counts, checks and the progress bar kept
    up, held-out speakers (one utterance) judged, and a checkpoint written. The bare loop gets its minibatches ready
    made and does nothing but forward and backward passes and steps.
    """
    ways = (_Ours(work), _Bare(work))
    variants = [Variant(way.name, way.run, inside=way.inside) for way in ways]
    timings = interleave(variants, rounds, torch.device("cpu"), description=f"{work.name}: training")
    num_frames = sum(_num_frames(batch) for batch in work.batches)
    ours, bare = (timings.outcomes[name] for name in (LOOP, BARE))
    assert isinstance(ours, dict) and isinstance(bare, dict)
    return LoopFigures(
        name=work.name,
        num_batches=len(work.batches),
        num_frames=num_frames,
        num_rounds=timings.num_rounds,
        frames_per_second={name: Interval.of(num_frames / timings.wall[name]) for name in (LOOP, BARE)},
        share=timings.ratio(BARE, LOOP),
        cpu_share=timings.cpu_ratio(BARE, LOOP),
        largest_difference=max(float((ours[name] - bare[name]).abs().max()) for name in ours),
    )


class _Way:
    """A loop that begins with the same network every time; only the loop is on the clock."""

    name: str

    def __init__(self, work: Work) -> None:
        self.work = work

    @contextmanager
    def inside(self) -> Iterator[None]:
        """A new network, and an empty directory."""
        self.network = self.work.build().train()
        self.optimiser = build_optimiser(self.network, self.work.config.optimiser)
        set_lr(self.optimiser, _LR)
        with TemporaryDirectory() as directory:
            self.directory = Path(directory)
            yield

    def run(self) -> dict[str, Tensor]:
        """Train for an epoch; the weights afterwards."""
        self.train()
        return {name: weight.detach() for name, weight in self.network.named_parameters()}

    def train(self) -> None:
        """The loop."""
        raise NotImplementedError


class _Ours(_Way):
    name = LOOP

    def train(self) -> None:
        train(self.network, self.work.task, self.work.config, self.directory)


class _Bare(_Way):
    name = BARE

    def train(self) -> None:
        for number, batch in enumerate(self.work.batches):
            self.optimiser.zero_grad()
            self.work.objective(self.network, batch).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            if number % 4 == 3:
                self.network.constrain()


def frame_work(name: str, build: Callable[[], AcousticNetwork], *, num_batches: int, context: int) -> Work:
    """Single frames with their windows, 256 a minibatch."""
    feats, states = _speech(num_frames=256 * num_batches, longest=400)
    names = sorted(feats)
    learnt, held_out = (FrameData.gather(feats, states, some, context=context) for some in (names, names[:1]))
    task = FrameTask(TrainingData(learnt, held_out))

    def objective(network: AcousticNetwork, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.nll_loss(network.forward_windows(batch[0]), batch[1])

    return Work(name, build, task, objective, list(task.batches(0)))


def utterance_work(name: str, build: Callable[[], AcousticNetwork], *, num_batches: int, max_frames: int) -> Work:
    """Whole utterances, so many frames a minibatch."""
    feats, states = _speech(num_frames=max_frames * num_batches, longest=min(400, max_frames))
    names = sorted(feats)
    learnt, held_out = (SequenceData.gather(feats, some, states) for some in (names, names[:1]))
    task = UtteranceTask(learnt, held_out, StateCrossEntropy(), SequenceConfig(max_frames=max_frames))

    def objective(network: AcousticNetwork, batch: Any) -> Tensor:
        log_probs_BTV = network(batch.feats, batch.lens)
        return F.nll_loss(log_probs_BTV.flatten(0, 1), batch.targets.flatten(), ignore_index=NO_TARGET)

    return Work(name, build, task, objective, list(task.batches(0)))


def dnn_work(*, num_batches: int, quick: bool) -> Work:
    """Four layers of 512 units over 11 frames."""
    shape = DnnConfig(num_layers=2, hidden_dim=8) if quick else DnnConfig(num_layers=4, hidden_dim=512)
    return frame_work("dnn", lambda: Dnn(shape, _FEAT_DIM, _NUM_STATES), num_batches=num_batches, context=shape.context)


def tdnn_work(*, num_batches: int, quick: bool) -> Work:
    """The time-delay network as its settings are."""
    shape = TdnnConfig(hidden_dim=8 if quick else 512)
    build = lambda: Tdnn(shape, _FEAT_DIM, _NUM_STATES)  # noqa: E731
    return utterance_work("tdnn", build, num_batches=num_batches, max_frames=500 if quick else 2500)


def tdnnf_work(*, num_batches: int, quick: bool) -> Work:
    """The factored time-delay network as its settings are."""
    shape = TdnnFConfig(hidden_dim=8, bottleneck_dim=4) if quick else TdnnFConfig()
    build = lambda: TdnnF(shape, _FEAT_DIM, _NUM_STATES)  # noqa: E731
    return utterance_work("tdnnf", build, num_batches=num_batches, max_frames=500 if quick else 2500)


NETWORKS: dict[str, Callable[..., Work]] = {"dnn": dnn_work, "tdnn": tdnn_work, "tdnnf": tdnnf_work}
"""Name -> its work."""


def loop_text(measured: Sequence[LoopFigures]) -> str:
    """A table, a line for each network."""
    rows = [
        ["network", "frames", "minibatches", "rounds", "our frames/s", "bare frames/s", "share", "95 %", "cpu share"]
    ]
    for one in measured:
        speeds = (f"{one.frames_per_second[name].median:.0f}" for name in (LOOP, BARE))
        counts = map(str, (one.num_frames, one.num_batches, one.num_rounds))
        interval = f"{one.share.low:.3f} to {one.share.high:.3f}"
        rows.append([one.name, *counts, *speeds, f"{one.share.median:.3f}", interval, f"{one.cpu_share.median:.3f}"])
    return table(rows)


def write_loop_report(path: Path, measured: Sequence[LoopFigures], **origin: Any) -> None:
    """Write all figures, and where they come from, as JSON."""
    content = {"format": _FORMAT, "benchmark": "training", **origin, "measured": [asdict(one) for one in measured]}
    write_json(path, content)


def _speech(*, num_frames: int, longest: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Utterance -> (T, F) features, and (T,) states; the frames of all are as many as were asked for."""
    rng = np.random.default_rng(0)
    feats: dict[str, Any] = {}
    states: dict[str, Any] = {}
    while num_frames:
        length = min(num_frames, int(rng.integers(longest // 4, longest + 1)))
        name = f"u{len(feats):06}"
        feats[name] = rng.standard_normal((length, _FEAT_DIM), dtype=np.float32)
        states[name] = rng.integers(_NUM_STATES, size=length)
        num_frames -= length
    return feats, states


def _num_frames(batch: Any) -> int:
    return len(batch[1]) if isinstance(batch, tuple) else int(batch.num_frames)
