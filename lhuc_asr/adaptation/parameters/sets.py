"""Sets of numbers that a speaker may have of his own beside, or instead of, scales; zeros leave the network as it is.

A set changes the network inside a block and leaves no trace behind it, as scales do: weights are exchanged by others
and put back, layers are hooked and unhooked. Comparing such sets with LHUC is what they are for.

Letters: B utterances, T frames, N windows, W frames of a window, F features, V states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lhuc_asr.adaptation.parameters.config import ParameterConfig, Parameters
from lhuc_asr.adaptation.parameters.weight_changes import Change, Difference, InputFactors, LowRank, Numbers, exchanged
from lhuc_asr.errors import ConfigError, SiteError
from lhuc_asr.lhuc.hooks import attached_scales
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.network import AcousticNetwork

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.RNNBase)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)


class ParameterSet(Protocol):
    """What of a network is a speaker's own.

    Attributes:
        shapes: name -> shape of its numbers.
        changed: modules in which something changes, if that is known; none means from the input on.
    """

    shapes: Mapping[str, tuple[int, ...]]
    changed: tuple[str, ...]

    def applied(self, network: AcousticNetwork, numbers: Numbers) -> AbstractContextManager[None]:
        """Let numbers act inside the block; derivatives by them can be taken, and no trace is left afterwards."""


def parameter_set(config: ParameterConfig, network: AcousticNetwork, sites: Sequence[Site]) -> ParameterSet | None:
    """The set that a configuration asks for; None stands for scales.

    Args:
        config: the kind.
        network: nothing of it changes.
        sites: where scales would act.

    Raises:
        ConfigError: the network has nothing of the kind.

    Example:
        >>> from lhuc_asr.models.dnn import Dnn, DnnConfig
        >>> network = Dnn(DnnConfig(num_layers=1, hidden_dim=5, context=1), feat_dim=4, num_outputs=3)
        >>> own = parameter_set(ParameterConfig(parameters=Parameters.lin), network, ())
        >>> own.shapes
        {'input.weight': (4, 4), 'input.bias': (4,)}
    """
    if config.parameters is Parameters.lhuc:
        return None
    return _MAKERS[config.parameters](config, network, sites)


class UnitBiases:
    """A number for each unit of the sites, added to what the unit gives.

    When not to use it: with seconds of speech and ReLU, where a unit that was silent is heard all of a sudden.
    """

    changed: tuple[str, ...] = ()

    def __init__(self, sites: Sequence[Site]) -> None:
        self.shapes: Mapping[str, tuple[int, ...]] = {site.name: site.units for site in sites}
        self._sites = sites

    @contextmanager
    def applied(self, network: AcousticNetwork, numbers: Numbers) -> Iterator[None]:
        """Hook the sites."""

        def shifted(site: Site, output: Tensor, utterance_of_row: Tensor | None) -> Tensor:
            own = numbers[site.name]
            return site.layout.shift(output, own) if utterance_of_row is None else output + own.to(output.dtype)

        with attached_scales(network, self._sites, shifted):
            yield


class InputTransform:
    """x becomes x + A x + b, where x is a frame, or a whole window of frames; LIN, the linear input network.

    When not to use it: on whole windows with little speech, for the matrix then has a million numbers.

    Args:
        network: on windows it must work itself (`AcousticNetwork.learns_from_frames`) if those are to be transformed.
        spliced: transform whole windows.

    Raises:
        ConfigError: the network has no windows to transform.
    """

    changed: tuple[str, ...] = ()

    def __init__(self, network: AcousticNetwork, *, spliced: bool = False) -> None:
        if spliced and not network.learns_from_frames:
            raise ConfigError(
                f"adapt.parameters=lin_spliced transforms windows of frames, but the {network.config.kind.name} takes "
                "whole utterances; possible: lin"
            )
        self._spliced = spliced
        dim = network.feat_dim * (2 * network.context + 1 if spliced else 1)
        self.shapes: Mapping[str, tuple[int, ...]] = {"input.weight": (dim, dim), "input.bias": (dim,)}

    @contextmanager
    def applied(self, network: AcousticNetwork, numbers: Numbers) -> Iterator[None]:
        """Transform what the network gets: windows where it works on them, else frames."""

        def transformed(frames: Tensor) -> Tensor:
            x = frames.flatten(1) if self._spliced else frames
            return (x + nn.functional.linear(x, numbers["input.weight"], numbers["input.bias"])).view(frames.shape)

        if not network.learns_from_frames:
            hook = network.register_forward_pre_hook(lambda _, args: (transformed(args[0]), *args[1:]))
            try:
                yield
            finally:
                hook.remove()
            return
        with _shadowed(network, "forward_windows", lambda own: lambda windows_NWF: own(transformed(windows_NWF))):
            yield


class WeightSet:
    """Numbers that change weights.

    Args:
        network: whose weights they are.
        changes: name of a weight -> how numbers change it.
    """

    def __init__(self, network: AcousticNetwork, changes: Mapping[str, Change]) -> None:
        self._changes = {name: (network.get_parameter(name).detach(), change) for name, change in changes.items()}
        self.shapes: Mapping[str, tuple[int, ...]] = {
            f"{name}{end}": shape
            for name, (weight, change) in self._changes.items()
            for end, shape in change.shapes(weight).items()
        }
        self.changed = tuple(dict.fromkeys(name.rpartition(".")[0] for name in changes))

    @contextmanager
    def applied(self, network: AcousticNetwork, numbers: Numbers) -> Iterator[None]:
        """Exchange the weights."""
        weights = {
            name: change(weight, {end: numbers[f"{name}{end}"] for end in change.shapes(weight)})
            for name, (weight, change) in self._changes.items()
        }
        with exchanged(network, weights):
            yield


def prove_numbers_act(network: AcousticNetwork, own: ParameterSet) -> None:
    """Make sure that every part of a set changes what the network gives.

    Args:
        network: in evaluation mode.
        own: the set.

    Raises:
        SiteError: the derivatives by the numbers of a part are all zero.
    """
    generator = torch.Generator().manual_seed(0)
    feats_BTF = torch.randn(1, 40, network.feat_dim, generator=generator)
    numbers = {
        name: (0.01 * torch.randn(shape, generator=generator)).requires_grad_() for name, shape in own.shapes.items()
    }
    with torch.enable_grad(), own.applied(network, numbers):
        log_probs_BTV = network(feats_BTF, torch.tensor([feats_BTF.shape[1]]))
        judged = (log_probs_BTV * torch.randn(log_probs_BTV.shape, generator=generator)).sum()
        gradients = torch.autograd.grad(judged, list(numbers.values()), allow_unused=True)
    idle = [name for name, found in zip(numbers, gradients, strict=True) if found is None or not found.any()]
    if idle:
        raise SiteError(f"numbers of {', '.join(map(repr, idle))} have no effect on what the network gives")


@contextmanager
def _shadowed(network: nn.Module, name: str, made_of: Callable[[Any], Any]) -> Iterator[None]:
    """Let a method of this one network be another inside the block."""
    vars(network)[name] = made_of(getattr(network, name))
    try:
        yield
    finally:
        del vars(network)[name]


def _output(config: ParameterConfig, network: AcousticNetwork, sites: Sequence[Site]) -> ParameterSet:
    names = [name for name, _ in network.named_parameters() if name.startswith("output.")]
    return WeightSet(network, dict.fromkeys(names, Difference()))


def _norm(config: ParameterConfig, network: AcousticNetwork, sites: Sequence[Site]) -> ParameterSet:
    names = _parameters_of(network, _NORMS)
    if not names:
        raise ConfigError(
            f"adapt.parameters=norm: this {network.config.kind.name} has no normalisation with scales and offsets to "
            "learn; possible: any other kind"
        )
    return WeightSet(network, dict.fromkeys(names, Difference()))


def _ia3(config: ParameterConfig, network: AcousticNetwork, sites: Sequence[Site]) -> ParameterSet:
    return WeightSet(network, dict.fromkeys(_matrices(network), InputFactors()))


def _lora(config: ParameterConfig, network: AcousticNetwork, sites: Sequence[Site]) -> ParameterSet:
    return WeightSet(
        network,
        {name: LowRank(config.rank, seed=place) for place, name in enumerate(_matrices(network))},
    )


def _all(config: ParameterConfig, network: AcousticNetwork, sites: Sequence[Site]) -> ParameterSet:
    names = [name for name, _ in network.named_parameters()]
    return WeightSet(network, dict.fromkeys(names, Difference()))


def _parameters_of(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[str]:
    """Names of the parameters of all modules of some kinds."""
    return [
        f"{name}.{leaf}"
        for name, module in network.named_modules()
        if isinstance(module, kinds)
        for leaf, _ in module.named_parameters(recurse=False)
    ]


def _matrices(network: nn.Module) -> list[str]:
    """Weights of fully connected and recurrent layers, and of convolutions in which every output sees every input."""
    names = _parameters_of(network, _LAYERS)
    return [name for name in names if ".weight" in name and not _is_grouped(network, name)]


def _is_grouped(network: nn.Module, name: str) -> bool:
    return getattr(network.get_submodule(name.rpartition(".")[0]), "groups", 1) > 1


_MAKERS: dict[Parameters, Callable[[ParameterConfig, AcousticNetwork, Sequence[Site]], ParameterSet]] = {
    Parameters.bias: lambda config, network, sites: UnitBiases(sites),
    Parameters.lin: lambda config, network, sites: InputTransform(network),
    Parameters.lin_spliced: lambda config, network, sites: InputTransform(network, spliced=True),
    Parameters.output: _output,
    Parameters.norm: _norm,
    Parameters.ia3: _ia3,
    Parameters.lora: _lora,
    Parameters.all: _all,
}
