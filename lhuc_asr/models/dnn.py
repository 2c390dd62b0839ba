"""The paper's acoustic model: a stack of sigmoid layers over a window of frames."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import cast

import torch
from torch import Tensor, nn

from lhuc_asr.errors import ConfigError
from lhuc_asr.models.network import AcousticNetwork, PlainLayer


class Activation(Enum):
    """Non-linearity of the hidden layers."""

    sigmoid = "sigmoid"
    tanh = "tanh"
    relu = "relu"


_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    Activation.sigmoid: nn.Sigmoid,
    Activation.tanh: nn.Tanh,
    Activation.relu: nn.ReLU,
}

# Glorot & Bengio 2010 ("Understanding the difficulty of training deep feedforward neural networks"), eq. 16, holds for
# a unit whose slope at 0 is 1. A sigmoid has slope 1/4, hence the factor 4; ReLU halves the variance (He et al. 2015,
# eq. 10).
_GAINS = {Activation.sigmoid: 4.0, Activation.tanh: 1.0, Activation.relu: 2.0**0.5}

# Sigmoid units are on average half on. The biases above them take that off, so that every layer begins where its slope
# is steepest (LeCun et al. 1998, "Efficient BackProp", sections 4.4 and 4.6); without it units of upper layers begin
# saturated, and the gradient of the lowest of 6 layers is 7 times smaller than that of the highest.
_SIGMOID_MEAN = 0.5


@dataclass(kw_only=True, slots=True)
class DnnConfig:
    """Shape of the network; 6 layers of 2048 are the paper's.

    Attributes:
        num_layers: hidden layers.
        hidden_dim: H, units of each hidden layer.
        context: frames on either side of the middle one that the network sees.
        activation: non-linearity of the hidden layers.
        dropout: share of the hidden units' outputs that training sets to 0.
        batch_norm: normalise the input of each non-linearity over the minibatch.
    """

    num_layers: int = 6
    hidden_dim: int = 512
    context: int = 5
    activation: Activation = Activation.sigmoid
    dropout: float = 0.0
    batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.num_layers < 1 or self.hidden_dim < 1:
            raise ConfigError(
                f"a network needs at least one layer of one unit, got model.num_layers={self.num_layers} "
                f"and model.hidden_dim={self.hidden_dim}"
            )
        if self.context < 0:
            raise ConfigError(f"model.context must be 0 or more, got {self.context}")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"model.dropout must lie in [0, 1), got {self.dropout}")


class HiddenLayer(nn.Module):
    """One hidden layer; the output of ``activation`` is what its units contribute to the layer above."""

    def __init__(self, num_inputs: int, config: DnnConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, config.hidden_dim)
        self.norm = nn.BatchNorm1d(config.hidden_dim) if config.batch_norm else None
        self.activation = _ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_ND: Tensor) -> Tensor:
        """(N, D) -> (N, H)."""
        h_NH: Tensor = self.dropout(self.activate(x_ND))
        return h_NH

    def activate(self, x_ND: Tensor) -> Tensor:
        """(N, D) -> (N, H), the output of ``activation``."""
        z_NH = self.linear(x_ND)
        if self.norm is not None:
            z_NH = self.norm(z_NH)
        h_NH: Tensor = self.activation(z_NH)
        return h_NH

    def plain(self, module: str) -> PlainLayer:
        """The layer in evaluation mode as nothing but its numbers."""
        weight, bias = self.linear.weight.detach(), self.linear.bias.detach()
        if self.norm is not None:
            assert self.norm.running_mean is not None and self.norm.running_var is not None
            scale_H = self.norm.weight.detach() / (self.norm.running_var + self.norm.eps).sqrt()
            bias = (bias - self.norm.running_mean) * scale_H + self.norm.bias.detach()
            weight = weight * scale_H[:, None]
        return PlainLayer(module, weight, bias, type(self.activation))


class Dnn(AcousticNetwork):
    """Fully connected network over spliced frames, with a softmax over tied states.

    Example:
        >>> network = Dnn(DnnConfig(num_layers=2, hidden_dim=8), feat_dim=40, num_outputs=3)
        >>> network(torch.zeros(1, 20, 40)).shape
        torch.Size([1, 20, 3])
        >>> network.adaptation_sites
        ('layers.0.activation', 'layers.1.activation')

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section V: 6 x 2048 sigmoid units, 11 frames.
    """

    def __init__(self, config: DnnConfig, feat_dim: int, num_outputs: int, *, seed: int = 0) -> None:
        """Draw the initial weights; the same seed gives the same network.

        Args:
            config: depth, width and kind of the layers.
            feat_dim: F, features of one frame.
            num_outputs: V, tied states.
            seed: of the initial weights.
        """
        super().__init__()
        self.config = config
        self.context = config.context
        self.feat_dim = feat_dim
        self.num_outputs = num_outputs
        dims = [feat_dim * (2 * config.context + 1)] + [config.hidden_dim] * config.num_layers
        with torch.random.fork_rng(devices=[]):
            self.layers = nn.ModuleList(HiddenLayer(num_inputs, config) for num_inputs in dims[:-1])
            self.output = nn.Linear(dims[-1], num_outputs)
        self._draw_weights(torch.Generator().manual_seed(seed))

    @property
    def adaptation_sites(self) -> tuple[str, ...]:
        """Names of the modules whose outputs are hidden units, bottom to top."""
        return tuple(f"layers.{index}.activation" for index in range(len(self.layers)))

    def forward(self, feats_BTF: Tensor, feat_lens: Tensor | None = None) -> Tensor:
        """Log-probabilities of whole utterances; beyond its ends an utterance is thought to stand still.

        Args:
            feats_BTF: (B, T, F) normalised features.
            feat_lens: (B,) frames of each utterance; what lies beyond is padding and has no effect on them.

        Returns:
            (B, T, V) natural logarithms of the states' posterior probabilities.
        """
        num_utterances, num_frames, _ = feats_BTF.shape
        if feat_lens is None:
            feat_lens = torch.full((num_utterances,), num_frames)
        windows_BTWF = _splice(feats_BTF, feat_lens.to(feats_BTF.device), self.context)
        log_probs_NV = self.forward_windows(windows_BTWF.flatten(0, 1))
        return log_probs_NV.view(num_utterances, num_frames, self.num_outputs)

    def forward_windows(self, windows_NWF: Tensor) -> Tensor:
        """Log-probabilities of the middle frames of windows.

        Args:
            windows_NWF: (N, W, F) normalised features, W = 2 * context + 1.

        Returns:
            (N, V) natural logarithms of the states' posterior probabilities.
        """
        return self._log_probs(windows_NWF.flatten(1), from_layer=0)

    @property
    def split_points(self) -> tuple[str, ...]:
        """The non-linearity of every layer; a module that somebody put in a layer's place is none."""
        sites = zip(self.adaptation_sites, self.layers, strict=True)
        return tuple(name for name, layer in sites if isinstance(layer, HiddenLayer))

    def output_of(self, module: str, windows_NWF: Tensor) -> Tensor:
        """(N, H) units of a layer; see `AcousticNetwork.output_of`."""
        index = self._layer_index(module)
        h_NH = windows_NWF.flatten(1)
        for layer in self._layers[:index]:
            h_NH = layer(h_NH)
        return self._layers[index].activate(h_NH)

    def log_probs_from(self, module: str, output: Tensor) -> Tensor:
        """(N, V) from (N, H) units of a layer; see `AcousticNetwork.log_probs_from`."""
        index = self._layer_index(module)
        return self._log_probs(self._layers[index].dropout(output), from_layer=index + 1)

    def plain_layers_above(self, module: str) -> tuple[PlainLayer, ...] | None:
        """The layers above; None in training mode, or where somebody has exchanged a module or hooked into one."""
        layers = self._layers[self._layer_index(module) + 1 :]
        if self.training or not all(_is_plain(part) for part in self.modules()):
            return None
        names = self.adaptation_sites[len(self._layers) - len(layers) :]
        top = PlainLayer("output", self.output.weight.detach(), self.output.bias.detach())
        return (*(layer.plain(name) for layer, name in zip(layers, names, strict=True)), top)

    @property
    def _layers(self) -> list[HiddenLayer]:
        return cast("list[HiddenLayer]", list(self.layers))

    def _log_probs(self, h_NH: Tensor, *, from_layer: int) -> Tensor:
        for layer in self._layers[from_layer:]:
            h_NH = layer(h_NH)
        return torch.log_softmax(self.output(h_NH), dim=-1)

    def _layer_index(self, module: str) -> int:
        if module not in self.split_points:
            raise self._cannot_be_divided(module)
        return self.adaptation_sites.index(module)

    def _draw_weights(self, generator: torch.Generator) -> None:
        gain = _GAINS[self.config.activation]
        linears = [layer.get_submodule("linear") for layer in self.layers] + [self.output]
        gains = [1.0] + [gain] * (len(linears) - 2) + [1.0]
        for linear, layer_gain in zip(linears, gains, strict=True):
            assert isinstance(linear, nn.Linear)
            nn.init.xavier_uniform_(linear.weight, gain=layer_gain, generator=generator)
            nn.init.zeros_(linear.bias)
            if self.config.activation is Activation.sigmoid and linear is not linears[0]:
                linear.bias.data -= _SIGMOID_MEAN * linear.weight.data.sum(dim=1)


_PLAIN = {Dnn, nn.ModuleList, HiddenLayer, nn.Linear, nn.BatchNorm1d, nn.Dropout, *_ACTIVATIONS.values()}


def _is_plain(module: nn.Module) -> bool:
    touched = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module) in _PLAIN and not touched


def _splice(feats_BTF: Tensor, feat_lens_B: Tensor, context: int) -> Tensor:
    """Windows (B, T, W, F) around every frame; the first and last frames of an utterance are repeated outward."""
    num_utterances, num_frames, _ = feats_BTF.shape
    offsets_W = torch.arange(-context, context + 1, device=feats_BTF.device)
    frames_TW = torch.arange(num_frames, device=feats_BTF.device)[:, None] + offsets_W
    last_B11 = (feat_lens_B - 1)[:, None, None]
    frames_BTW = torch.minimum(frames_TW[None], last_B11).clamp(min=0)
    rows_B11 = torch.arange(num_utterances, device=feats_BTF.device)[:, None, None]
    return feats_BTF[rows_B11, frames_BTW]
