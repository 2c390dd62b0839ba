"""The matrix-multiplication limit: how fast this machine does those products that no adaptation can do without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lhuc_asr.bench.timing import Variant
from lhuc_asr.units import Seconds

_ROWS = {"cpu": (256, 1024), "cuda": (4096, 16384)}
_NUM_TRIALS = 2


@dataclass(frozen=True, slots=True)
class Product:
    """Every frame times one weight matrix."""

    num_inputs: int
    num_outputs: int


@dataclass(frozen=True, eq=False)
class Limit:
    """The bare products of a net above its first site, forward and back again.

    Attributes:
        variant: does them for ``num_rows`` frames.
        num_rows: frames; of several numbers the one with which a frame takes least.
        operations: multiplications and additions of one frame.
    """

    variant: Variant
    num_rows: int
    operations: int


def products_above(net: nn.Module, first_site: str) -> list[Product]:
    """The products of linears, of convolutions over one frame and of self-attention that come after a site.

    The layers of the net must be registered in the order in which they run. Products of attention weights and
    convolutions over several frames are left out, so that the limit of a Conformer is a little too high.
    """
    names = [name for name, _ in net.named_modules()]
    above = set(names[names.index(first_site) :])
    return [product for name, module in net.named_modules() if name in above for product in _products_of(module)]


def _products_of(module: nn.Module) -> Iterator[Product]:
    if isinstance(module, nn.MultiheadAttention):
        yield Product(module.embed_dim, 3 * module.embed_dim)
    elif isinstance(module, nn.Linear):
        yield Product(module.in_features, module.out_features)
    elif isinstance(module, nn.Conv1d) and module.kernel_size == (1,) and module.groups == 1:
        yield Product(module.in_channels, module.out_channels)


def operations_of(products: Sequence[Product]) -> int:
    """Multiplications and additions of one frame in one update: once forward, once back, no gradients of weights."""
    return sum(2 * 2 * product.num_inputs * product.num_outputs for product in products)


def matrix_limit(products: Sequence[Product], dtype: torch.dtype, device: torch.device, *, rows: int = 0) -> Limit:
    """Prepare the bare products.

    Args:
        products: of `products_above`.
        dtype: number format of weights and outputs.
        device: where.
        rows: frames; 0 tries some numbers and takes the best.
    """
    runs = {
        num_rows: _run_of(products, num_rows, dtype, device) for num_rows in ([rows] if rows else _ROWS[device.type])
    }
    best = min(runs, key=lambda num_rows: _seconds(runs[num_rows], device) / num_rows) if len(runs) > 1 else rows
    name = f"products alone, {str(dtype).removeprefix('torch.')}"
    return Limit(Variant(name, runs[best]), best, operations_of(products))


def _run_of(products: Sequence[Product], rows: int, dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    def matrix(height: int, width: int) -> Tensor:
        return torch.randn(height, width, device=device).to(dtype)

    weights = [matrix(product.num_outputs, product.num_inputs) for product in products]
    inputs = {product.num_inputs: matrix(rows, product.num_inputs) for product in products}
    outputs = {product.num_outputs: matrix(rows, product.num_outputs) for product in products}

    def run() -> None:
        for weight in weights:
            torch.mm(inputs[weight.shape[1]], weight.t())
        for weight in reversed(weights):
            torch.mm(outputs[weight.shape[0]], weight)

    return run


def _seconds(run: Callable[[], None], device: torch.device) -> Seconds:
    """The best of a few trials, after one that does not count."""
    times = []
    for _ in range(1 + _NUM_TRIALS):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])
