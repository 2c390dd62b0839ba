"""Time-delay network: every layer looks at three frames, the upper ones further and further apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lhuc_asr.models.network import NetworkKind
from lhuc_asr.models.time_delay import FrameNorm, TimeDelayConfig, TimeDelayLayer, TimeDelayNetwork
from lhuc_asr.ranges import require_share_below_one


@dataclass(kw_only=True, slots=True)
class TdnnConfig(TimeDelayConfig):
    """Shape of the network: `TimeDelayConfig` with layers that look at the frames t - d, t and t + d.

    Attributes:
        batch_norm: normalise the units over the minibatch.
        dropout: share of the hidden units' outputs that training sets to 0.
    """

    kind: NetworkKind = NetworkKind.tdnn
    dilations: list[int] = field(default_factory=lambda: [1, 1, 1, 3, 3, 3])
    batch_norm: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        TimeDelayConfig.__post_init__(self)
        require_share_below_one(self, "model", "dropout")


class TdnnLayer(TimeDelayLayer):
    """Dilated convolution over time, ReLU, normalisation; the output of ``activation`` is the hidden units."""

    def __init__(self, num_inputs: int, hidden_dim: int, dilation: int, *, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        self.context = dilation
        self.conv = nn.Conv1d(num_inputs, hidden_dim, 3 if dilation else 1, dilation=dilation or 1)
        self.activation = nn.ReLU()
        self.norm = FrameNorm(hidden_dim) if batch_norm else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BDT: Tensor, lens_B: Tensor | None = None) -> Tensor:
        """(B, D, T) -> (B, H, T - 2 * context); ``lens_B`` (B,) counts true frames of what the layer gives."""
        return self.pass_on(self.activate(x_BDT), lens_B)

    def activate(self, x_BDT: Tensor) -> Tensor:
        """(B, D, T) -> (B, H, T - 2 * context), the output of ``activation``."""
        h_BHT: Tensor = self.activation(self.conv(x_BDT))
        return h_BHT

    def pass_on(self, h_BHT: Tensor, lens_B: Tensor | None = None) -> Tensor:
        """What the layer above gets of the units."""
        h_BHT = h_BHT if self.norm is None else self.norm(h_BHT, lens_B)
        passed_BHT: Tensor = self.dropout(h_BHT)
        return passed_BHT

    def draw(self, generator: torch.Generator) -> None:
        """Draw the weights (He et al. 2015, arXiv:1502.01852, eq. 10: the variance for ReLU)."""
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu", generator=generator)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)


class Tdnn(TimeDelayNetwork[TdnnConfig]):
    """Time-delay network with a softmax over tied states.

    Example:
        >>> network = Tdnn(TdnnConfig(hidden_dim=8, dilations=[1, 3], subsampling=3), feat_dim=40, num_outputs=5)
        >>> network(torch.zeros(1, 20, 40)).shape
        torch.Size([1, 7, 5])
        >>> network.context, network.adaptation_sites
        (4, ('layers.0.activation', 'layers.1.activation'))

    Source: Peddinti, Povey & Khudanpur 2015 ("A time delay neural network architecture for efficient modeling of long
    temporal contexts"), section 3; ReLU before the normalisation as in Kaldi's recipes.
    """

    def _stack(self, dilations: Sequence[int]) -> list[TimeDelayLayer]:
        config = self.config
        dims = [self.feat_dim] + [config.hidden_dim] * (len(dilations) - 1)
        return [
            TdnnLayer(dim, config.hidden_dim, dilation, batch_norm=config.batch_norm, dropout=config.dropout)
            for dim, dilation in zip(dims, dilations, strict=True)
        ]

    def _top(self) -> nn.Module:
        return nn.Conv1d(self.config.hidden_dim, self.num_outputs, 1)

    def _draw_output(self, generator: torch.Generator) -> None:
        assert isinstance(self.output, nn.Conv1d) and self.output.bias is not None
        nn.init.xavier_uniform_(self.output.weight, generator=generator)
        nn.init.zeros_(self.output.bias)

    @property
    def split_points(self) -> tuple[str, ...]:
        """The units of every layer; a module that somebody put in a layer's place is none."""
        sites = zip(self.adaptation_sites, self.layers, strict=True)
        return tuple(name for name, layer in sites if isinstance(layer, TdnnLayer))

    def output_of(self, module: str, windows_NWF: Tensor) -> Tensor:
        """(N, H, W') units of a layer, of all frames that the layers above look at."""
        top = self._layer_index(module)
        x_NDW = windows_NWF.transpose(1, 2)
        for index, layer in enumerate(self.time_delay_layers[:top]):
            x_NDW = layer(self._thinned(index, x_NDW, None)[0])
        return self._tdnn_layer(top).activate(self._thinned(top, x_NDW, None)[0])

    def log_probs_from(self, module: str, output: Tensor) -> Tensor:
        """(N, V) from (N, H, W') units of a layer; see `AcousticNetwork.log_probs_from`."""
        index = self._layer_index(module)
        h_NHW = self._tdnn_layer(index).pass_on(output)
        return self._log_probs(h_NHW, from_layer=index + 1).squeeze(1)

    def _tdnn_layer(self, index: int) -> TdnnLayer:
        layer = self.layers[index]
        assert isinstance(layer, TdnnLayer)
        return layer

    def _layer_index(self, module: str) -> int:
        if module not in self.split_points:
            raise self._cannot_be_divided(module)
        return self.adaptation_sites.index(module)
