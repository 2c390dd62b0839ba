"""The products that no update can do without, counted beside torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lhuc_asr.bench.limit import Product, matrix_limit, operations_of, products_above
from lhuc_asr.bench.nets import build_net

CPU = torch.device("cpu")


def test_the_products_of_a_dnn() -> None:
    bench = build_net("dnn_4x512", CPU, quick=True)
    assert products_above(bench.net, bench.sites[0].name) == [Product(8, 8), Product(8, 11)]
    assert products_above(bench.net, bench.sites[1].name) == [Product(8, 11)]


def test_an_update_of_a_dnn_needs_them_and_the_first_layer() -> None:
    bench = build_net("dnn_6x2048", CPU, quick=True)
    (speech, *_) = bench.speech()
    scales = torch.ones(8, requires_grad=True)
    layer = bench.net.get_submodule(bench.sites[0].name)
    hook = layer.register_forward_hook(lambda module, inputs, output: output * scales)
    windows = speech.inputs(torch.arange(5))
    with FlopCounterMode(display=False) as counter:
        bench.over_items(windows).sum().backward()
    hook.remove()
    first = 2 * windows[0].numel() * 8
    needed = operations_of(products_above(bench.net, bench.sites[0].name))
    assert counter.get_total_flops() == 5 * (needed + first)


def test_the_products_of_a_conformer() -> None:
    bench = build_net("conformer", CPU, quick=True)
    width, inner = 8, 16
    feed_forward = [Product(width, inner), Product(inner, width)]
    attention = [Product(width, 3 * width), Product(width, width)]
    convolution = [Product(width, 2 * width), Product(width, width)]
    block = [*feed_forward, *attention, *convolution, *feed_forward]
    assert products_above(bench.net, bench.sites[0].name) == [*block[1:], *block, Product(width, 11)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bare_products_run(dtype: torch.dtype) -> None:
    limit = matrix_limit([Product(3, 5), Product(5, 2)], dtype, CPU, rows=4)
    limit.variant.once()
    assert limit.num_rows == 4
    assert limit.operations == 2 * 2 * (15 + 10)
    assert str(dtype).removeprefix("torch.") in limit.variant.name
