"""What a net is called with, so that it can be watched at work before anything is attached to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.ragged import utterance_of_rows

_SEED = 20160101


@dataclass(frozen=True, eq=False)
class Example:
    """A small batch of input.

    Attributes:
        args: positional arguments of the net. Tensors of at least two dimensions are taken for batches, and so are
            those of one dimension that count as many utterances (lengths); packed sequences may be among them.
        kwargs: its keyword arguments.
        utterance_dim: which dimension of the input tensors counts utterances.
        call: how the net is run; the default is to call it. For a streaming method, say
            ``lambda net, *args: net.streaming_forward(*args)``.

    Example:
        >>> feats, lens = torch.zeros(2, 7, 40), torch.tensor([5, 7])
        >>> Example((feats, lens)).single().args[1]
        tensor([7])
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
        is_tuple = isinstance(value, (tuple, list)) and not isinstance(value, PackedSequence)
        return Example(args=tuple(value) if is_tuple else (value,))

    @torch.no_grad()
    def output(self, model: nn.Module) -> Tensor:
        """A copy of the net's first output tensor; random numbers are the same in every call.

        Raises:
            SiteError: the net gives no tensor.
        """
        return self.first_output(model).clone()

    def first_output(self, model: nn.Module) -> Tensor:
        """The net's first output tensor itself, with its history if gradients are on; the input is left as it is.

        Raises:
            SiteError: the net gives no tensor.
        """
        torch.manual_seed(_SEED)
        output = self._each(Tensor.clone, lambda value: isinstance(value, Tensor)).run(model)
        first = next(tensors_of(output), None)
        if first is None:
            raise SiteError(f"the net gives a {type(output).__name__}; the proof needs a tensor, or a tuple with one")
        return first

    def run(self, model: nn.Module) -> Any:
        """Call the net."""
        return (self.call or _call)(model, *self.args, **self.kwargs)

    @property
    def num_utterances(self) -> int:
        """Of the batch; 1 where no input has a dimension for it."""
        for value in (*self.args, *self.kwargs.values()):
            if isinstance(value, PackedSequence):
                return int(value.batch_sizes[0])
            if isinstance(value, Tensor) and value.ndim > max(1, self.utterance_dim):
                return value.shape[self.utterance_dim]
        return 1

    def single(self) -> Example:
        """The longest utterance alone, as a batch of one; packed sequences stay as they are."""
        lens = [t for t in (*self.args, *self.kwargs.values()) if self._is_batched(t) and t.ndim == 1]
        longest = int(lens[0].argmax()) if lens else 0
        return self._each(lambda tensor: tensor.narrow(self._dim(tensor), longest, 1), self._is_batched)

    def doubled(self) -> Example:
        """Every utterance twice."""
        return self._each(lambda tensor: torch.cat([tensor, tensor], dim=self._dim(tensor)), self._is_batched)

    def with_changed(self, utterance: int) -> Example:
        """Other values in one utterance: other floating-point numbers, and token ids shifted by one."""

        def change(value: Any) -> Any:
            if isinstance(value, PackedSequence):
                mine = (utterance_of_rows(value) == utterance).nonzero().flatten()
                return value._replace(data=value.data.index_copy(0, mine, _other(value.data[mine])))
            if value.ndim < 2 or value.dtype == torch.bool:
                return value
            changed = value.clone()
            changed.select(self._dim(value), utterance).copy_(_other(changed.select(self._dim(value), utterance)))
            return changed

        return self._each(change, lambda value: isinstance(value, PackedSequence) or self._is_batched(value))

    def _each(self, change: Callable[[Any], Any], when: Callable[[Any], bool]) -> Example:
        args = tuple(change(value) if when(value) else value for value in self.args)
        kwargs = {name: change(value) if when(value) else value for name, value in self.kwargs.items()}
        return Example(args, kwargs, self.utterance_dim, self.call)

    def _is_batched(self, value: Any) -> bool:
        if not isinstance(value, Tensor) or value.ndim == 0 or (value.ndim == 1 and not self._has_matrices()):
            return False
        return value.shape[self._dim(value)] == self.num_utterances

    def _has_matrices(self) -> bool:
        return any(isinstance(value, Tensor) and value.ndim > 1 for value in (*self.args, *self.kwargs.values()))

    def _dim(self, tensor: Tensor) -> int:
        """Where a tensor counts utterances; masks may do so elsewhere than the features."""
        dim = self.utterance_dim
        return dim if tensor.ndim > dim and tensor.shape[dim] == self.num_utterances else 0


def _other(values: Tensor) -> Tensor:
    if not values.is_floating_point():
        return values.roll(1, 0)
    noise = torch.rand(values.shape, generator=torch.Generator().manual_seed(_SEED))
    return values + (0.5 + noise).to(values)


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
    """Restore modes, buffers and random numbers of a net when the block ends, however it ends.

    What a net keeps elsewhere, such as the cache of a stream in a plain attribute, is not known here.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {module: dict(module._buffers.items()) for module in modes}
    values = {buffer: buffer.clone() for held in buffers.values() for buffer in held.values() if buffer is not None}
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
                if not isinstance(module, torch.jit.ScriptModule):  # those cannot get other buffers
                    module._buffers.clear()
                    module._buffers.update(buffers[module])
            with torch.no_grad():
                for buffer, value in values.items():
                    buffer.copy_(value)
