"""The tower: a plain stack of layers to one logit, whose input and hidden units may be scaled.

Shape suffixes: B impressions, D width of the input, H hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

INPUT = 0
"""The place of the input; hidden layers count from 1."""


class Tower(nn.Module):
    """Layers with ReLU, then one logit.

    Args:
        input_dim: D.
        hidden_dims: H of every hidden layer, lowest first.

    Source: without scales, the DNN of PPNet and PEPNet; with them H^(l+1) = f((delta^(l) * H^(l)) W^(l) + b^(l)),
        Chang et al. 2023 (arXiv:2302.01115), PPNet.
    """

    def __init__(self, input_dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(below, above) for below, above in pairwise([input_dim, *hidden_dims]))
        self.output = nn.Linear([input_dim, *hidden_dims][-1], 1)

    def forward(self, x_BD: Tensor, scales: Mapping[int, Tensor]) -> Tensor:
        """The logits.

        Args:
            x_BD: the input.
            scales: place -> (B, D) or (B, H) factors of what is there; places that are not named stay as they are.

        Returns:
            (B,) logits.
        """
        h_BH = _scaled(x_BD, scales.get(INPUT))
        for place, layer in enumerate(self.layers, start=INPUT + 1):
            h_BH = _scaled(layer(h_BH).relu(), scales.get(place))
        logits_B: Tensor = self.output(h_BH).squeeze(-1)
        return logits_B


def _scaled(h_BH: Tensor, scales_BH: Tensor | None) -> Tensor:
    return h_BH if scales_BH is None else h_BH * scales_BH
