"""Conformer: attention sees the whole utterance, convolutions see what is near, feed-forward layers hold the units."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lhuc_asr.errors import ModelError
from lhuc_asr.models.conformer_config import ConformerConfig, Positions
from lhuc_asr.models.conformer_layers import ConformerLayer, FrontEnd
from lhuc_asr.models.network import log_posteriors
from lhuc_asr.models.streaming import NetworkStream
from lhuc_asr.models.whole_utterances import WholeUtteranceNetwork

# B utterances, T frames, T' outputs, F features, C channels, D numbers of the stream, N heads of E numbers, V states


class Conformer(WholeUtteranceNetwork):
    """Conformer with a softmax over tied states; the hidden units are those of the feed-forward modules.

    Example:
        >>> config = ConformerConfig(num_layers=1, stream_dim=8, hidden_dim=16, num_heads=2, subsampling=3)
        >>> network = Conformer(config, feat_dim=40, num_outputs=5)
        >>> network(torch.zeros(2, 20, 40), torch.tensor([20, 7])).shape
        torch.Size([2, 7, 5])
        >>> network.adaptation_sites
        ('layers.0.feed_forward1.activation', 'layers.0.feed_forward2.activation')

    Source: Gulati et al. 2020 (arXiv:2005.08100), section 2; positions are those of the Transformer (Vaswani et al.
    2017, section 3.5) in place of the relative ones.
    """

    config: ConformerConfig

    def __init__(self, config: ConformerConfig, feat_dim: int, num_outputs: int, *, seed: int = 0) -> None:
        """Draw the initial weights; the same seed gives the same network.

        Args:
            config: depth and widths of the layers.
            feat_dim: F, features of one frame.
            num_outputs: V, tied states.
            seed: of the initial weights.
        """
        super().__init__()
        self.config = config
        self.feat_dim = feat_dim
        self.num_outputs = num_outputs
        self.subsampling = config.subsampling
        with torch.random.fork_rng(devices=[]):
            self.front_end = FrontEnd(feat_dim, config)
            self.dropout = nn.Dropout(config.dropout)
            self.layers = nn.ModuleList(ConformerLayer(config) for _ in range(config.num_layers))
            self.output = nn.Linear(config.stream_dim, num_outputs)
        _draw_weights(self, torch.Generator().manual_seed(seed))

    @property
    def adaptation_sites(self) -> tuple[str, ...]:
        """Names of the modules whose outputs are hidden units, bottom to top."""
        parts = ("feed_forward1", "feed_forward2")
        return tuple(f"layers.{index}.{part}.activation" for index in range(len(self.layers)) for part in parts)

    def forward(self, feats_BTF: Tensor, feat_lens: Tensor | None = None) -> Tensor:
        """Log-probabilities of whole utterances; beyond its ends an utterance is thought to be silent.

        Args:
            feats_BTF: (B, T, F) normalised features.
            feat_lens: (B,) frames of each utterance; what lies beyond is padding and has no effect on them, nor in
                training on statistics.

        Returns:
            (B, T', V) natural logarithms of the states' posterior probabilities, T' = T / subsampling, rounded up.
        """
        if feats_BTF.shape[1] == 0:
            return feats_BTF.new_zeros(len(feats_BTF), 0, self.num_outputs)
        x_BTD, lens_B = self.front_end(feats_BTF, None if feat_lens is None else feat_lens.to(feats_BTF.device))
        if self.config.positions is Positions.sinusoidal:
            x_BTD = x_BTD + sinusoids(x_BTD)
        x_BTD = self.dropout(x_BTD)
        for layer in self.layers:
            x_BTD = layer(x_BTD, lens_B)
        return log_posteriors(self.output(x_BTD))

    @property
    def can_stream(self) -> bool:
        """With chunks."""
        return self.config.is_causal

    def stream(self) -> ConformerStream:
        """Begin to recognise speech as it comes.

        Raises:
            ModelError: the network sees whole utterances, or is in training mode.
        """
        return ConformerStream(self)


class ConformerStream(NetworkStream[Conformer]):
    """Utterances as they come, some frames at a time; outputs come chunk by chunk.

    Args:
        network: with chunks (``chunk_size``), in evaluation mode.

    Raises:
        ModelError: the network sees whole utterances, or is in training mode.

    Example:
        >>> shape = ConformerConfig(num_layers=1, stream_dim=4, hidden_dim=4, num_heads=1, chunk_size=2, subsampling=3)
        >>> stream = Conformer(shape, feat_dim=8, num_outputs=5).eval().stream()
        >>> [tuple(part.shape) for part in (stream.accept(torch.zeros(1, 16, 8)), stream.finish())]
        [(1, 4, 5), (1, 2, 5)]
    """

    def __init__(self, network: Conformer) -> None:
        if not network.config.is_causal:
            raise ModelError("a Conformer that sees whole utterances cannot follow a stream: train it with chunk_size")
        super().__init__(network)
        self._chunk_frames = network.config.chunk_size * network.subsampling
        self._waiting: Tensor | None = None
        self._kept: dict[str, Tensor] = {}
        self._num_outputs = 0

    def _accept(self, feats_BTF: Tensor) -> Tensor:
        frames_BTF = feats_BTF if self._waiting is None else torch.cat([self._waiting, feats_BTF], dim=1)
        num_ready = frames_BTF.shape[1] // self._chunk_frames * self._chunk_frames
        self._waiting = frames_BTF[:, num_ready:]
        chunks = torch.split(frames_BTF[:, :num_ready], self._chunk_frames, dim=1) if num_ready else ()
        return torch.cat([self._nothing(feats_BTF), *map(self._advance, chunks)], dim=1)

    def _finish(self) -> Tensor:
        assert self._waiting is not None
        return self._advance(self._waiting) if self._waiting.shape[1] else self._nothing(self._waiting)

    def _advance(self, feats_BTF: Tensor) -> Tensor:
        """One chunk, from frames to log-probabilities."""
        x_BTD = self._front(feats_BTF)
        if self.network.config.positions is Positions.sinusoidal:
            x_BTD = x_BTD + sinusoids(x_BTD, self._num_outputs)
        self._num_outputs += x_BTD.shape[1]
        for index, layer in enumerate(cast("list[ConformerLayer]", list(self.network.layers))):
            x_BTD = x_BTD + 0.5 * layer.feed_forward1(x_BTD)
            x_BTD = x_BTD + self._attention(index, layer, x_BTD)
            x_BTD = x_BTD + self._convolution(index, layer, x_BTD)
            x_BTD = layer.norm(x_BTD + 0.5 * layer.feed_forward2(x_BTD))
        return log_posteriors(self.network.output(x_BTD))

    def _front(self, feats_BTF: Tensor) -> Tensor:
        front, x_BCTF = self.network.front_end, feats_BTF[:, None]
        for index, conv in enumerate(cast("list[nn.Conv2d]", list(front.convs))):
            x_BCTF = functional.relu(conv(self._behind(f"front {index}", x_BCTF, front.reach[0])))
        return front.joined(x_BCTF)

    def _attention(self, index: int, layer: ConformerLayer, x_BTD: Tensor) -> Tensor:
        config, attention = self.network.config, layer.attention
        num_kept = config.num_left_chunks * config.chunk_size
        query, key, value = attention.heads(x_BTD)
        key, value = (
            self._behind(f"{name} {index}", new_BNTE, num_kept, padded=False)
            for name, new_BNTE in (("keys", key), ("values", value))
        )
        return attention.attended(query, key, value)

    def _convolution(self, index: int, layer: ConformerLayer, x_BTD: Tensor) -> Tensor:
        convolution = layer.convolution
        gated_BDT = convolution.gated(x_BTD)
        with_past = self._behind(f"gated {index}", gated_BDT[:, :, :, None], convolution.reach[0])
        return convolution.convolved(with_past.squeeze(3))

    def _behind(self, name: str, new_BXTY: Tensor, num_kept: int, *, padded: bool = True) -> Tensor:
        """New frames behind the last ones before them, of which silence (or nothing) stands at the beginning."""
        first = self._kept.get(name)
        if first is None:
            num_before = num_kept if padded else 0
            first = new_BXTY.new_zeros(*new_BXTY.shape[:2], num_before, new_BXTY.shape[3])
        all_BXTY = torch.cat([first, new_BXTY], dim=2)
        self._kept[name] = all_BXTY[:, :, max(0, all_BXTY.shape[2] - num_kept) :]
        return all_BXTY


def sinusoids(x_BTD: Tensor, first: int = 0) -> Tensor:
    """(T, D) of the frames from ``first`` on, at wavelengths between 2 pi and 10,000 times 2 pi frames.

    First the sines of D / 2 wavelengths, then their cosines.

    Source: Vaswani et al. 2017, section 3.5.
    """
    _, num_frames, dim = x_BTD.shape
    half = (dim + 1) // 2
    rates = 10000 ** (-torch.arange(half, device=x_BTD.device) / half)
    angles = torch.arange(first, first + num_frames, device=x_BTD.device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim].to(x_BTD.dtype)


def _draw_weights(network: Conformer, generator: torch.Generator) -> None:
    """Draw a stream that keeps its size, and steps along it with a third of the variance that would keep theirs.

    With more, the many steps that are added up drown the stream, and the network learns several times slower. The
    convolutions at the bottom stand below ReLU (He et al. 2015, arXiv:1502.01852, eq. 10).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif module is network.front_end.linear:
            nn.init.kaiming_normal_(network.front_end.linear.weight, nonlinearity="linear", generator=generator)
        elif isinstance(module, (nn.Linear, nn.Conv1d)):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and module.bias is not None:
            nn.init.zeros_(module.bias)
