"""What the kind of a layer tells of its units: how many, and in which dimension of its output they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

_LAST = (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding)
_SECOND = (nn.BatchNorm1d, nn.GroupNorm)
_CONVOLUTIONS: dict[int, tuple[type[nn.Module], ...]] = {
    1: (nn.Conv1d, nn.ConvTranspose1d, nn.InstanceNorm1d),
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d),
}


@dataclass(frozen=True)
class Kind:
    """Units of a layer's output.

    Attributes:
        num_units: H.
        num_trailing: dimensions behind that of the units; None means all but the first two.
    """

    num_units: int
    num_trailing: int | None

    def unit_dim(self, shape: Sequence[int]) -> int | None:
        """Which dimension of an output of this shape holds the units; None when no dimension can."""
        trailing = len(shape) - 2 if self.num_trailing is None else self.num_trailing
        fits = [dim for dim, size in enumerate(shape) if size == self.num_units]
        usual = len(shape) - 1 - trailing
        if usual in fits:
            return usual
        return fits[0] if len(fits) == 1 else None


def own_kind(module: nn.Module) -> Kind | None:
    """What a layer's own kind tells; None for activations, containers and layers that are not known."""
    if isinstance(module, nn.RNNBase):
        return Kind((module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1), 0)
    if isinstance(module, nn.RNNCellBase):
        return Kind(module.hidden_size, 0)
    if isinstance(module, nn.MultiheadAttention):
        return Kind(module.embed_dim, 0)
    if isinstance(module, _LAST):
        return Kind(_width(module), 0)
    for num_trailing, kinds in _CONVOLUTIONS.items():
        if isinstance(module, kinds):
            return Kind(_width(module), num_trailing)
    return Kind(_width(module), None) if isinstance(module, _SECOND) else None


def kind_by_order(model: nn.Module, name: str) -> Kind | None:
    """A layer's own kind, or for an activation that of the nearest layer before it under the same parent.

    Before it means: as the net lists its layers, which need not be the order in which they run.
    """
    parent, _, own = name.rpartition(".")
    known: Kind | None = None
    for sibling, module in model.get_submodule(parent).named_children():
        known = _after(module, known)
        if sibling == own:
            break
    return known


def _after(module: nn.Module, before: Kind | None) -> Kind | None:
    """The kind of what leaves a layer, given that of what enters it."""
    if isinstance(module, nn.GLU):
        return Kind(before.num_units // 2, before.num_trailing) if before else None
    if isinstance(module, (nn.Flatten, nn.Unflatten)):
        return None
    own = own_kind(module)
    if isinstance(module, _SECOND) and before is not None:
        return before
    if own is not None or isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return own
    for child in module.children():
        before = _after(child, before)
    return before


def _width(module: nn.Module) -> int:
    for attribute in ("out_features", "out_channels", "num_features", "num_channels", "embedding_dim"):
        if isinstance(value := getattr(module, attribute, None), int):
            return value
    shape = module.normalized_shape
    assert isinstance(shape, (tuple, list))
    return int(shape[-1])
