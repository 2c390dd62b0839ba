"""The layers of a network that carry scales, each proved to act."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.lhuc.probe import prove_sites_act
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.network import AcousticNetwork

_WINDOW_FRAMES = 16
_UTTERANCES = (24, 17)


def proved_sites(
    network: AcousticNetwork, layers: Sequence[int | str], *, whole: bool | None = None
) -> tuple[Site, ...]:
    """The sites that a configuration asks for.

    Where a network takes whole utterances, it is watched at work on two of them, so that utterances of several
    speakers can be told apart in what its layers give.

    Args:
        network: it is left as it is.
        layers: numbers of its natural sites from 1, or patterns of layer names; none means all natural sites.
        whole: whether it takes whole utterances; None asks the network.

    Raises:
        SiteError: a layer does not exist, cannot carry scales, or does not act.
    """
    whole = not network.learns_from_frames if whole is None else whole
    if not whole:
        sites = choose_sites(network, network.adaptation_sites, layers)
        prove_sites_act(network, sites, _noise(network, 1, _WINDOW_FRAMES))
        return sites
    example = two_utterances(network)
    sites = choose_sites(network, network.adaptation_sites, layers, example=example)
    prove_sites_act(network, sites, example)
    return sites


def two_utterances(network: AcousticNetwork) -> Example:
    """Noise of two lengths, as the network takes it."""
    return Example((_noise(network, len(_UTTERANCES), max(_UTTERANCES)), torch.tensor(_UTTERANCES)))


def _noise(network: AcousticNetwork, num_utterances: int, num_frames: int) -> Tensor:
    """(B, T, F) on the network's device."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num_utterances, num_frames, network.feat_dim, generator=generator).to(device)
