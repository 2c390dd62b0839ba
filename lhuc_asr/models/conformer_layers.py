"""What a Conformer is made of: the front-end, and a layer's feed-forward modules, attention and convolution."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lhuc_asr.models.conformer_config import STRIDES, ConformerConfig
from lhuc_asr.models.splicing import is_speech
from lhuc_asr.models.time_delay import FrameNorm

# B utterances, T frames, T' outputs, F features, C channels, D numbers of the stream, H hidden units,
# N heads of E numbers


class FrontEnd(nn.Module):
    """Two convolutions over time and frequency that leave out frames and bands, and a linear layer.

    Attributes:
        reach: frames of its input that each convolution sees (before, after) the one of its output.

    Source: Gulati et al. 2020 (arXiv:2005.08100), figure 1 ("convolution subsampling").
    """

    def __init__(self, feat_dim: int, config: ConformerConfig) -> None:
        super().__init__()
        self.strides = STRIDES[config.subsampling]
        self.reach = _reach(3, config)
        channels = (1, config.num_channels, config.num_channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels[layer], channels[layer + 1], 3, stride=(stride, 2), padding=(0, 1))
            for layer, stride in enumerate(self.strides)
        )
        self.linear = nn.Linear(config.num_channels * math.ceil(feat_dim / 4), config.stream_dim)

    def forward(self, feats_BTF: Tensor, lens_B: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, T, F) and (B,) frames -> (B, T', D) and (B,) outputs; T' = T / subsampling, rounded up."""
        x_BCTF = feats_BTF[:, None]
        for conv, stride in zip(self.convs, self.strides, strict=True):
            x_BCTF = functional.pad(_silenced(x_BCTF, lens_B, time_dim=2), (0, 0, *self.reach))
            x_BCTF = functional.relu(conv(x_BCTF))
            lens_B = None if lens_B is None else (lens_B + stride - 1).div(stride, rounding_mode="floor")
        return self.joined(x_BCTF), lens_B

    def joined(self, x_BCTF: Tensor) -> Tensor:
        """(B, C, T', F') of the last convolution -> (B, T', D)."""
        x_BTD: Tensor = self.linear(x_BCTF.transpose(1, 2).flatten(2))
        return x_BTD


class FeedForward(nn.Module):
    """Norm, hidden units, Swish, and back to the stream; the output of ``activation`` is the hidden units.

    Source: Gulati et al. 2020, section 2.3.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.stream_dim)
        self.linear = nn.Linear(config.stream_dim, config.hidden_dim)
        self.activation = nn.SiLU()
        self.dropout = nn.Dropout(config.dropout)
        self.back = nn.Linear(config.hidden_dim, config.stream_dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T', D) -> (B, T', D)."""
        h_BTH = self.activation(self.linear(self.norm(x_BTD)))
        y_BTD: Tensor = self.dropout(self.back(self.dropout(h_BTH)))
        return y_BTD


class SelfAttention(nn.Module):
    """Norm, and attention with several heads from every frame to all frames of the utterance, or of some chunks.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2; the norm in front is that of Gulati et al. 2020,
    section 2.1; the chunks are those of Chen et al. 2021 (arXiv:2010.11395), section 3.1.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.chunk_size, self.num_left_chunks = config.chunk_size, config.num_left_chunks
        self.norm = nn.LayerNorm(config.stream_dim)
        self.query_key_value = nn.Linear(config.stream_dim, 3 * config.stream_dim)
        self.back = nn.Linear(config.stream_dim, config.stream_dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, lens_B: Tensor | None) -> Tensor:
        """(B, T', D) -> (B, T', D); nothing is taken from beyond ``lens_B`` (B,) frames."""
        query, key, value = self.heads(x_BTD)
        return self.attended(query, key, value, self._mask(x_BTD, lens_B))

    def heads(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, T', E) queries, keys and values of N heads."""
        parts = self.query_key_value(self.norm(x_BTD)).chunk(3, dim=-1)
        query, key, value = (part_BTD.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part_BTD in parts)
        return query, key, value

    def attended(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """What all heads took, (B, T', D); ``mask`` is true where a query (row) may look at a key (column)."""
        share = self.dropout.p if self.training else 0.0
        y_BNTE = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=share)
        y_BTD: Tensor = self.dropout(self.back(y_BNTE.transpose(1, 2).flatten(2)))
        return y_BTD

    def _mask(self, x_BTD: Tensor, lens_B: Tensor | None) -> Tensor | None:
        num_frames = x_BTD.shape[1]
        speech = None if lens_B is None else is_speech(lens_B.clamp(min=1), num_frames)[:, None, None]
        if not self.chunk_size:
            return speech
        near = _is_near(num_frames, self.chunk_size, self.num_left_chunks, x_BTD.device)
        itself = torch.eye(num_frames, dtype=torch.bool, device=x_BTD.device)  # padding sees at least one frame
        return near if speech is None else near & speech | itself


