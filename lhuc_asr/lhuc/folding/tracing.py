"""What a net computes on an example, call by call: who reads whose output, and which weights take part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lhuc_asr.lhuc.example import Example, tensors_of
from lhuc_asr.lhuc.hooks import attached_scales
from lhuc_asr.lhuc.sites import Site


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a torch function.

    Attributes:
        function: what was called, such as ``torch.nn.functional.linear``.
        args: its positional arguments.
        kwargs: its keyword arguments.
        outputs: the tensors that it gave.
        place: name of the layer that was at work; empty for the net itself.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[Tensor, ...]
    place: str

    @cached_property
    def name(self) -> str:
        """Plain name of the function: ``relu`` for ``torch.relu_``, ``add`` for ``Tensor.__add__``."""
        name = getattr(self.function, "__name__", str(self.function))
        if name == "__get__":  # a property of tensors, such as x.T
            name = self.function.__self__.__name__  # type: ignore[attr-defined]
        return str(name).strip("_")

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """All tensors among the arguments."""
        return tuple(tensors_of([self.args, self.kwargs]))

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument, however it was given."""
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)

    def __str__(self) -> str:
        return f"{self.name} in {self.place!r}" if self.place else self.name


@dataclass(frozen=True, eq=False)
class Scaled:
    """One run of a site: where an adapter would multiply.

    Attributes:
        site: which one.
        before: what the layer gave.
        after: the same numbers under another identity, which everybody downstream reads.
        labels: for every number of ``after`` which unit it belongs to, counted over all units of the site.
    """

    site: Site
    before: Tensor
    after: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Trace:
    """A net at work on an example.

    Attributes:
        steps: calls and runs of sites, in their order.
        outputs: tensors that the net gave.
        names: identity of a parameter or buffer -> all names that it has in the net.
    """

    steps: Sequence[Call | Scaled]
    outputs: tuple[Tensor, ...]
    names: Mapping[int, tuple[str, ...]]

    @cached_property
    def readers(self) -> Mapping[int, list[Call]]:
        """Identity of a parameter or buffer -> the calls that read it."""
        found: dict[int, list[Call]] = {}
        for call in (step for step in self.steps if isinstance(step, Call)):
            read = {id(tensor) for tensor in call.inputs} & self.names.keys()
            for identity in read - {id(output) for output in call.outputs} if call.outputs else ():
                found.setdefault(identity, []).append(call)
        return found


def trace_sites(model: nn.Module, sites: Sequence[Site], example: Example) -> Trace:
    """Run a net once, in the mode in which it is, and note every call of a torch function.

    All tensors are kept, so the example should be small.

    Raises:
        SiteError: the net lacks a site, or some sites run and others do not.
    """
    recorder = _Recorder()

    def note(site: Site, output: Tensor, rows: object | None) -> Tensor:
        with recorder.paused():
            numbers = torch.arange(site.num_units, dtype=torch.float32, device=output.device).reshape(site.units)
            ones = torch.ones(output.shape, device=output.device)
            labels = site.layout.scale(ones, numbers) if rows is None else ones * numbers
            after = output.view_as(output)
        recorder.steps.append(Scaled(site, output, after, labels))
        return after

    with ExitStack() as stack:
        stack.enter_context(_places(model, recorder))
        stack.enter_context(attached_scales(model, sites, note))
        stack.enter_context(torch.no_grad())
        with recorder:
            result = example.run(model)
    return Trace(recorder.steps, tuple(tensors_of(result)), _names(model))


@dataclass(eq=False)
class _Recorder(TorchFunctionMode):
    steps: list[Call | Scaled] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    active: bool = True

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.active:
            place = self.places[-1] if self.places else ""
            self.steps.append(Call(func, tuple(args), dict(kwargs or {}), tuple(tensors_of(result)), place))
        return result

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.active = False
        try:
            yield
        finally:
            self.active = True


@contextmanager
def _places(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Tell the recorder which layer is at work."""

    def enter(name: str) -> None:
        recorder.places.append(name)

    def leave() -> None:
        recorder.places.pop()

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(lambda *_, name=name: enter(name)).remove)
            hooks.callback(module.register_forward_hook(lambda *_: leave()).remove)
        yield


def _names(model: nn.Module) -> dict[int, tuple[str, ...]]:
    names: dict[int, tuple[str, ...]] = {}
    for tensors in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in tensors:
            names[id(tensor)] = (*names.get(id(tensor), ()), name)
    return names
