"""What a net is called with, so that it can be watched at work before anything is attached to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.errors import SiteError

_SEED = 20160101


@dataclass(frozen=True, eq=False)
class Example:
    """A small batch of input.

    Attributes:
        args: positional arguments of the net.
        kwargs: its keyword arguments.
        utterance_dim: which dimension of the input tensors counts utterances.
        call: how the net is run; the default is to call it. For a streaming method, say
            ``lambda net, *args: net.streaming_forward(*args)``.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    utterance_dim: int = 0
    call: Callable[..., Any] | None = None

    @staticmethod
    def of(value: Any) -> Example:
        """From a tensor, a tuple of positional arguments, a mapping of keyword arguments, or an example as it is."""
        if isinstance(value, Example):
            return value
        if isinstance(value, Mapping):
            return Example(kwargs=value)
        return Example(args=tuple(value) if isinstance(value, (tuple, list)) else (value,))

    @torch.no_grad()
    def output(self, model: nn.Module) -> Tensor:
        """A copy of the net's first output tensor; random numbers are the same in every call.

        Raises:
            SiteError: the net gives no tensor.
        """
        torch.manual_seed(_SEED)
        output = self.run(model)
        first = next(tensors_of(output), None)
        if first is None:
            raise SiteError(f"the net gives a {type(output).__name__}; the proof needs a tensor, or a tuple with one")
        return first.clone()

    def run(self, model: nn.Module) -> Any:
        """Call the net."""
        return (self.call or _call)(model, *self.args, **self.kwargs)

    @property
    def num_utterances(self) -> int:
        """Of the batch; 1 where no tensor has a dimension for it."""
        sizes = (t.shape[self._dim(t)] for t in self._tensors() if t.ndim > 0)
        return next(iter(sizes), 1)

    def single(self) -> Example:
        """The longest utterance alone, as a batch of one."""
        lens = [t for t in self._tensors() if t.ndim == 1 and not t.is_floating_point()]
        longest = int(lens[0].argmax()) if lens else 0
        return self._each(lambda tensor: tensor.narrow(self._dim(tensor), longest, 1))

    def doubled(self) -> Example:
        """Every utterance twice."""
        return self._each(lambda tensor: torch.cat([tensor, tensor], dim=self._dim(tensor)))

    def with_first_changed(self) -> Example:
        """Other floating-point values in the first utterance, the same in the others."""
        generator = torch.Generator().manual_seed(_SEED)

        def change(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return tensor
            changed = tensor.clone()
            first = changed.select(self._dim(tensor), 0)
            first += (0.5 + torch.rand(first.shape, generator=generator)).to(first)
            return changed

        return self._each(change)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Example:
        def replace(value: Any) -> Any:
            return change(value) if self._is_batched(value) else value

        args = tuple(replace(value) for value in self.args)
        return Example(args, {k: replace(v) for k, v in self.kwargs.items()}, self.utterance_dim, self.call)

    def _tensors(self) -> Iterator[Tensor]:
        return (value for value in (*self.args, *self.kwargs.values()) if isinstance(value, Tensor))

    def _is_batched(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.ndim > 0 and value.shape[self._dim(value)] == self.num_utterances

    def _dim(self, tensor: Tensor) -> int:
        return self.utterance_dim if tensor.ndim > self.utterance_dim else 0


def _call(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return model(*args, **kwargs)


def tensors_of(output: Any) -> Iterator[Tensor]:
    """All tensors of a net's output, depth first; tuples, lists and mappings are opened."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_of(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from tensors_of(value)


@contextmanager
def put_back(model: nn.Module) -> Iterator[None]:
    """Restore modes, buffers and random numbers of a net when the block ends, however it ends."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
