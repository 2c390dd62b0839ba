"""The nets that are measured, with their sites, the linears that follow them, and made-up speech."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.units import Seconds, frames_to_seconds

_CONTEXT = 10
_CONFORMER_KERNEL = 31


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A net, and how much work it is given.

    Attributes:
        is_conformer: a Conformer, else a DNN.
        num_layers: blocks, or hidden layers.
        width: of a block, or hidden units of a layer.
        feed_forward: units of the Conformer's feed-forward modules.
        feat_dim: F.
        num_outputs: V.
        num_frames: frames of each utterance of the forward passes.
        num_utterances: of the batch of the forward passes.
        num_speakers: who is adapted to.
        speaker_frames: how much each of them says, in frames.
        batch_size: frames of a minibatch; a Conformer takes whole utterances.
        utterance_frames: of the utterances that a Conformer is adapted on; a DNN takes single frames.
    """

    is_conformer: bool = False
    num_layers: int
    width: int
    feed_forward: int = 0
    feat_dim: int = 40
    num_outputs: int = 1000
    num_frames: int
    num_utterances: int = 64
    num_speakers: int
    speaker_frames: int
    batch_size: int = 256
    utterance_frames: int = 32

    def quick(self) -> Shape:
        """So small that its figures mean nothing: for tests."""
        return replace(
            self,
            num_layers=2,
            width=8,
            feed_forward=16 if self.is_conformer else 0,
            feat_dim=4,
            num_outputs=11,
            num_frames=6,
            num_utterances=8,
            num_speakers=3,
            speaker_frames=24,
            batch_size=12,
            utterance_frames=6,
        )


SHAPES = {
    "dnn_4x512": Shape(num_layers=4, width=512, num_frames=10, num_speakers=16, speaker_frames=1024),
    "dnn_6x2048": Shape(num_layers=6, width=2048, num_frames=10, num_speakers=2, speaker_frames=1024),
    "conformer": Shape(
        is_conformer=True,
        num_layers=4,
        width=256,
        feed_forward=1024,
        feat_dim=80,
        num_frames=10,
        num_speakers=8,
        speaker_frames=256,
        batch_size=128,
    ),
}


@dataclass(frozen=True, eq=False)
class Speech:
    """What one speaker said, made up: items that minibatches are drawn from.

    Attributes:
        name: the speaker.
        seconds: how much it is.
        inputs: (N,) numbers of items -> input of the net for them.
        targets: (items,) or (items, T) tied states.
        frames: of a DNN, the frames that the windows are cut from.
    """

    name: str
    seconds: Seconds
    inputs: Callable[[Tensor], Tensor]
    targets: Tensor
    frames: SplicedFrames | None = None

    @property
    def of_frames(self) -> SpeakerFrames:
        """As a DNN's update takes it."""
        assert self.frames is not None
        return SpeakerFrames(self.frames, self.targets)


