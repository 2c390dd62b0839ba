"""Long short-term memory over whole utterances, in both directions or forward in time only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.models.network import NetworkConfig, NetworkKind, log_posteriors
from lhuc_asr.models.splicing import lens_or_all
from lhuc_asr.models.streaming import NetworkStream
from lhuc_asr.models.whole_utterances import WholeUtteranceNetwork
from lhuc_asr.ranges import require_at_least, require_share_below_one


@dataclass(kw_only=True, slots=True)
class BlstmConfig(NetworkConfig):
    """Shape of the network.

    Attributes:
        num_layers: layers.
        hidden_dim: cells of each layer in each direction.
        projection_dim: what the cells' outputs are projected to in each direction; 0 leaves them as they are.
        bidirectional: read utterances backward as well; if not, the network can follow a stream.
        subsampling: an output for every so-manieth frame only; the lowest layer gets it with those just before it.
        dropout: share of the units' outputs that training sets to 0.
    """

    kind: NetworkKind = NetworkKind.blstm
    num_layers: int = 3
    hidden_dim: int = 320
    projection_dim: int = 0
    bidirectional: bool = True
    subsampling: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        require_at_least(1, self, "model", "num_layers", "hidden_dim")
        if not 0 <= self.projection_dim < self.hidden_dim:
            raise ConfigError(
                f"model.projection_dim must be 0 or more and less than model.hidden_dim={self.hidden_dim}, "
                f"got {self.projection_dim}"
            )
        require_at_least(1, self, "model", "subsampling")
        require_share_below_one(self, "model", "dropout")

    @property
    def num_units(self) -> int:
        """H, outputs of a layer, all directions together."""
        return (self.projection_dim or self.hidden_dim) * (2 if self.bidirectional else 1)


class Blstm(WholeUtteranceNetwork):
    """Recurrent layers with a softmax over tied states; the hidden units are the outputs of each layer.

    Every output depends on the whole utterance (on all that came before, where it reads forward only): there are no
    windows.

    Example:
        >>> network = Blstm(BlstmConfig(num_layers=2, hidden_dim=8, subsampling=3), feat_dim=40, num_outputs=5)
        >>> network(torch.zeros(2, 20, 40), torch.tensor([20, 7])).shape
        torch.Size([2, 7, 5])
        >>> network.adaptation_sites
        ('layers.0', 'layers.1')

    Source: Graves, Jaitly & Mohamed 2013 ("Hybrid speech recognition with deep bidirectional LSTM"), section 2; the
    projection is that of Sak, Senior & Beaufays 2014 (arXiv:1402.1128); frames are stacked and left out as by Sak,
    Senior, Rao & Beaufays 2015 (arXiv:1507.06947).
    """

    config: BlstmConfig

    def __init__(self, config: BlstmConfig, feat_dim: int, num_outputs: int, *, seed: int = 0) -> None:
        """Draw the initial weights; the same seed gives the same network.

        Args:
            config: depth, width and directions of the layers.
            feat_dim: F, features of one frame.
            num_outputs: V, tied states.
            seed: of the initial weights.
        """
        super().__init__()
        self.config = config
        self.feat_dim = feat_dim
        self.num_outputs = num_outputs
        self.subsampling = config.subsampling
        dims = [feat_dim * config.subsampling] + [config.num_units] * (config.num_layers - 1)
        with torch.random.fork_rng(devices=[]):
            self.layers = nn.ModuleList(_lstm(num_inputs, config) for num_inputs in dims)
            self.dropout = nn.Dropout(config.dropout)
            self.output = nn.Linear(config.num_units, num_outputs)
        self._draw_weights(torch.Generator().manual_seed(seed))

    @property
    def adaptation_sites(self) -> tuple[str, ...]:
        """Names of the modules whose outputs are hidden units, bottom to top."""
        return tuple(f"layers.{index}" for index in range(len(self.layers)))

    def forward(self, feats_BTF: Tensor, feat_lens: Tensor | None = None) -> Tensor:
        """Log-probabilities of whole utterances.

        Args:
            feats_BTF: (B, T, F) normalised features.
            feat_lens: (B,) frames of each utterance; what lies beyond is padding and has no effect on them.

        Returns:
            (B, T', V) natural logarithms of the states' posterior probabilities, T' = T / subsampling, rounded up.
        """
        num_utterances, num_frames, _ = feats_BTF.shape
        if num_frames == 0:
            return feats_BTF.new_zeros(num_utterances, 0, self.num_outputs)
        x_BTD = stacked(torch.cat([self.before(feats_BTF), feats_BTF], dim=1), self.subsampling)
        lens_B = self.output_lens(lens_or_all(feat_lens, feats_BTF)).clamp(min=1).cpu()
        packed = pack_padded_sequence(x_BTD, lens_B, batch_first=True, enforce_sorted=False)
        for layer in self.lstms:
            units: PackedSequence = layer(packed)[0]
            packed = units._replace(data=self.dropout(units.data))
        h_BTH, _ = pad_packed_sequence(packed, batch_first=True, total_length=x_BTD.shape[1])
        return self.log_probs_of(h_BTH)

    @property
    def can_stream(self) -> bool:
        """Unless it reads backward too."""
        return not self.config.bidirectional

    def stream(self) -> LstmStream:
        """Begin to recognise speech as it comes.

        Raises:
            ModelError: the network reads backward too, or is in training mode.
        """
        return LstmStream(self)

    def before(self, feats_BTF: Tensor) -> Tensor:
        """(B, S, F) the frames that are thought to come before the first one: it stood still."""
        return feats_BTF[:, :1].expand(-1, self.subsampling - 1, -1)

    @property
    def lstms(self) -> list[nn.LSTM]:
        """The layers, bottom to top."""
        return cast("list[nn.LSTM]", list(self.layers))

    def log_probs_of(self, h_BTH: Tensor) -> Tensor:
        """(B, T, H) units of the highest layer -> (B, T, V)."""
        return log_posteriors(self.output(h_BTH))

    def _draw_weights(self, generator: torch.Generator) -> None:
        for layer in self.lstms:
            _draw_lstm(layer, generator)
        nn.init.xavier_uniform_(self.output.weight, generator=generator)
        nn.init.zeros_(self.output.bias)


class LstmStream(NetworkStream[Blstm]):
    """Utterances as they come, some frames at a time; the layers' memory is carried from call to call.

    Every output comes with its own frame; nothing is wanting at the end.

    Args:
        network: reads forward only, in evaluation mode.

    Raises:
        ModelError: the network reads backward too, or is in training mode.

    Example:
        >>> config = BlstmConfig(num_layers=1, hidden_dim=8, bidirectional=False)
        >>> stream = Blstm(config, feat_dim=4, num_outputs=3).eval().stream()
        >>> [tuple(stream.accept(torch.zeros(1, num_frames, 4)).shape) for num_frames in (5, 2)]
        [(1, 5, 3), (1, 2, 3)]
    """

    def __init__(self, network: Blstm) -> None:
        if network.config.bidirectional:
            raise ModelError("a network that reads utterances backward cannot follow a stream: it needs their end")
        super().__init__(network)
        self._memory: list[tuple[Tensor, Tensor] | None] = [None] * len(network.layers)
        self._kept: Tensor | None = None
        self._num_frames = 0

    def _accept(self, feats_BTF: Tensor) -> Tensor:
        h_BTH = self._next_inputs(feats_BTF)
        if h_BTH.shape[1] == 0:
            return self._nothing(feats_BTF)
        for index, layer in enumerate(self.network.lstms):
            h_BTH, self._memory[index] = layer(h_BTH, self._memory[index])
        return self.network.log_probs_of(h_BTH)

    def _finish(self) -> Tensor:
        assert self._kept is not None
        return self._nothing(self._kept)

    def _next_inputs(self, feats_BTF: Tensor) -> Tensor:
        """(B, T', S * F) for the lowest layer; the last frames are kept for the next time."""
        every = self.network.subsampling
        kept = self.network.before(feats_BTF) if self._kept is None else self._kept
        frames_BTF = torch.cat([kept, feats_BTF], dim=1)
        first = -self._num_frames % every
        self._num_frames += feats_BTF.shape[1]
        self._kept = frames_BTF[:, frames_BTF.shape[1] - (every - 1) :]
        return stacked(frames_BTF[:, first:], every)


def stacked(frames_BTF: Tensor, every: int) -> Tensor:
    """So many frames side by side, and so many on again.

    Args:
        frames_BTF: (B, T, F), of which the first ``every - 1`` come before the first one that is wanted.
        every: S.

    Returns:
        (B, T', S * F), earliest frame first; T' counts the wanted frames.
    """
    num_utterances, num_frames, num_feats = frames_BTF.shape
    if num_frames < every:
        return frames_BTF.new_zeros(num_utterances, 0, every * num_feats)
    return frames_BTF.unfold(1, every, every).transpose(2, 3).flatten(2)


def _lstm(num_inputs: int, config: BlstmConfig) -> nn.LSTM:
    return nn.LSTM(
        num_inputs,
        config.hidden_dim,
        batch_first=True,
        bidirectional=config.bidirectional,
        proj_size=config.projection_dim,
    )


def _draw_lstm(layer: nn.LSTM, generator: torch.Generator) -> None:
    """Draw a layer whose matrices from step to step are orthogonal and whose forget gates are open.

    Source: Glorot & Bengio 2010, eq. 16, for inputs and projection; Saxe et al. 2014 (arXiv:1312.6120) for the
    orthogonal matrices; Jozefowicz, Zaremba & Sutskever 2015 ("An empirical exploration of recurrent network
    architectures"), section 2.2, for the forget gates' bias of 1.
    """
    for name, parameter in layer.named_parameters():
        if name.startswith("weight_hh"):
            for gate_HP in parameter.data.chunk(4):
                nn.init.orthogonal_(gate_HP, generator=generator)
        elif name.startswith("weight_ih"):
            for gate_HD in parameter.data.chunk(4):
                nn.init.xavier_uniform_(gate_HD, generator=generator)
        elif name.startswith("weight_hr"):
            nn.init.xavier_uniform_(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)
        if name.startswith("bias_ih"):
            parameter.data.chunk(4)[1].fill_(1.0)
