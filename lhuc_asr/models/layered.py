"""Networks that are a stack of layers over a window of frames, and can be divided above any of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from lhuc_asr.models.network import AcousticNetwork, NetworkConfig, log_posteriors
from lhuc_asr.models.splicing import lens_or_all, splice
from lhuc_asr.models.streaming import WindowStream
from lhuc_asr.ranges import require_at_least, require_share_below_one


@dataclass(kw_only=True, slots=True)
class LayeredConfig(NetworkConfig):
    """What the shapes of these networks have in common; 6 layers of 2048 are the paper's.

    Attributes:
        num_layers: fully connected layers.
        hidden_dim: H, units of each of them.
        context: frames on either side of the middle one that the network sees.
        dropout: share of the hidden units' outputs that training sets to 0.

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section V.
    """

    num_layers: int = 6
    hidden_dim: int = 512
    context: int = 5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        require_at_least(1, self, "model", "num_layers", "hidden_dim")
        require_at_least(0, self, "model", "context")
        require_share_below_one(self, "model", "dropout")


Shape = TypeVar("Shape", bound=LayeredConfig)


class Layer(nn.Module):
    """One hidden layer; the output of ``activation`` is what its units contribute to the layer above.

    Attributes:
        activation: the last step whose output is hidden units.
        dropout: what training leaves out of them.
    """

    activation: nn.Module
    dropout: nn.Module

    def forward(self, x_ND: Tensor) -> Tensor:
        """(N, D) -> (N, H)."""
        return self.pass_on(self.activate(x_ND))

    def activate(self, x_ND: Tensor) -> Tensor:
        """(N, D) -> (N, H) or (N, C, S), the output of ``activation``."""
        raise NotImplementedError

    @property
    def linears(self) -> list[nn.Linear | nn.Conv1d]:
        """The linear functions, or filters, of its units: one of each unit, or as many as it chooses among."""
        return [part for part in self.children() if isinstance(part, nn.Linear | nn.Conv1d)]

    def pass_on(self, h_NH: Tensor) -> Tensor:
        """What the layer above gets of the units, (N, H)."""
        passed_NH: Tensor = self.dropout(h_NH)
        return passed_NH


class LayeredNetwork(AcousticNetwork, Generic[Shape]):
    """A stack of layers from the spliced frames to a softmax over tied states.

    Each kind of network says what a layer is and how weights are drawn.

    Attributes:
        layers: `Layer` each; the lowest gets (N, W * F), earliest frame first.
        output: gives the logits.
    """

    config: Shape
    layers: nn.ModuleList
    output: nn.Linear

    def __init__(self, config: Shape, feat_dim: int, num_outputs: int, *, seed: int = 0) -> None:
        """Draw the initial weights; the same seed gives the same network.

        Args:
            config: depth, width and kind of the layers.
            feat_dim: F, features of one frame.
            num_outputs: V, tied states.
            seed: of the initial weights.

        Raises:
            ConfigError: the features do not fit the lowest layer.
        """
        super().__init__()
        self.config = config
        self.context = config.context
        self.feat_dim = feat_dim
        self.num_outputs = num_outputs
        with torch.random.fork_rng(devices=[]):
            self.layers = nn.ModuleList(self._stack(2 * config.context + 1))
            self.output = nn.Linear(config.hidden_dim, num_outputs)
        self._draw_weights(torch.Generator().manual_seed(seed))

    def _stack(self, window: int) -> list[Layer]:
        """The layers above windows of so many frames, bottom to top."""
        return self._fully_connected(window * self.feat_dim)

    def _fully_connected(self, num_inputs: int) -> list[Layer]:
        dims = [num_inputs] + [self.config.hidden_dim] * (self.config.num_layers - 1)
        return [self._hidden_layer(dim) for dim in dims]

    @abstractmethod
    def _hidden_layer(self, num_inputs: int) -> Layer:
        """A fully connected layer."""

    @abstractmethod
    def _draw_weights(self, generator: torch.Generator) -> None:
        """Draw the initial weights of the layers and of the output."""

    @property
    def adaptation_sites(self) -> tuple[str, ...]:
        """Names of the modules whose outputs are hidden units, bottom to top."""
        return tuple(f"layers.{index}.activation" for index in range(len(self.layers)))

    @property
    def learns_from_frames(self) -> bool:
        """It works on windows, also in whole utterances."""
        return True

    def forward(self, feats_BTF: Tensor, feat_lens: Tensor | None = None) -> Tensor:
        """Log-probabilities of whole utterances; beyond its ends an utterance is thought to stand still.

        Args:
            feats_BTF: (B, T, F) normalised features.
            feat_lens: (B,) frames of each utterance; what lies beyond is padding and has no effect on them.

        Returns:
            (B, T, V) natural logarithms of the states' posterior probabilities.
        """
        num_utterances, num_frames, _ = feats_BTF.shape
        windows_BTWF = splice(feats_BTF, lens_or_all(feat_lens, feats_BTF), self.context)
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
    def can_stream(self) -> bool:
        """A window at a time."""
        return True

    def stream(self) -> WindowStream:
        """Begin to recognise speech as it comes."""
        return WindowStream(self)

    @property
    def split_points(self) -> tuple[str, ...]:
        """The units of every layer; a module that somebody put in a layer's place is none."""
        sites = zip(self.adaptation_sites, self.layers, strict=True)
        return tuple(name for name, layer in sites if isinstance(layer, Layer))

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
        return self._log_probs(self._layers[index].pass_on(output), from_layer=index + 1)

    @property
    def _layers(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))

    def _log_probs(self, h_NH: Tensor, *, from_layer: int) -> Tensor:
        for layer in self._layers[from_layer:]:
            h_NH = layer(h_NH)
        return log_posteriors(self.output(h_NH))

    def _layer_index(self, module: str) -> int:
        if module not in self.split_points:
            raise self._cannot_be_divided(module)
        return self.adaptation_sites.index(module)
