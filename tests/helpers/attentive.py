"""A small network of attention, which sees whole utterances and gives an output for every third frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from lhuc_asr.models.network import AcousticNetwork


class Attentive(AcousticNetwork):
    """Three frames at a time, attention over all of them, a convolution over time, and rows without any time.

    Its units lie in all the ways that there are: (B, T, H), (B, H, T), and (B * T, H).
    """

    adaptation_sites = ("front", "gate", "conv", "rows.1")
    has_windows = False
    subsampling = 3

    def __init__(self, feat_dim: int, num_outputs: int, *, seed: int = 0) -> None:
        super().__init__()
        self.feat_dim, self.num_outputs = feat_dim, num_outputs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.front = nn.Linear(3 * feat_dim, 8)
            self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
            self.gate = nn.Sequential(nn.Linear(8, 12), nn.GLU())
            self.conv = nn.Conv1d(6, 8, 3, padding=1)
            self.norm = nn.BatchNorm1d(8)
            self.rows = nn.Sequential(nn.Linear(8, 7), nn.SiLU(), nn.Dropout(0.5), nn.Linear(7, num_outputs))
        for weights in (module.weight for module in self.modules() if isinstance(module, (nn.Linear, nn.Conv1d))):
            weights.data *= 3  # so that units differ and matter

    def forward(self, feats_BTF: Tensor, feat_lens: Tensor | None = None) -> Tensor:
        """(B, T, F) -> (B, T', V)."""
        lens_B = torch.full((len(feats_BTF),), feats_BTF.shape[1]) if feat_lens is None else feat_lens
        is_speech_BT = torch.arange(feats_BTF.shape[1]) < lens_B[:, None]
        feats_BTF = pad(feats_BTF.masked_fill(~is_speech_BT[:, :, None], 0.0), (0, 0, 0, -feats_BTF.shape[1] % 3))
        x_BTH = self.front(feats_BTF.unflatten(1, (-1, 3)).flatten(2)).relu()
        is_padding_BT = torch.arange(x_BTH.shape[1]) >= self.output_lens(lens_B)[:, None]
        seen_BTH, _ = self.attention(x_BTH, x_BTH, x_BTH, key_padding_mask=is_padding_BT, need_weights=False)
        h_BHT = self.gate(x_BTH + seen_BTH).masked_fill(is_padding_BT[:, :, None], 0.0).transpose(1, 2)
        h_BTH = self.norm(self.conv(h_BHT)).transpose(1, 2)
        return torch.log_softmax(self.rows(h_BTH.flatten(0, 1)).unflatten(0, h_BTH.shape[:2]), dim=-1)

    def forward_windows(self, windows_NWF: Tensor) -> Tensor:
        """There are none."""
        raise NotImplementedError