@dataclass(frozen=True, eq=False)
class BenchNet:
    """A frozen net, ready to be measured.

    Attributes:
        name: key of `SHAPES`.
        shape: its size and its work.
        net: feats (B, T, F) -> log-probabilities (B, T, V).
        over_items: inputs of `Speech` -> log-probabilities; contains or is ``net``.
        sites: after every hidden layer, utterances told apart.
        following: for every site the linear that it feeds, by its name in ``over_items``.
        device: where it is.
    """

    name: str
    shape: Shape
    net: nn.Module
    over_items: nn.Module
    sites: tuple[Site, ...]
    following: tuple[str, ...]
    device: torch.device

    def feats(self) -> Tensor:
        """(B, T, F) random features of the batch of the forward passes."""
        shape = self.shape
        size = (shape.num_utterances, shape.num_frames, shape.feat_dim)
        return torch.randn(*size, generator=torch.Generator().manual_seed(0)).to(self.device)

    @property
    def takes_precision(self) -> bool:
        """Whether our update of this net can be told the number format of its products."""
        return isinstance(self.net, AcousticNetwork)

    @property
    def items_per_batch(self) -> int:
        """Items of a minibatch: frames, or utterances."""
        size = self.shape.batch_size
        return max(1, size // self.shape.utterance_frames) if self.shape.is_conformer else size

    def speech(self) -> list[Speech]:
        """One for every speaker who is adapted to; the same at every call."""
        make = self._utterances if self.shape.is_conformer else self._windows
        return [make(f"speaker {number}", number) for number in range(self.shape.num_speakers)]

    def _windows(self, name: str, seed: int) -> Speech:
        generator, num_frames = torch.Generator().manual_seed(seed), self.shape.speaker_frames
        feats = torch.randn(num_frames, self.shape.feat_dim, generator=generator)
        frames = SplicedFrames([feats.numpy()], _CONTEXT)
        targets = torch.randint(self.shape.num_outputs, (num_frames,), generator=generator)
        return Speech(
            name, frames_to_seconds(num_frames), lambda items: frames.windows(items).to(self.device), targets, frames
        )

    def _utterances(self, name: str, seed: int) -> Speech:
        generator, shape = torch.Generator().manual_seed(seed), self.shape
        size = (max(1, shape.speaker_frames // shape.utterance_frames), shape.utterance_frames)
        feats = torch.randn(*size, shape.feat_dim, generator=generator).to(self.device)
        targets = torch.randint(shape.num_outputs, size, generator=generator)
        return Speech(name, frames_to_seconds(targets.numel()), lambda items: feats[items.to(self.device)], targets)


def build_net(name: str, device: torch.device, *, num_frames: int = 0, quick: bool = False) -> BenchNet:
    """Make a net of `SHAPES` with random weights, the same at every call.

    Args:
        name: key of `SHAPES`.
        device: where it shall be.
        num_frames: of each utterance of the forward passes; 0 leaves what the shape says.
        quick: tiny, for tests.

    Raises:
        ConfigError: there is no net of that name.
        DependencyError: a Conformer, and torchaudio cannot be loaded.
    """
    if name not in SHAPES:
        raise ConfigError(f"there is no net {name!r} to measure; there are: {', '.join(SHAPES)}")
    shape = SHAPES[name].quick() if quick else SHAPES[name]
    shape = replace(shape, num_frames=num_frames or shape.num_frames)
    if device.type == "cuda":
        shape = replace(shape, num_speakers=64)
    return _conformer(name, shape, device) if shape.is_conformer else _dnn(name, shape, device)


class Windows(nn.Module):
    """A DNN that is called with windows."""

    def __init__(self, network: Dnn) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows_NWF: Tensor) -> Tensor:
        """(N, W, F) -> (N, V) log-probabilities."""
        return self.network.forward_windows(windows_NWF)


class ConformerNet(nn.Module):
    """torchaudio's Conformer between a linear input layer and a softmax over tied states."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        conformer = import_torchaudio("models").Conformer
        self.input = nn.Linear(shape.feat_dim, shape.width)
        self.encoder = conformer(shape.width, 4, shape.feed_forward, shape.num_layers, _CONFORMER_KERNEL)
        self.output = nn.Linear(shape.width, shape.num_outputs)

    def forward(self, feats_BTF: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, V) log-probabilities."""
        lens_B = torch.full(feats_BTF.shape[:1], feats_BTF.shape[1], device=feats_BTF.device)
        encoded_BTH, _ = self.encoder(self.input(feats_BTF), lens_B)
        return torch.log_softmax(self.output(encoded_BTH), dim=-1)


def _dnn(name: str, shape: Shape, device: torch.device) -> BenchNet:
    config = DnnConfig(num_layers=shape.num_layers, hidden_dim=shape.width, context=_CONTEXT)
    net = Dnn(config, shape.feat_dim, shape.num_outputs).eval().requires_grad_(False).to(device)
    sites = find_sites(net, list(net.adaptation_sites), example=torch.randn(2, 3, shape.feat_dim, device=device))
    following = [f"network.layers.{number}.linear" for number in range(1, shape.num_layers)]
    return BenchNet(name, shape, net, Windows(net), sites, (*following, "network.output"), device)


def _conformer(name: str, shape: Shape, device: torch.device) -> BenchNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ConformerNet(shape).eval().requires_grad_(False).to(device)
    feed_forward = [
        f"encoder.conformer_layers.{number}.{part}.sequential" for number in range(shape.num_layers) for part in _PARTS
    ]
    example = torch.randn(2, 3, shape.feat_dim, device=device)
    sites = find_sites(net, [f"{module}.2" for module in feed_forward], example=example)
    return BenchNet(name, shape, net, net, sites, tuple(f"{module}.4" for module in feed_forward), device)


_PARTS = ("ffn1", "ffn2")
