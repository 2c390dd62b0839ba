"""A small network that learns to tell speakers apart, and whose lower part tells voices apart whom it has not met.

Shape suffixes: B stretches of speech, T frames, F features, H units of a frame layer, E numbers of an embedding,
S speakers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lhuc_asr.errors import ConfigError
from lhuc_asr.models.network import AcousticNetwork, log_posteriors
from lhuc_asr.models.tdnn import TdnnLayer
from lhuc_asr.ranges import require_at_least, require_positive
from lhuc_asr.training.loop import TrainingConfig
from lhuc_asr.training.optimiser import OptimiserConfig, OptimiserKind
from lhuc_asr.training.schedule.newbob import NewbobConfig
from lhuc_asr.units import Seconds

_FLOOR = 1e-5
"""Least variance of a unit over time, so that a single frame has a gradient."""


def _training() -> TrainingConfig:
    return TrainingConfig(
        decay=0.05,
        go_back=False,
        optimiser=OptimiserConfig(kind=OptimiserKind.adam, weight_decay=0.01),
        newbob=NewbobConfig(initial_lr=0.003, start_halving=-1.0, stop=-1.0, max_epochs=12),
    )


@dataclass(kw_only=True, slots=True)
class EmbeddingConfig:
    """Shape of the network, and how it learns.

    Attributes:
        hidden_dim: H, units of each frame layer.
        dilations: for each frame layer d: it looks at the frames t - d, t and t + d.
        num_dims: E, numbers of an embedding.
        chunk_seconds: it learns from stretches of so much speech, one of each utterance in an epoch.
        num_chunks: stretches of a minibatch.
        training: the schedule; ``batch_size`` does not count here.
    """

    hidden_dim: int = 128
    dilations: list[int] = field(default_factory=lambda: [1, 2, 3])
    num_dims: int = 64
    chunk_seconds: Seconds = 2.0
    num_chunks: int = 32
    training: TrainingConfig = field(default_factory=_training)

    def __post_init__(self) -> None:
        require_at_least(1, self, "condition.embedding", "hidden_dim", "num_dims")
        if not self.dilations or min(self.dilations) < 0:
            raise ConfigError(f"condition.embedding.dilations must name 0 or more frames each, got {self.dilations}")
        if self.num_chunks < 2:
            raise ConfigError(
                f"condition.embedding.num_chunks must be at least 2, as units are normalised over them, got "
                f"{self.num_chunks}"
            )
        require_positive(self, "condition.embedding", "chunk_seconds")


class SpeakerNetwork(AcousticNetwork):
    """Frame layers with context, mean and deviation over time, an embedding, and a softmax over training speakers.

    Args:
        config: the shape.
        feat_dim: F.
        num_speakers: S.
        seed: of the initial weights.

    Example:
        >>> network = SpeakerNetwork(EmbeddingConfig(hidden_dim=8, num_dims=4), feat_dim=5, num_speakers=3).eval()
        >>> network.embed(torch.ones(2, 1, 5)).shape, network(torch.ones(2, 40, 5)).shape
        (torch.Size([2, 4]), torch.Size([2, 1, 3]))

    Source: Snyder et al. 2018, "X-vectors: robust DNN embeddings for speaker recognition", table 1, made small.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: EmbeddingConfig, feat_dim: int, num_speakers: int, *, seed: int = 0) -> None:
        super().__init__()
        self.feat_dim, self.num_outputs = feat_dim, num_speakers
        self.context = sum(config.dilations)
        dims = [feat_dim] + [config.hidden_dim] * (len(config.dilations) - 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(
                TdnnLayer(dim, config.hidden_dim, dilation, batch_norm=True, dropout=0.0)
                for dim, dilation in zip(dims, config.dilations, strict=True)
            )
            self.embedding = nn.Linear(2 * config.hidden_dim, config.num_dims)
            self.norm = nn.BatchNorm1d(config.num_dims)
            self.output = nn.Linear(config.num_dims, num_speakers)
        generator = torch.Generator().manual_seed(seed)
        for layer in self.layers:
            assert isinstance(layer, TdnnLayer)
            layer.draw(generator)
        self.register_buffer("mean", torch.zeros(feat_dim))
        self.register_buffer("scale", torch.ones(feat_dim))

    @property
    def adaptation_sites(self) -> tuple[str, ...]:
        """None: nobody adapts it."""
        return ()

    def embed(self, feats_BTF: Tensor) -> Tensor:
        """(B, E) of stretches of speech, (B, T, F) features without their level; T at least 1."""
        x_BFT = ((feats_BTF - self.mean) * self.scale).transpose(1, 2)
        h_BHT = nn.functional.pad(x_BFT, (self.context, self.context), mode="replicate")
        for layer in self.layers:
            h_BHT = layer(h_BHT)
        deviation_BH = (h_BHT.var(dim=2, correction=0) + _FLOOR).sqrt()
        embedding_BE: Tensor = self.embedding(torch.cat([h_BHT.mean(dim=2), deviation_BH], dim=1))
        return embedding_BE

    def forward(self, feats_BTF: Tensor, feat_lens: Tensor | None = None) -> Tensor:
        """(B, 1, S) log-probabilities of the speakers; all stretches are as long as each other."""
        return self.forward_windows(feats_BTF)[:, None]

    def forward_windows(self, windows_NWF: Tensor) -> Tensor:
        """(N, S) log-probabilities of the speakers."""
        return log_posteriors(self.output(torch.relu(self.norm(self.embed(windows_NWF)))))
