"""Networks that see windows of frames, and speakers for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.models.network import AcousticNetwork

NUM_STATES = 6


class Undivided(Dnn):
    """A DNN that offers no split."""

    split_points = ()


class NotPlain(Dnn):
    """A DNN that can be divided, but is no plain stack."""

    def plain_layers_above(self, module: str) -> None:
        return None


def network_of(kind: type[Dnn] = Dnn, **shape: object) -> Dnn:
    config = DnnConfig(**{"num_layers": 3, "hidden_dim": 7, "context": 1, **shape})  # type: ignore[arg-type]
    network = kind(config, feat_dim=4, num_outputs=NUM_STATES, seed=2).requires_grad_(False)
    torch.manual_seed(5)
    network.train()(torch.randn(1, 40, 4))  # running statistics of their own
    return network.eval()


def speaker_of(seed: int, num_frames: int) -> SpeakerFrames:
    rng = np.random.default_rng(seed)
    lengths = [num_frames // 2, num_frames - num_frames // 2]
    frames = SplicedFrames([rng.normal(size=(length, 4)).astype(np.float32) for length in lengths], context=1)
    return SpeakerFrames(frames, torch.from_numpy(rng.integers(NUM_STATES, size=num_frames)))


def adapters_of(
    network: AcousticNetwork, count: int, *, layers: Sequence[int | str] = (), kind: Amplitude = Amplitude.exp
) -> list[LhucAdapter]:
    sites = choose_sites(network, network.adaptation_sites, layers)
    return [LhucAdapter.identity(network, sites, kind) for _ in range(count)]


def assert_same(adapter: LhucAdapter, other: LhucAdapter, *, rtol: float = 0) -> None:
    for name, r in adapter.r.items():
        torch.testing.assert_close(r, other.r[name], atol=1e-5, rtol=rtol)
