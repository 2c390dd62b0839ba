"""Priors over scales, and all scales in one row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.profiles.prior import ScalePrior


def prior_for(adapter: LhucAdapter, *, num_directions: int = 3) -> ScalePrior:
    generator = torch.Generator().manual_seed(4)
    shapes = {name: tuple(r.shape) for name, r in adapter.r.items()}
    sizes = [math.prod(shape) for shape in shapes.values()]
    basis_KD = torch.linalg.qr(torch.randn(sum(sizes), num_directions, generator=generator)).Q.T
    parts = torch.split(basis_KD, sizes, dim=1)
    return ScalePrior(
        base_fingerprint="f",
        amplitude=adapter.kind,
        mean={name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()},
        variance={name: 0.01 + torch.rand(shape, generator=generator) for name, shape in shapes.items()},
        directions={n: p.reshape(-1, *shapes[n]).contiguous() for n, p in zip(shapes, parts, strict=True)},
        direction_variance=torch.tensor([1.0, 0.5, 0.1])[:num_directions],
        layouts={site.name: site.layout.letters for site in adapter.sites},
    )


def flat(adapter: LhucAdapter) -> Tensor:
    return torch.cat([r.detach().flatten() for r in adapter.parameters()])
