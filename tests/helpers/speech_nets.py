"""One small net for every kind of site that speech people scale, built the way they build them.

All widths are 4, so that a batch of 4 utterances of 4 frames leaves nothing to be told from sizes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.lhuc.example import Example
from lhuc_asr.models.dnn import Activation, Dnn, DnnConfig

Inputs = Callable[[int, int], tuple[Any, ...]]


def feats(num_utterances: int, num_frames: int) -> tuple[Tensor]:
    return (torch.randn(num_utterances, num_frames, 4),)


def feats_time_first(num_utterances: int, num_frames: int) -> tuple[Tensor]:
    return (torch.randn(num_frames, num_utterances, 4),)


def channels(num_utterances: int, num_frames: int) -> tuple[Tensor]:
    return (torch.randn(num_utterances, 4, num_frames),)


def planes(num_utterances: int, num_frames: int) -> tuple[Tensor]:
    return (torch.randn(num_utterances, 1, 4, num_frames),)


def feats_and_lens(num_utterances: int, num_frames: int) -> tuple[Tensor, Tensor]:
    lens = torch.tensor([num_frames - (3 * place + 2) % 4 for place in range(num_utterances)]).clamp(min=1)
    lens[num_utterances // 2] = num_frames
    return torch.randn(num_utterances, num_frames, 4), lens


def feats_and_padding(num_utterances: int, num_frames: int) -> tuple[Tensor, Tensor]:
    x, lens = feats_and_lens(num_utterances, num_frames)
    return x, torch.arange(num_frames)[None] >= lens[:, None]


def tokens(num_utterances: int, num_frames: int) -> tuple[Tensor]:
    return (torch.randint(0, 9, (num_utterances, num_frames)),)


@dataclass(frozen=True)
class Case:
    """A kind of site.

    Attributes:
        make: the net.
        site: patterns.
        inputs: of so many utterances and frames.
        layouts: letters of the sites, in order; one stands for all.
        units: of every site.
        utterance_dim: of the first input and of the output.
        exact: whether hooks leave the net's arithmetic as it is (a fused fast path does not).
        learns: whether the net has a gradient (nested tensors have none outside of the fast path).
    """

    make: Callable[[], nn.Module]
    site: Any
    inputs: Inputs
    layouts: str
    units: tuple[int, ...] = (4,)
    utterance_dim: int = 0
    exact: bool = True
    learns: bool = True

    @property
    def per_band(self) -> bool:
        return len(self.units) == 2

    def net(self, seed: int = 3) -> nn.Module:
        torch.manual_seed(seed)
        net = self.make().eval().requires_grad_(False)
        for module in net.modules():  # statistics as after some training
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        return net

    def example(self, num_utterances: int = 3, num_frames: int = 6, seed: int = 5) -> Example:
        torch.manual_seed(seed)
        return Example(self.inputs(num_utterances, num_frames), utterance_dim=self.utterance_dim)

    def first(self, output: Any) -> Tensor:
        while not isinstance(output, Tensor):
            output = output[0]
        return output

    def run(self, net: nn.Module, example: Example) -> Tensor:
        return self.first(example.run(net))


class Transposed(nn.Module):
    """Linear layers at work on (B, H, T): the activation sees what the convolution before it never gave."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.activation, self.last = nn.Conv1d(4, 4, 3, padding=1), nn.SiLU(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.activation(self.conv(x).transpose(1, 2)))


class OddOrder(nn.Module):
    """The activation is listed before the layers, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.activation, self.conv = nn.LayerNorm(4), nn.Tanh(), nn.Conv1d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.conv(self.norm(x).transpose(1, 2)))


class FunctionalBlock(nn.Module):
    """A convolution with its activation, as one module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)) + 0.3)


class ResidualBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.wide, self.activation, self.narrow = (
            nn.LayerNorm(4),
            nn.Linear(4, 9),
            nn.ReLU(),
            nn.Linear(9, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(self.activation(self.wide(self.norm(x))))


class ConvolutionModule(nn.Module):
    """The convolution of a Conformer, (B, T, H) in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.pointwise, self.glu = nn.Conv1d(4, 8, 1), nn.GLU(dim=1)
        self.depthwise, self.batch_norm = nn.Conv1d(4, 4, 3, padding=1, groups=4), nn.BatchNorm1d(4)
        self.activation, self.last = nn.SiLU(), nn.Conv1d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.depthwise(self.glu(self.pointwise(self.norm(x).transpose(1, 2))))
        return x + self.last(self.activation(self.batch_norm(h))).transpose(1, 2)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.rnn = kind(4, 2 if options.get("bidirectional") else 4, **options)
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rnn(x)[0])


class Packed(nn.Module):
    """Unsorted utterances, packed for a GRU and a layer of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 4, batch_first=True)
        self.lstm = nn.LSTM(4, 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lens: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lens, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(self.gru(packed)[0])[0], batch_first=True)[0]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class Transformer(nn.Module):
    """Two layers in the fused fast path, which in evaluation works on nested tensors where a mask is given."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.1, **{"batch_first": True, **options})
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        return self.encoder(x, src_key_padding_mask=padding)


class Conformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = import_torchaudio("models").Conformer(4, 2, 4, 2, 3)

    def forward(self, x: Tensor, lens: Tensor) -> Tensor:
        return self.encoder(x, lens)[0]


def dnn(**options: Any) -> Dnn:
    return Dnn(DnnConfig(num_layers=3, hidden_dim=4, context=1, **options), feat_dim=4, num_outputs=5)


def sequential(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def pictures(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), *layers, nn.Conv2d(4, 2, 1))


CASES = {
    "linear": Case(lambda: sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 3)), "1", feats, "BTH"),
    "linear, time first": Case(
        lambda: sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), "1", feats_time_first, "TBH", utterance_dim=1
    ),
    "linear itself, inplace activation": Case(
        lambda: sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)), ["0", "1"], feats, "BTH"
    ),
    "our net": Case(dnn, "layers.*.activation", feats_and_lens, "NH"),
    "our net, relu, batch norm, dropout": Case(
        lambda: dnn(activation=Activation.relu, batch_norm=True, dropout=0.2),
        ["layers.*.activation", "layers.*.norm"],
        feats_and_lens,
        "NH",
    ),
    "conv1d": Case(
        lambda: sequential(nn.Conv1d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 3, 1)), "1", channels, "BHT"
    ),
    "conv1d, after pooling": Case(
        lambda: sequential(nn.Conv1d(4, 4, 3, padding=2), nn.Tanh(), nn.MaxPool1d(2), nn.Conv1d(4, 3, 1)),
        "2",
        channels,
        "BHT",
    ),
    "conv1d, transposed afterwards": Case(Transposed, "activation", channels, "BTH"),
    "conv1d, odd order": Case(OddOrder, "activation", feats, "BHT"),
    "conv2d, per channel": Case(pictures, "1", planes, "BHTT"),
    "conv2d, per channel and band": Case(pictures, "1", planes, "BHHT", units=(4, 4)),
    "conv2d, per channel and band after pooling": Case(
        lambda: pictures(nn.MaxPool2d((2, 1))), "2", planes, "BHHT", units=(4, 2)
    ),
    "conv2d, batch norm": Case(lambda: pictures(nn.BatchNorm2d(4)), nn.BatchNorm2d, planes, "BHTT"),
    "depthwise and glu": Case(ConvolutionModule, ["glu", "depthwise", "batch_norm", "activation"], feats, "BHT"),
    "glu on the last": Case(lambda: sequential(nn.Linear(4, 8), nn.GLU(), nn.Linear(4, 3)), nn.GLU, feats, "BTH"),
    "lstm, both ways, batch first": Case(
        lambda: Recurrent(nn.LSTM, batch_first=True, bidirectional=True), nn.LSTM, feats, "BTH"
    ),
    "lstm, time first": Case(lambda: Recurrent(nn.LSTM), "rnn", feats_time_first, "TBH", utterance_dim=1),
    "gru, two layers": Case(lambda: Recurrent(nn.GRU, num_layers=2, batch_first=True), "rnn", feats, "BTH"),
    "packed": Case(Packed, ["gru", "lstm"], feats_and_lens, "NH"),
    "layer norm": Case(lambda: sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3)), "1", feats, "BTH"),
    "group norm": Case(
        lambda: sequential(nn.Conv1d(4, 4, 1), nn.GroupNorm(2, 4), nn.Conv1d(4, 3, 1)), "1", channels, "BHT"
    ),
    "residual block": Case(lambda: sequential(ResidualBlock(), nn.Linear(4, 3)), "0", feats, "BTH"),
    "module that contains the activation": Case(
        lambda: sequential(FunctionalBlock(), nn.Conv1d(4, 3, 1)), "0", channels, "BHT"
    ),
    "attention as a whole": Case(Attention, "attention", feats, "BTH"),
    "tokens": Case(
        lambda: sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), ["0", "2"], tokens, "BTH"
    ),
    "transformer, fast path": Case(Transformer, "encoder.layers.*.linear1", feats, "BTH", exact=False),
    "transformer, nested": Case(
        Transformer, "encoder.layers.*.linear1", feats_and_padding, "BTH", exact=False, learns=False
    ),
    "transformer, whole layers, time first": Case(
        lambda: Transformer(batch_first=False, norm_first=True),
        "encoder.layers.?",
        feats_time_first,
        "TBH",
        utterance_dim=1,
    ),
    "transformer, activation as a module": Case(
        lambda: Transformer(activation=nn.SiLU(), norm_first=True), "encoder.layers.*.activation", feats, "BTH"
    ),
    "conformer, feed forward": Case(Conformer, "encoder.*.ffn?.sequential.2", feats_and_lens, "TBH"),
    "conformer, convolution": Case(
        Conformer, ["encoder.*.conv_module.sequential.1", "encoder.*.conv_module.sequential.4"], feats_and_lens, "BHT"
    ),
}
"""Name -> case. The transformers' ``activation`` is a child that is listed last and runs in the middle."""
