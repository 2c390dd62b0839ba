"""Factored time-delay network: every layer squeezes through a bottleneck whose lower half is kept semi-orthogonal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lhuc_asr.errors import ConfigError
from lhuc_asr.models.network import NetworkKind
from lhuc_asr.models.tdnn import TdnnLayer
from lhuc_asr.models.time_delay import FrameNorm, TimeDelayConfig, TimeDelayLayer, TimeDelayNetwork
from lhuc_asr.ranges import require_at_least, require_share


@dataclass(kw_only=True, slots=True)
class TdnnFConfig(TimeDelayConfig):
    """Shape of the network: `TimeDelayConfig`; the layers of 1536 units in Kaldi's recipes have bottlenecks of 160.

    Attributes:
        bottleneck_dim: numbers that a factored layer, and the output, squeezes its input into.
        dilations: of the lowest layer, which is not factored and looks at t - d, t and t + d, and of the others.
        bypass_scale: share of a factored layer's input that is added to its output; 0 adds none.
        shared_dropout: alpha, in training each unit is multiplied by a number drawn from 1 - 2 alpha to 1 + 2 alpha,
            the same for all frames of an utterance.
    """

    kind: NetworkKind = NetworkKind.tdnnf
    bottleneck_dim: int = 96
    dilations: list[int] = field(default_factory=lambda: [1, 1, 1, 0, 3, 3, 3])
    bypass_scale: float = 0.66
    shared_dropout: float = 0.0

    def __post_init__(self) -> None:
        TimeDelayConfig.__post_init__(self)
        require_at_least(1, self, "model", "bottleneck_dim")
        require_share(self, "model", "bypass_scale")
        if not 0.0 <= self.shared_dropout <= 0.5:
            raise ConfigError(f"model.shared_dropout must lie in [0, 0.5], got {self.shared_dropout}")


class SharedDropout(nn.Module):
    """Continuous dropout with one factor for a unit in all frames of an utterance.

    Source: Povey et al. 2018, section 3.5.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x_BHT: Tensor) -> Tensor:
        """(B, H, T) -> (B, H, T)."""
        if not self.training or self.alpha == 0:
            return x_BHT
        return x_BHT * (1 + 2 * self.alpha * (2 * torch.rand_like(x_BHT[:, :, :1]) - 1))


class SemiOrthogonal(nn.Conv1d):
    """A factor M whose rows training keeps orthogonal to each other and of one length, which is free.

    Source: Povey et al. 2018, section 2.
    """

    def __init__(self, num_inputs: int, num_outputs: int, dilation: int = 0) -> None:
        super().__init__(num_inputs, num_outputs, 2 if dilation else 1, dilation=dilation or 1, bias=False)

    @property
    def matrix(self) -> Tensor:
        """(R, C) M, transposed where it has more rows than columns; shares its memory with ``weight``."""
        matrix = self.weight.detach().flatten(1)
        return matrix if len(matrix) <= matrix.shape[1] else matrix.t()

    @torch.no_grad()
    def constrain(self) -> None:
        """One step towards M M^T = alpha^2 I, with the alpha^2 that is nearest to M as it is.

        Source: Povey et al. 2018, eqs. 3 to 5 with nu = 1/8; far from the aim shorter steps keep it from diverging, as
        in Kaldi's ``ConstrainOrthonormal``.
        """
        matrix = self.matrix
        product = matrix @ matrix.t()
        trace, trace_of_square = product.trace(), product.square().sum()
        if trace == 0:
            return
        alpha_square = trace_of_square / trace
        spread = trace_of_square * len(product) / trace.square()
        speed = 0.125 * (1.0 if spread <= 1.02 else 0.5 if spread <= 1.1 else 0.25)
        product.diagonal().sub_(alpha_square)
        matrix.sub_(4 * speed / alpha_square * (product @ matrix))

    def draw(self, generator: torch.Generator) -> None:
        """Draw a factor that is semi-orthogonal already (Saxe et al. 2014, arXiv:1312.6120)."""
        nn.init.orthogonal_(self.weight, generator=generator)


