"""A net with its example as exporters want them: tensors in, tensors out, and a word on which axes may grow."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.errors import FoldError
from lhuc_asr.lhuc.example import Example, tensors_of

AXES = ("batch", "time")


class FlatNet(nn.Module):
    """A net that is called with the tensors of its example alone; everything else in the example is fixed.

    Args:
        net: any net; used as it is, not copied.
        example: what it is called with.
        time_dim: dimension of its tensors that counts frames; None takes the first one that the net accepts longer.

    Attributes:
        tensors: the example's tensors, of two utterances at least.
        input_names: of these tensors, as the net's ``forward`` calls them.
        output_names: ``output``, or ``output_0`` and so on where there are several.
        axes: for each tensor, dimension -> ``batch`` or ``time``, as far as the net takes other sizes there.

    Raises:
        FoldError: the example hides tensors in lists, tuples or mappings.

    Example:
        >>> flat = FlatNet(nn.Linear(3, 2), Example((torch.ones(1, 5, 3),)))
        >>> flat.input_names, flat.axes, flat(*flat.tensors).shape
        (('input',), ({0: 'batch', 1: 'time'},), torch.Size([2, 5, 2]))
    """

    def __init__(self, net: nn.Module, example: Example, time_dim: int | None = None) -> None:
        super().__init__()
        self.net = net
        self._example = example if example.num_utterances > 1 else example.doubled()
        keyed: dict[int | str, Any] = dict(enumerate(self._example.args))
        keyed.update(self._example.kwargs)
        self._places = tuple(place for place, value in keyed.items() if isinstance(value, Tensor))
        self.tensors = tuple(keyed[place] for place in self._places)
        if len(list(tensors_of(list(keyed.values())))) > len(self.tensors):
            raise FoldError("the example has tensors in lists, tuples or mappings; an exported net takes them singly")
        self.input_names = tuple(_name(net, self._example, place) for place in self._places)
        self.output_names = _numbered("output", len(run(self, self.tensors)))
        self.axes: tuple[dict[int, str], ...] = tuple({} for _ in self.tensors)
        self._add("batch", [self._example.utterance_dim])
        self._add("time", [1, 2, 3, 0] if time_dim is None else [time_dim])

    def forward(self, *tensors: Tensor) -> Any:
        """The net's output tensors; a tuple if there are several."""
        given: dict[int | str, Any] = dict(zip(self._places, tensors, strict=True))
        args = tuple(given.get(place, value) for place, value in enumerate(self._example.args))
        kwargs = {name: given.get(name, value) for name, value in self._example.kwargs.items()}
        run = self._example.call or (lambda net, *args, **kwargs: net(*args, **kwargs))
        outputs = tuple(tensors_of(run(self.net, *args, **kwargs)))
        return outputs[0] if len(outputs) == 1 else outputs

    @property
    def is_plain(self) -> bool:
        """Whether calling it is nothing but calling the net with these tensors, one after the other."""
        return self._example.call is None and self._places == tuple(range(len(self._example.args)))

    @property
    def dynamic(self) -> tuple[str, ...]:
        """Axes that may be of any size."""
        return tuple(axis for axis in AXES if any(axis in axes.values() for axes in self.axes))

    def grown(self, axis: str) -> tuple[Tensor, ...]:
        """The example with twice as many utterances, or half as many frames again and one."""
        sizes = [
            tensor.shape[dim] for tensor, dim in zip(self.tensors, self._dims(axis), strict=True) if dim is not None
        ]
        size = next(iter(sizes), 0)
        extra = size if axis == "batch" else size // 2 + 1
        pairs = zip(self.tensors, self._dims(axis), strict=True)
        return tuple(_grown(tensor, dim, extra, lens=axis == "time") for tensor, dim in pairs)

    def _dims(self, axis: str) -> list[int | None]:
        """For each tensor the dimension that an axis has there."""
        return [next((dim for dim, name in dims.items() if name == axis), None) for dims in self.axes]

    def _add(self, axis: str, candidates: Sequence[int]) -> None:
        """Take the first dimension for an axis where the net itself takes other sizes."""
        before = self.axes
        for dim in candidates:
            self.axes = tuple(
                {**dims, dim: axis} if self._has(tensor, dim, dims, axis) else dims
                for tensor, dims in zip(self.tensors, before, strict=True)
            )
            if self.axes != before and self._runs(self.grown(axis)):
                return
        self.axes = before

    @staticmethod
    def _has(tensor: Tensor, dim: int, dims: dict[int, str], axis: str) -> bool:
        """Whether a tensor has a dimension for it; one of a single dimension counts utterances."""
        return 0 <= dim < tensor.ndim and dim not in dims and (axis == "batch" or tensor.ndim > 1)

    def _runs(self, tensors: Sequence[Tensor]) -> bool:
        try:
            run(self, tensors)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
            return False
        return True


@torch.no_grad()
def run(net: Any, tensors: Sequence[Tensor]) -> list[Tensor]:
    """All output tensors, copied."""
    return [output.clone() for output in tensors_of(net(*tensors))]


def _grown(tensor: Tensor, dim: int | None, extra: int, *, lens: bool) -> Tensor:
    """Longer in a dimension; or lengths of utterances, of which only the longest grow."""
    if dim is not None:
        repeated = torch.cat([tensor] * (2 + extra // max(tensor.shape[dim], 1)), dim=dim)
        return repeated.narrow(dim, 0, tensor.shape[dim] + extra)
    if lens and tensor.ndim == 1 and not tensor.is_floating_point():
        return torch.where(tensor == tensor.max(), tensor + extra, tensor)
    return tensor


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return (name,) if count == 1 else tuple(f"{name}_{place}" for place in range(count))


def _name(net: nn.Module, example: Example, place: int | str) -> str:
    if isinstance(place, str):
        return place
    parameters = [] if example.call else list(inspect.signature(net.forward).parameters.values())
    if place < len(parameters) and parameters[place].kind is not inspect.Parameter.VAR_POSITIONAL:
        return parameters[place].name
    return f"input_{place}"