class Convolution(nn.Module):
    """Norm, gate, a convolution over time for each channel, normalisation over the minibatch, Swish.

    Attributes:
        reach: frames that the convolution sees (before, after) the one of its output.

    Source: Gulati et al. 2020, section 2.2.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        dim, size = config.stream_dim, config.kernel_size
        self.reach = _reach(size, config)
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * dim)
        self.conv = nn.Conv1d(dim, dim, size, groups=dim)
        self.frame_norm = FrameNorm(dim)
        self.back = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, lens_B: Tensor | None) -> Tensor:
        """(B, T', D) -> (B, T', D); an utterance is silent beyond ``lens_B`` (B,) frames."""
        gated_BDT = _silenced(self.gated(x_BTD), lens_B, time_dim=2)
        return self.convolved(functional.pad(gated_BDT, self.reach), lens_B)

    def gated(self, x_BTD: Tensor) -> Tensor:
        """What the convolution sees, (B, D, T')."""
        return functional.glu(self.gate(self.norm(x_BTD)), dim=-1).transpose(1, 2)

    def convolved(self, gated_BDT: Tensor, lens_B: Tensor | None = None) -> Tensor:
        """(B, D, T' and its neighbours) -> (B, T', D)."""
        h_BTD = functional.silu(self.frame_norm(self.conv(gated_BDT), lens_B)).transpose(1, 2)
        y_BTD: Tensor = self.dropout(self.back(h_BTD))
        return y_BTD


class ConformerLayer(nn.Module):
    """Half a feed-forward step, attention, convolution, and another half step, each added to the stream.

    Source: Gulati et al. 2020, section 2.4, eq. 1.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.feed_forward1 = FeedForward(config)
        self.attention = SelfAttention(config)
        self.convolution = Convolution(config)
        self.feed_forward2 = FeedForward(config)
        self.norm = nn.LayerNorm(config.stream_dim)

    def forward(self, x_BTD: Tensor, lens_B: Tensor | None) -> Tensor:
        """(B, T', D) -> (B, T', D)."""
        x_BTD = x_BTD + 0.5 * self.feed_forward1(x_BTD)
        x_BTD = x_BTD + self.attention(x_BTD, lens_B)
        x_BTD = x_BTD + self.convolution(x_BTD, lens_B)
        y_BTD: Tensor = self.norm(x_BTD + 0.5 * self.feed_forward2(x_BTD))
        return y_BTD


def _reach(size: int, config: ConformerConfig) -> tuple[int, int]:
    """Frames that a convolution of so many sees before and after the middle one, or the last one."""
    return (size - 1, 0) if config.is_causal else (size // 2, size // 2)


def _is_near(num_frames: int, chunk_size: int, num_left: int, device: torch.device) -> Tensor:
    """(T, T) true where the frame of a row may look at that of a column: in its own chunk, or in some before it."""
    chunks_T = torch.arange(num_frames, device=device) // chunk_size
    back_TT = chunks_T[:, None] - chunks_T
    return (back_TT >= 0) & (back_TT <= num_left)


def _silenced(x: Tensor, lens_B: Tensor | None, *, time_dim: int) -> Tensor:
    """(B, ..., T, ...) with zeros in the place of padding."""
    if lens_B is None:
        return x
    shape = [size if dim in (0, time_dim) else 1 for dim, size in enumerate(x.shape)]
    return x.masked_fill(~is_speech(lens_B, x.shape[time_dim]).reshape(shape), 0.0)
