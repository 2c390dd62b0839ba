"""Our own updates, as the benchmark runs them: one speaker after the other, all in one run, and as lhuc-adapt does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.group import Computing, opened_group
from lhuc_asr.adaptation.update.grouping import GroupSizes, groups_of_speakers
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.bench.ia3 import Scales, minibatches
from lhuc_asr.bench.nets import BenchNet, Speech
from lhuc_asr.errors import SpeakerError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.bank import SpeakerBank
from lhuc_asr.models.dnn import Dnn
from lhuc_asr.parallel import map_in_processes, one_thread
from lhuc_asr.training.tasks.objectives import frame_cross_entropy

AMPLITUDE = Amplitude.identity
"""PEFT's scales are used as they are, so ours are too."""

Learn: TypeAlias = "Callable[[Dnn, list[LhucAdapter], list[SpeakerFrames], AdaptConfig], None]"


def our_updates(
    bench: BenchNet, speech: Sequence[Speech], config: AdaptConfig, *, num_jobs: int
) -> Iterator[tuple[str, Callable[[], Scales]]]:
    """All ways, by name, to make the same updates of the same speakers.

    Args:
        bench: the net.
        speech: of every speaker, equally much.
        config: step, sweeps and order of the items; its batch size counts items here.
        num_jobs: processes, as many as there are threads; each has one thread.
    """
    if isinstance(net := bench.net, Dnn):
        yield "one by one", lambda: _dnn_one_by_one(net, bench, speech, config)
        yield "all in one run", lambda: _dnn_in_groups(net, bench, speech, config, (_updates_alone, num_jobs))
        yield "as lhuc-adapt does", lambda: _dnn_in_groups(net, bench, speech, config, (_with_objectives, num_jobs))
    else:
        yield "one by one", lambda: _one_by_one(bench, speech, config)
        yield "all in one run", lambda: _in_one_batch(bench, speech, config)


def _updates_alone(
    network: Dnn, adapters: list[LhucAdapter], speakers: list[SpeakerFrames], config: AdaptConfig
) -> None:
    """What PEFT's loop does, and no more."""
    places = range(len(speakers))
    computing = Computing(precision=config.precision)
    with opened_group(network, adapters, speakers, seed=config.seed, computing=computing) as group:
        for _ in range(config.num_epochs):
            group.sweep(places, lr_at=lambda _: config.lr, batch_size=config.batch_size)
        group.store(places)


def _with_objectives(
    network: Dnn, adapters: list[LhucAdapter], speakers: list[SpeakerFrames], config: AdaptConfig
) -> None:
    """The updates, and the objective of all frames before and after them."""
    for outcome in adapt_group(network, adapters, speakers, config):
        if isinstance(outcome, SpeakerError):
            raise outcome


def _dnn_one_by_one(network: Dnn, bench: BenchNet, speech: Sequence[Speech], config: AdaptConfig) -> Scales:
    learnt = {}
    for one in speech:
        learnt.update(_learnt(network, bench, [one], config, _updates_alone))
    return learnt


def _dnn_in_groups(
    network: Dnn, bench: BenchNet, speech: Sequence[Speech], config: AdaptConfig, how: tuple[Learn, int]
) -> Scales:
    """Groups and processes as `lhuc_asr.adaptation.updating.update_speakers` chooses them."""
    learn, num_jobs = how
    on_cpu = bench.device.type == "cpu"
    sizes = GroupSizes.for_device(bench.device, bench.sites[0].num_units)
    by_name = {one.name: one for one in speech}
    num_items = {one.name: len(one.targets) for one in speech}
    groups = list(groups_of_speakers(num_items, config.batch_size, sizes))

    def learn_group(group: tuple[str, ...]) -> dict[str, dict[str, object]]:
        with one_thread(when=on_cpu):
            found = _learnt(network, bench, [by_name[name] for name in group], config, learn)
        return {name: {site: value.cpu().numpy() for site, value in own.items()} for name, own in found.items()}

    learnt = {}
    for part in map_in_processes(learn_group, groups, num_jobs=min(num_jobs, len(groups)) if on_cpu else 1):
        for name, own in part.items():
            learnt[name] = {site: torch.as_tensor(value) for site, value in own.items()}
    return learnt


def _learnt(
    network: Dnn, bench: BenchNet, speech: Sequence[Speech], config: AdaptConfig, learn: Learn
) -> dict[str, dict[str, Tensor]]:
    """Scales of speakers who learn side by side."""
    adapters = [LhucAdapter.identity(network, bench.sites, AMPLITUDE) for _ in speech]
    learn(network, adapters, [one.of_frames for one in speech], config)
    return {one.name: adapter.scales() for one, adapter in zip(speech, adapters, strict=True)}


def _one_by_one(bench: BenchNet, speech: Sequence[Speech], config: AdaptConfig) -> Scales:
    """With an adapter and autograd, as for any net."""
    learnt = {}
    for one in speech:
        adapter = LhucAdapter.identity(bench.net, bench.sites, AMPLITUDE)
        with adapter.attached(bench.net):
            for items in minibatches(len(one.targets), config):
                loss = _cross_entropy(bench.over_items(one.inputs(items)), one.targets[items])
                _descend(adapter.parameters(), loss, config)
        learnt[one.name] = adapter.scales()
    return learnt


def _in_one_batch(bench: BenchNet, speech: Sequence[Speech], config: AdaptConfig) -> Scales:
    """With a bank and autograd, as for any net: the loss is the sum of the speakers' means."""
    names = [one.name for one in speech]
    bank = SpeakerBank.identity(bench.net, bench.sites, names, AMPLITUDE).requires_grad_(True)
    with bank.attached(bench.net):
        for items in minibatches(len(speech[0].targets), config):
            inputs = torch.cat([one.inputs(items) for one in speech])
            targets = torch.stack([one.targets[items].flatten() for one in speech])
            with bank.speakers([name for name in names for _ in items]):
                loss = _cross_entropy(bench.over_items(inputs), targets) * len(names)
            _descend(list(bank.tables), loss, config)
    return {name: bank.adapter(name).scales() for name in names}


def _cross_entropy(log_probs: Tensor, targets: Tensor) -> Tensor:
    return frame_cross_entropy(log_probs.flatten(0, -2), targets.flatten().to(log_probs.device))


def _descend(parameters: Sequence[Tensor], loss: Tensor, config: AdaptConfig) -> None:
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for r, gradient in zip(parameters, gradients, strict=True):
            r.sub_(gradient, alpha=config.lr)
