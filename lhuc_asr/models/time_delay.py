"""What time-delay networks share: layers that look a few frames around, whole utterances, windows and streams."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from lhuc_asr.errors import ConfigError
from lhuc_asr.models.network import AcousticNetwork, NetworkConfig, log_posteriors
from lhuc_asr.models.splicing import extend, is_speech, lens_or_all
from lhuc_asr.models.streaming import NetworkStream
from lhuc_asr.ranges import require_at_least


@dataclass(kw_only=True, slots=True)
class TimeDelayConfig(NetworkConfig):
    """What the shapes of these networks have in common.

    Attributes:
        hidden_dim: H, units of each hidden layer.
        dilations: for each layer d: it looks d frames back and d frames ahead; 0 is the frame t alone.
        subsampling: an output for every so-manieth frame only; 3 saves most where upper dilations are multiples of it.
    """

    hidden_dim: int = 512
    dilations: list[int]
    subsampling: int = 1

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        if not self.dilations or min(self.dilations) < 0:
            raise ConfigError(f"model.dilations must name 0 or more frames for each layer, got {list(self.dilations)}")
        require_at_least(1, self, "model", "hidden_dim", "subsampling")


Shape = TypeVar("Shape", bound=TimeDelayConfig)


class FrameNorm(nn.BatchNorm1d):
    """Batch normalisation whose statistics leave padding out.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), algorithm 1.
    """

    def forward(self, x_BHT: Tensor, lens_B: Tensor | None = None) -> Tensor:
        """(B, H, T) -> (B, H, T); beyond ``lens_B`` frames an utterance has padding, which training makes 0."""
        if lens_B is None or not self.training:
            return super().forward(x_BHT)
        x_BHT = x_BHT.float()
        is_speech_B1T = is_speech(lens_B, x_BHT.shape[2])[:, None].to(x_BHT.dtype)
        num_frames = lens_B.sum()
        mean_H1 = (x_BHT * is_speech_B1T).sum(dim=(0, 2))[:, None] / num_frames
        centred_BHT = (x_BHT - mean_H1) * is_speech_B1T
        variance_H1 = centred_BHT.square().sum(dim=(0, 2))[:, None] / num_frames
        self._remember(mean_H1[:, 0], variance_H1[:, 0], num_frames)
        scale_H1 = torch.rsqrt(variance_H1 + self.eps) * self.weight[:, None]
        return torch.addcmul(self.bias[:, None] * is_speech_B1T, centred_BHT, scale_H1)

    @torch.no_grad()
    def _remember(self, mean_H: Tensor, variance_H: Tensor, num_frames: Tensor) -> None:
        """Let the statistics for evaluation follow, the variance without bias, as torch does."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_H, self.momentum)
        self.running_var.lerp_(variance_H * (num_frames / (num_frames - 1).clamp(min=1)), self.momentum)


