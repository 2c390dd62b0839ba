"""The same updates by PEFT's (IA)^3: scales on the input of the linears that follow the sites, which is the same net.

Source: Liu et al. 2022 (arXiv:2205.05638), section 3.3; the package ``peft``.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType

import torch
from torch import Tensor, nn

from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.bench.nets import BenchNet, Speech
from lhuc_asr.errors import DependencyError
from lhuc_asr.training.tasks.objectives import frame_cross_entropy

Scales = Mapping[str, Mapping[str, Tensor]]
"""Speaker -> site -> (H,) scales."""


def import_peft() -> ModuleType:
    """PEFT, or DependencyError that says why not."""
    try:
        return importlib.import_module("peft")
    except (ImportError, OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DependencyError(f"peft cannot be loaded ({reason}); pip install 'lhuc_asr[pretrained]'") from error


def ia3_updates(
    bench: BenchNet, speech: Sequence[Speech], config: AdaptConfig, *, bfloat16: bool = False
) -> Callable[[], Scales]:
    """A run that adapts to one speaker after the other, with plain gradient descent from scales of one.

    Args:
        bench: the net; PEFT gets a copy, because it puts its own layers into it.
        speech: of every speaker.
        config: step, sweeps and order of the items; its batch size counts items here.
        bfloat16: run the net under autocast.

    Raises:
        DependencyError: peft cannot be loaded.
    """
    peft = import_peft()
    names = list(bench.following)
    wanted = peft.IA3Config(target_modules=names, feedforward_modules=names)
    model = peft.get_peft_model(copy.deepcopy(bench.over_items), wanted).eval()
    scales = _scales_of(model, bench)

    def run() -> Scales:
        learnt = {}
        for one in speech:
            for scale in scales.values():
                nn.init.ones_(scale)
            _learn(model, list(scales.values()), one, config, _format(bench.device, bfloat16=bfloat16))
            learnt[one.name] = {site: scale.detach().flatten().clone() for site, scale in scales.items()}
        return learnt

    return run


def _scales_of(model: nn.Module, bench: BenchNet) -> dict[str, nn.Parameter]:
    """PEFT's parameters, by the site whose output they multiply."""
    given = dict(model.named_parameters())
    found = {
        site.name: given[f"base_model.model.{linear}.ia3_l.default"]
        for site, linear in zip(bench.sites, bench.following, strict=True)
    }
    assert sum(p.requires_grad for p in model.parameters()) == len(found)
    return found


def _format(device: torch.device, *, bfloat16: bool) -> Callable[[], AbstractContextManager[object]]:
    return (lambda: torch.autocast(device.type, torch.bfloat16)) if bfloat16 else nullcontext


def _learn(
    model: nn.Module,
    scales: list[nn.Parameter],
    speech: Speech,
    config: AdaptConfig,
    number_format: Callable[[], AbstractContextManager[object]],
) -> None:
    """The loop that PEFT's users write."""
    optimiser = torch.optim.SGD(scales, lr=config.lr)
    for items in minibatches(len(speech.targets), config):
        optimiser.zero_grad()
        with number_format():
            log_probs = model(speech.inputs(items))
            targets = speech.targets[items].flatten().to(log_probs.device)
            loss = frame_cross_entropy(log_probs.flatten(0, -2), targets)
        torch.autograd.backward(loss)
        optimiser.step()


def minibatches(num_items: int, config: AdaptConfig) -> list[Tensor]:
    """Numbers of the items of every update, in the order in which `lhuc_asr.adaptation.update.sweeps` takes them."""
    generator = torch.Generator().manual_seed(config.seed)
    return [
        batch
        for _ in range(config.num_epochs)
        for batch in torch.split(torch.randperm(num_items, generator=generator), config.batch_size)
    ]
