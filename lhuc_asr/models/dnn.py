"""The paper's acoustic model: a stack of sigmoid layers over a window of frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import cast

import torch
from torch import Tensor, nn

from lhuc_asr.models.layered import Layer, LayeredConfig, LayeredNetwork
from lhuc_asr.models.network import NetworkKind, PlainLayer


class Activation(Enum):
    """Non-linearity of the hidden layers."""

    sigmoid = "sigmoid"
    tanh = "tanh"
    relu = "relu"


ACTIVATIONS: dict[Activation, type[nn.Module]] = {
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
class DnnConfig(LayeredConfig):
    """Shape of the network: `LayeredConfig`, and what its units are.

    Attributes:
        activation: non-linearity of the hidden layers.
        batch_norm: normalise the input of each non-linearity over the minibatch.
    """

    kind: NetworkKind = NetworkKind.dnn
    activation: Activation = Activation.sigmoid
    batch_norm: bool = False


class HiddenLayer(Layer):
    """One fully connected layer."""

    def __init__(self, num_inputs: int, config: DnnConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, config.hidden_dim)
        self.norm = nn.BatchNorm1d(config.hidden_dim) if config.batch_norm else None
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)

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


class Dnn(LayeredNetwork[DnnConfig]):
    """Fully connected network over spliced frames, with a softmax over tied states.

    Example:
        >>> network = Dnn(DnnConfig(num_layers=2, hidden_dim=8), feat_dim=40, num_outputs=3)
        >>> network(torch.zeros(1, 20, 40)).shape
        torch.Size([1, 20, 3])
        >>> network.adaptation_sites
        ('layers.0.activation', 'layers.1.activation')

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section V: 6 x 2048 sigmoid units, 11 frames.
    """

    def _hidden_layer(self, num_inputs: int) -> Layer:
        return HiddenLayer(num_inputs, self.config)

    def _draw_weights(self, generator: torch.Generator) -> None:
        draw_weights(self._layers, self.output, self.config.activation, generator)

    def plain_layers_above(self, module: str) -> tuple[PlainLayer, ...] | None:
        """The layers above; None in training mode, or where somebody has exchanged a module or hooked into one."""
        layers = cast("list[HiddenLayer]", self._layers[self._layer_index(module) + 1 :])
        if self.training or not all(_is_plain(part) for part in self.modules()):
            return None
        names = self.adaptation_sites[len(self._layers) - len(layers) :]
        top = PlainLayer("output", self.output.weight.detach(), self.output.bias.detach())
        return (*(layer.plain(name) for layer, name in zip(layers, names, strict=True)), top)


def draw_weights(
    layers: Iterable[Layer], output: nn.Linear, activation: Activation, generator: torch.Generator
) -> None:
    """Draw the weights of layers with one linear function of each unit, bottom to top, and of the output.

    Source: see `_GAINS` and `_SIGMOID_MEAN`.
    """
    linears = [*(linear for layer in layers for linear in layer.linears), output]
    gains = [1.0] + [_GAINS[activation]] * (len(linears) - 2) + [1.0]
    for linear, gain in zip(linears, gains, strict=True):
        assert linear.bias is not None
        nn.init.xavier_uniform_(linear.weight, gain=gain, generator=generator)
        nn.init.zeros_(linear.bias)
        if activation is Activation.sigmoid and linear is not linears[0]:
            linear.bias.data -= _SIGMOID_MEAN * linear.weight.data.sum(dim=1)


_PLAIN = {Dnn, nn.ModuleList, HiddenLayer, nn.Linear, nn.BatchNorm1d, nn.Dropout, *ACTIVATIONS.values()}


def _is_plain(module: nn.Module) -> bool:
    touched = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module) in _PLAIN and not touched