class TdnnFLayer(TimeDelayLayer):
    """Bottleneck of frames t - d and t, then hidden units from bottlenecks t and t + d, ReLU, normalisation, bypass.

    The output of ``activation`` is the hidden units.
    """

    def __init__(self, dilation: int, config: TdnnFConfig) -> None:
        super().__init__()
        self.context = dilation
        self.bypass_scale = config.bypass_scale
        self.factor = SemiOrthogonal(config.hidden_dim, config.bottleneck_dim, dilation)
        self.affine = nn.Conv1d(config.bottleneck_dim, config.hidden_dim, 2 if dilation else 1, dilation=dilation or 1)
        self.activation = nn.ReLU()
        self.norm = FrameNorm(config.hidden_dim)
        self.dropout = SharedDropout(config.shared_dropout)

    def forward(self, x_BDT: Tensor, lens_B: Tensor | None = None) -> Tensor:
        """(B, H, T) -> (B, H, T - 2 * context); ``lens_B`` (B,) counts true frames of what the layer gives."""
        h_BHT: Tensor = self.activation(self.affine(self.factor(x_BDT)))
        h_BHT = self.dropout(self.norm(h_BHT, lens_B))
        return h_BHT + self.bypass_scale * x_BDT[:, :, self.context : x_BDT.shape[2] - self.context]

    def draw(self, generator: torch.Generator) -> None:
        """Draw the weights (for ReLU: He et al. 2015, arXiv:1502.01852, eq. 10)."""
        self.factor.draw(generator)
        nn.init.kaiming_normal_(self.affine.weight, nonlinearity="relu", generator=generator)
        assert self.affine.bias is not None
        nn.init.zeros_(self.affine.bias)


class TdnnF(TimeDelayNetwork[TdnnFConfig]):
    """Factored time-delay network with a softmax over tied states.

    The training loop is expected to call `constrain` after every fourth step of the optimiser.

    Example:
        >>> config = TdnnFConfig(hidden_dim=8, bottleneck_dim=4, dilations=[1, 3], subsampling=3)
        >>> network = TdnnF(config, feat_dim=40, num_outputs=5)
        >>> network(torch.zeros(1, 20, 40)).shape
        torch.Size([1, 7, 5])
        >>> network.constrain()

    Source: Povey et al. 2018 ("Semi-orthogonal low-rank matrix factorization for deep neural networks"). The bypass is
    the sum with the scaled layer below of Kaldi's later recipes (``tdnnf-layer``), in place of the paper's appended
    inputs.
    """

    def _stack(self, dilations: Sequence[int]) -> list[TimeDelayLayer]:
        lowest, *upper = dilations
        first = TdnnLayer(self.feat_dim, self.config.hidden_dim, lowest, batch_norm=True, dropout=0.0)
        return [first, *(TdnnFLayer(dilation, self.config) for dilation in upper)]

    def _top(self) -> nn.Module:
        factor = SemiOrthogonal(self.config.hidden_dim, self.config.bottleneck_dim)
        return nn.Sequential(factor, nn.Conv1d(self.config.bottleneck_dim, self.num_outputs, 1))

    def _draw_output(self, generator: torch.Generator) -> None:
        """A semi-orthogonal factor, and above it what Glorot & Bengio 2010, eq. 16, give for logits."""
        factor, affine = self.output.children()
        assert isinstance(factor, SemiOrthogonal) and isinstance(affine, nn.Conv1d) and affine.bias is not None
        factor.draw(generator)
        nn.init.xavier_uniform_(affine.weight, generator=generator)
        nn.init.zeros_(affine.bias)

    def constrain(self) -> None:
        """Move every factor one step towards being semi-orthogonal."""
        for factor in self.factors():
            factor.constrain()

    def factors(self) -> Iterator[SemiOrthogonal]:
        """The factors that are kept semi-orthogonal, bottom to top."""
        return (module for module in self.modules() if isinstance(module, SemiOrthogonal))
