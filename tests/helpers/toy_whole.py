"""Networks that see whole utterances or give fewer outputs than frames, and speakers for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from helpers.attentive import Attentive
from lhuc_asr.adaptation.objectives.utterances import Piece, SpeakerUtterances
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.blstm import Blstm, BlstmConfig
from lhuc_asr.models.conformer import Conformer
from lhuc_asr.models.conformer_config import ConformerConfig
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig
from lhuc_asr.models.tdnnf import TdnnF, TdnnFConfig

DIM, NUM_STATES = 8, 6
"""With two bands only, oneDNN's convolutions in half precision give wrong numbers (torch 2.11)."""


def tdnn(subsampling: int = 1) -> Tdnn:
    config = TdnnConfig(hidden_dim=7, dilations=[1, 0, 3], subsampling=subsampling, dropout=0.5)
    return Tdnn(config, DIM, NUM_STATES, seed=2)


def tdnnf() -> TdnnF:
    config = TdnnFConfig(hidden_dim=8, bottleneck_dim=4, dilations=[1, 1, 0, 3], subsampling=3)
    return TdnnF(config, DIM, NUM_STATES, seed=2)


def blstm(projection_dim: int = 0) -> Blstm:
    config = BlstmConfig(num_layers=2, hidden_dim=5, projection_dim=projection_dim, dropout=0.5)
    return Blstm(config, DIM, NUM_STATES, seed=2)


def conformer(subsampling: int) -> Conformer:
    shape = {"num_layers": 1, "stream_dim": 8, "hidden_dim": 7, "num_heads": 2, "kernel_size": 3, "num_channels": 2}
    return Conformer(ConformerConfig(**shape, subsampling=subsampling), DIM, NUM_STATES, seed=2)  # type: ignore[arg-type]


KINDS: dict[str, Callable[[], AcousticNetwork]] = {
    "tdnn": tdnn,
    "tdnn_by_3": lambda: tdnn(3),
    "tdnnf_by_3": tdnnf,
    "blstm": blstm,
    "projected": lambda: blstm(3),
    "conformer": lambda: conformer(1),
    "conformer_by_3": lambda: conformer(3),
    "attentive": lambda: Attentive(DIM, NUM_STATES),
}


def network_of(kind: str) -> AcousticNetwork:
    network = KINDS[kind]().requires_grad_(False)
    torch.manual_seed(5)
    network.train()(torch.randn(2, 40, DIM))  # running statistics of their own
    return network.eval()


def sites_of(network: AcousticNetwork, layers: Sequence[int] = ()) -> tuple[Site, ...]:
    names = [network.adaptation_sites[layer - 1] for layer in layers] or list(network.adaptation_sites[:3])
    return find_sites(network, names, example=Example((torch.randn(2, 24, DIM), torch.tensor([24, 17]))))


def speaker_of(network: AcousticNetwork, lengths: Sequence[int], seed: int = 0) -> SpeakerUtterances:
    generator = torch.Generator().manual_seed(seed)

    def utterance(length: int) -> Piece:
        num_outputs = -(-length // network.subsampling)
        targets = torch.randint(NUM_STATES, (num_outputs,), generator=generator)
        return Piece(torch.randn(length, DIM, generator=generator), targets)

    return SpeakerUtterances(tuple(map(utterance, lengths)))


def assert_same(adapter: LhucAdapter, other: LhucAdapter) -> None:
    for name, r in adapter.r.items():
        torch.testing.assert_close(r, other.r[name], atol=1e-5, rtol=1e-5)
