"""Our own updates, as the benchmark runs them: one speaker after the other, and all in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lhuc_asr.adaptation.update import AdaptConfig, adapt
from lhuc_asr.bench.ia3 import Scales, minibatches
from lhuc_asr.bench.nets import BenchNet, Speech
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.bank import SpeakerBank
from lhuc_asr.models.dnn import Dnn
from lhuc_asr.training.objectives import frame_cross_entropy

AMPLITUDE = Amplitude.identity
"""PEFT's scales are used as they are, so ours are too."""


def one_by_one(bench: BenchNet, speech: Sequence[Speech], config: AdaptConfig) -> Callable[[], Scales]:
    """A run that adapts to one speaker after the other; a DNN by `lhuc_asr.adaptation.update.adapt`."""

    def run() -> Scales:
        learnt = {}
        for one in speech:
            adapter = LhucAdapter.identity(bench.net, bench.sites, AMPLITUDE)
            if isinstance(bench.net, Dnn):
                assert one.frames is not None
                adapt(bench.net, adapter, one.frames, one.targets, config)
            else:
                _learn(bench, adapter, one, config)
            learnt[one.name] = adapter.scales()
        return learnt

    return run


def all_in_one_run(bench: BenchNet, speech: Sequence[Speech], config: AdaptConfig) -> Callable[[], Scales]:
    """A run that adapts to all speakers at once, each in rows of a bank; the loss is the sum of the speakers' means."""

    def run() -> Scales:
        names = [one.name for one in speech]
        bank = SpeakerBank.identity(bench.net, bench.sites, names, AMPLITUDE).requires_grad_(True)
        order = minibatches(len(speech[0].targets), config)
        with bank.attached(bench.net):
            for items in order:
                ids = [name for name in names for _ in items]
                inputs = torch.cat([one.inputs(items) for one in speech])
                targets = torch.stack([one.targets[items].flatten() for one in speech])
                with bank.speakers(ids):
                    loss = _cross_entropy(bench.over_items(inputs), targets) * len(names)
                _descend(list(bank.tables), loss, config)
        return {name: bank.adapter(name).scales() for name in names}

    return run


def _learn(bench: BenchNet, adapter: LhucAdapter, speech: Speech, config: AdaptConfig) -> None:
    with adapter.attached(bench.net):
        for items in minibatches(len(speech.targets), config):
            loss = _cross_entropy(bench.over_items(speech.inputs(items)), speech.targets[items])
            _descend(adapter.parameters(), loss, config)


def _cross_entropy(log_probs: Tensor, targets: Tensor) -> Tensor:
    return frame_cross_entropy(log_probs.flatten(0, -2), targets.flatten().to(log_probs.device))


def _descend(parameters: Sequence[Tensor], loss: Tensor, config: AdaptConfig) -> None:
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for r, gradient in zip(parameters, gradients, strict=True):
            r.sub_(gradient, alpha=config.lr)