class TimeDelayLayer(nn.Module):
    """A layer that sees ``context`` frames to either side and gives so many fewer at both ends.

    Attributes:
        context: counted in the frames that the layer gets, which may be every third one.
    """

    context: int

    def forward(self, x_BDT: Tensor, lens_B: Tensor | None = None) -> Tensor:
        """(B, D, T) -> (B, H, T - 2 * context); ``lens_B`` (B,) counts true frames of what the layer gives."""
        raise NotImplementedError

    def draw(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""
        raise NotImplementedError


class TimeDelayNetwork(AcousticNetwork, Generic[Shape]):
    """A stack of time-delay layers with a softmax over tied states on top.

    Each kind of network says what the layers and the output are.

    Where outputs are wanted for every third frame only, the lower layers work at the full rate, and the upper ones,
    from the first on above which all look at multiples of three, at a third of it.

    Attributes:
        layers: `TimeDelayLayer` each.
        output: (B, H, T) -> (B, V, T), logits.
        thinned_below: number of the layer below which frames are left out.
    """

    config: Shape
    layers: nn.ModuleList
    output: nn.Module
    thinned_below: int

    def __init__(self, config: Shape, feat_dim: int, num_outputs: int, *, seed: int = 0) -> None:
        """Draw the initial weights; the same seed gives the same network.

        Args:
            config: depth, width and context of the layers.
            feat_dim: F, features of one frame.
            num_outputs: V, tied states.
            seed: of the initial weights.
        """
        super().__init__()
        self.config = config
        self.context = sum(config.dilations)
        self.subsampling = config.subsampling
        self.thinned_below = thinned_below(config.dilations, config.subsampling)
        self.feat_dim = feat_dim
        self.num_outputs = num_outputs
        with torch.random.fork_rng(devices=[]):
            self.layers = nn.ModuleList(self._stack(own_dilations(config.dilations, config.subsampling)))
            self.output = self._top()
        generator = torch.Generator().manual_seed(seed)
        for layer in self.time_delay_layers:
            layer.draw(generator)
        self._draw_output(generator)

    @abstractmethod
    def _stack(self, dilations: Sequence[int]) -> list[TimeDelayLayer]:
        """The layers, bottom to top, with their dilations, each counted in the frames that it gets."""

    @abstractmethod
    def _top(self) -> nn.Module:
        """The output."""

    @abstractmethod
    def _draw_output(self, generator: torch.Generator) -> None:
        """Draw the initial weights of the output."""

    @property
    def adaptation_sites(self) -> tuple[str, ...]:
        """Names of the modules whose outputs are hidden units, bottom to top."""
        return tuple(f"layers.{index}.activation" for index in range(len(self.layers)))

    def forward(self, feats_BTF: Tensor, feat_lens: Tensor | None = None) -> Tensor:
        """Log-probabilities of whole utterances; beyond its ends an utterance is thought to stand still.

        Args:
            feats_BTF: (B, T, F) normalised features.
            feat_lens: (B,) frames of each utterance; what lies beyond is padding and has no effect on them, nor in
                training on statistics.

        Returns:
            (B, T', V) natural logarithms of the states' posterior probabilities, T' = T / subsampling, rounded up.
        """
        num_utterances, num_frames, _ = feats_BTF.shape
        if num_frames == 0:
            return feats_BTF.new_zeros(num_utterances, 0, self.num_outputs)
        lens_B = lens_or_all(feat_lens, feats_BTF)
        frames_BTF = extend(feats_BTF, lens_B, self.context)
        inner_B = torch.where(lens_B > 0, lens_B + 2 * self.context, 0) if feat_lens is not None else None
        return self._log_probs(frames_BTF.transpose(1, 2), inner_B)

    def forward_windows(self, windows_NWF: Tensor) -> Tensor:
        """Log-probabilities of the middle frames of windows.

        Args:
            windows_NWF: (N, W, F) normalised features, W = 2 * context + 1.

        Returns:
            (N, V) natural logarithms of the states' posterior probabilities.
        """
        return self._log_probs(windows_NWF.transpose(1, 2)).squeeze(1)

    @property
    def can_stream(self) -> bool:
        """Layer by layer."""
        return True

    def stream(self) -> TimeDelayStream:
        """Begin to recognise speech as it comes."""
        return TimeDelayStream(self)

    @property
    def time_delay_layers(self) -> list[TimeDelayLayer]:
        """The layers, bottom to top."""
        return cast("list[TimeDelayLayer]", list(self.layers))

    def logits_to_log_probs(self, h_BHT: Tensor) -> Tensor:
        """(B, H, T) of the highest layer -> (B, T, V)."""
        return log_posteriors(self.output(h_BHT).transpose(1, 2))

    def _log_probs(self, x_BDT: Tensor, lens_B: Tensor | None = None, *, from_layer: int = 0) -> Tensor:
        """From the input of a layer to the top; ``lens_B`` counts the true frames of that input."""
        for index, layer in enumerate(self.time_delay_layers[from_layer:], start=from_layer):
            x_BDT, lens_B = self._thinned(index, x_BDT, lens_B)
            lens_B = None if lens_B is None else (lens_B - 2 * layer.context).clamp(min=0)
            x_BDT = layer(x_BDT, lens_B)
        x_BDT, _ = self._thinned(len(self.layers), x_BDT, lens_B)
        return self.logits_to_log_probs(x_BDT)

    def _thinned(self, index: int, x_BDT: Tensor, lens_B: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The input of a layer without the frames that neither it nor any layer above looks at."""
        if index != self.thinned_below or self.subsampling == 1:
            return x_BDT, lens_B
        return x_BDT[:, :, :: self.subsampling], None if lens_B is None else self.output_lens(lens_B)


class TimeDelayStream(NetworkStream[TimeDelayNetwork[Any]]):
    """Utterances as they come, some frames at a time; every layer remembers the frames that it needs again.

    An output comes as soon as ``context`` frames after it are known.

    Args:
        network: in evaluation mode.

    Raises:
        ModelError: the network is in training mode.

    Example:
        >>> from lhuc_asr.models.tdnn import Tdnn, TdnnConfig
        >>> network = Tdnn(TdnnConfig(hidden_dim=8, dilations=[1, 2]), feat_dim=4, num_outputs=3).eval()
        >>> stream = network.stream()
        >>> [tuple(part.shape) for part in (stream.accept(torch.zeros(1, 5, 4)), stream.finish())]
        [(1, 2, 3), (1, 3, 3)]
    """

    def __init__(self, network: TimeDelayNetwork[Any]) -> None:
        super().__init__(network)
        self._kept: list[Tensor | None] = [None] * len(network.layers)
        self._num_thinned = 0
        self._last: Tensor | None = None

    def _accept(self, feats_BTF: Tensor) -> Tensor:
        if self._last is None:
            feats_BTF = torch.cat([feats_BTF[:, :1].expand(-1, self.network.context, -1), feats_BTF], dim=1)
        self._last = feats_BTF[:, -1:]
        return self._advance(feats_BTF)

    def _finish(self) -> Tensor:
        assert self._last is not None
        return self._advance(self._last.expand(-1, self.network.context, -1))

    def _advance(self, feats_BTF: Tensor) -> Tensor:
        x_BDT = feats_BTF.transpose(1, 2)
        for index, layer in enumerate(self.network.time_delay_layers):
            x_BDT = self._with_kept(index, self._thinned(index, x_BDT), 2 * layer.context)
            if x_BDT.shape[2] <= 2 * layer.context:
                return self._nothing(feats_BTF)
            x_BDT = layer(x_BDT)
        x_BDT = self._thinned(len(self.network.layers), x_BDT)
        return self.network.logits_to_log_probs(x_BDT) if x_BDT.shape[2] else self._nothing(feats_BTF)

    def _with_kept(self, index: int, x_BDT: Tensor, num_kept: int) -> Tensor:
        """New input of a layer behind what it remembers; the end is remembered for the next time."""
        before = self._kept[index]
        x_BDT = x_BDT if before is None else torch.cat([before, x_BDT], dim=2)
        self._kept[index] = x_BDT[:, :, max(0, x_BDT.shape[2] - num_kept) :]
        return x_BDT

    def _thinned(self, index: int, x_BDT: Tensor) -> Tensor:
        if index != self.network.thinned_below:
            return x_BDT
        first = -self._num_thinned % self.network.subsampling
        self._num_thinned += x_BDT.shape[2]
        return x_BDT[:, :, first :: self.network.subsampling]


def thinned_below(dilations: Sequence[int], subsampling: int) -> int:
    """Number of the lowest layer from which on all look at multiples of ``subsampling`` frames."""
    uneven = [index for index, dilation in enumerate(dilations) if dilation % subsampling]
    return uneven[-1] + 1 if uneven else 0


def own_dilations(dilations: Sequence[int], subsampling: int) -> list[int]:
    """The dilation of each layer, counted in the frames that it gets."""
    first = thinned_below(dilations, subsampling)
    return [dilation // subsampling if index >= first else dilation for index, dilation in enumerate(dilations)]
